"""A daemon that is exchanged for a new process, again and again, under connections."""

import json
import os
import signal
from functools import partial

import pytest
import trio

from tests.e2e.site import Site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

CONNECTIONS = 100
UPGRADES = 3


async def pid(site: Site) -> int:
    return await trio.to_thread.run_sync(lambda: site.daemon.pid)


async def ended(number: int) -> bool:
    try:
        stat = await trio.Path(f"/proc/{number}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.split()[2] == "Z"


@pytest.mark.parametrize("processes", [1, 2])
async def test_no_connection_is_refused_or_broken(site: Site, processes: int) -> None:
    pids = [await pid(site)]
    async with trio.open_nursery() as nursery:
        for number in range(CONNECTIONS):
            await nursery.start(site.talk, number)
        for _ in range(4):
            nursery.start_soon(site.come_and_go)
        for _ in range(UPGRADES):
            before = site.newcomers
            _, out, _ = await site.ctl("upgrade", "-o", "json")
            *steps, end = map(json.loads, out.splitlines())
            assert [each["step"] for each in steps] == ["started", "listening", "agents", "serving"]
            assert end["old_pid"] == pids[-1]
            pids.append(await pid(site))
            assert end["pid"] == pids[-1]
            await site.until(partial(more_have_come, site, before))
        site.stop.set()
    assert site.failures == []
    assert site.right == CONNECTIONS
    for number in pids[:-1]:
        await site.until(partial(ended, number))
    assert await site.has_tunnels(processes)
    assert site.daemon.control.is_socket()


async def more_have_come(site: Site, before: int) -> bool:
    return site.newcomers > before + 20


async def test_old_connections_end_at_the_deadline(site: Site) -> None:
    peer = await site.open()
    old = await pid(site)
    await site.ctl("upgrade", "--deadline", "0.5")
    await site.until(partial(ended, old))
    with trio.fail_after(10), pytest.raises((trio.BrokenResourceError, ConnectionError, OSError)):
        await peer.receive_some()
    new = await site.open()
    await trio.aclose_forcefully(new.stream)
    await trio.aclose_forcefully(peer.stream)


async def test_a_new_process_that_is_not_well_changes_nothing(site: Site) -> None:
    old = await pid(site)
    peer = await site.open()
    site.write(dial_timeout='"soon"')
    code, _, err = await site.ctl("upgrade", check=False)
    assert code == 1
    assert "the new process does not start: bad configuration" in err
    assert "dial-timeout" in err
    site.write(dial_timeout=10.0)
    (site.directory / "tunneld").write_text("#!/bin/sh\nexit 3\n")
    (site.directory / "tunneld").chmod(0o755)
    code, _, err = await site.ctl(
        "upgrade", "--program", str(site.directory / "tunneld"), check=False
    )
    assert code == 1
    assert "the new process has ended without a word" in err
    assert await pid(site) == old
    await peer.send_all(b"still here")
    assert await peer.receive_some() == b"still here"
    newcomer = await site.open()
    await trio.aclose_forcefully(newcomer.stream)
    await trio.aclose_forcefully(peer.stream)
    assert site.daemon.control.is_socket()


async def test_a_stopped_successor_leaves_nothing(site: Site) -> None:
    old = await pid(site)
    await site.ctl("upgrade")
    await site.until(partial(ended, old))
    new = await pid(site)
    os.kill(new, signal.SIGTERM)
    await site.until(partial(ended, new))
    assert not site.daemon.control.exists()
    assert not list(site.daemon.control.parent.iterdir())


async def test_a_successor_goes_on_without_a_daemon_that_has_died(site: Site) -> None:
    """Its agent has lost the tunnel to the one that died, and is looking for a server."""
    old = await pid(site)
    asked = await trio.to_thread.run_sync(
        partial(site.daemon.popen, site.daemon.ctl_argv("upgrade"))
    )
    await site.until(partial(has_successor, site))
    os.kill(old, signal.SIGKILL)
    with asked:
        await trio.to_thread.run_sync(asked.communicate)
    await site.until(partial(answers, site))
    assert await pid(site) != old


async def has_successor(site: Site) -> bool:
    return site.log().count("daemon started") == 2


async def answers(site: Site) -> bool:
    try:
        peer = await site.open()
    except (OSError, trio.BrokenResourceError):
        return False
    await trio.aclose_forcefully(peer.stream)
    return True
