"""A daemon whose certificates, CAs, rules and configuration change under 200 connections."""

import json
import os
import signal
from functools import partial

import pytest
import trio

from tests.e2e.site import Site
from tunneld.pki import Side

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

CONNECTIONS = 200


@pytest.mark.parametrize("processes", [1, 2])
async def test_200_connections_go_on_while_everything_changes(site: Site, processes: int) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(CONNECTIONS):
            await nursery.start(site.talk, number)
        nursery.start_soon(site.come_and_go)
        for turn in range(3):
            await renew(site)
            await change_rules_and_settings(site, turn)
            await write_bad_files(site)
            await hang_up(site, turn)
        await replace_the_ca(site)
        site.stop.set()
    assert site.failures == []
    assert site.right == CONNECTIONS
    assert site.newcomers > 20
    assert "role restarts" not in site.log()
    assert site.log().count("tunnel is up") == processes
    print(f"{site.rounds} exchanges, {site.newcomers} new connections")


async def renew(site: Site) -> None:
    await site.change(site.registrar.renew)
    code, out, _ = await site.ctl("reload", "-o", "json")
    changes = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert {(each["role"], each["field"]) for each in changes} == {
        ("edge", "frontends[0].cert"),
        ("edge", "frontends[0].key"),
        ("edge", "tunnel.cert"),
        ("edge", "tunnel.key"),
        ("home", "cert"),
        ("home", "key"),
    }
    assert {each["how"] for each in changes} == {"live"}


async def change_rules_and_settings(site: Site, turn: int) -> None:
    site.write(dial_timeout=5.0 + turn, port=f'"{turn + 2}-65535"')
    _, looked, _ = await site.ctl("reload", "--check", "-o", "json")
    code, out, _ = await site.ctl("reload", "-o", "json")
    assert code == 0
    assert looked == out
    assert [json.loads(line)["field"] for line in out.splitlines()] == [
        "policy.rules[0].port",
        "dial-timeout",
    ]
    assert await site.ctl("reload") == (0, "nothing has changed\n", "")


async def write_bad_files(site: Site) -> None:
    certificate = site.registrar.certificate_path(Side.FRONTEND, "server")
    good = certificate.read_bytes()
    certificate.write_bytes(good[: len(good) // 2])
    code, out, err = await site.ctl("reload", check=False)
    assert (code, out) == (1, "")
    assert "not reloaded, everything goes on as it was" in err
    certificate.write_bytes(good)
    site.write(dial_timeout='"soon"')
    code, _, err = await site.ctl("reload", check=False)
    assert code == 1
    assert "dial-timeout" in err
    site.write(dial_timeout=10.0)


async def hang_up(site: Site, turn: int) -> None:
    before = site.log().count("reloaded changes=")
    os.kill(await trio.to_thread.run_sync(lambda: site.daemon.pid), signal.SIGHUP)

    async def reloaded() -> bool:
        return site.log().count("reloaded changes=") > before

    await site.until(reloaded)


async def replace_the_ca(site: Site) -> None:
    both = [partial(site.registrar.add_authority, side) for side in Side]
    for add in both:
        await site.change(add)
    await site.ctl("reload")
    await site.change(site.registrar.renew)
    await site.ctl("reload")
    for side in Side:
        await site.change(partial(site.registrar.drop_authority, side))
    await site.ctl("reload")


async def test_a_changed_file_takes_effect_by_itself(site: Site) -> None:
    site.write(watch="true")
    await site.ctl("reload")
    peer = await site.open()
    before = peer.tls.getpeercert(binary_form=True)
    await trio.aclose_forcefully(peer.stream)
    await site.change(site.registrar.renew)

    async def shows_the_new_one() -> bool:
        peer = await site.open()
        await trio.aclose_forcefully(peer.stream)
        return peer.tls.getpeercert(binary_form=True) != before

    await site.until(shows_the_new_one)
    site.write(port="1")

    async def is_refused() -> bool:
        try:
            peer = await site.open()
        except ConnectionError as exc:
            return "403" in str(exc)
        await trio.aclose_forcefully(peer.stream)
        return False

    await site.until(is_refused)


async def test_a_revoked_agent_is_cut_off(site: Site) -> None:
    await site.ctl("certs", "crl", "--dir", str(site.directory / "pki"))
    site.write(tunnel_crl=', crl = ["pki/agent/ca.crl"]')
    await site.ctl("reload")
    assert await site.has_tunnels(1)
    await site.ctl("certs", "revoke", "agent/agent", "--dir", str(site.directory / "pki"))
    _, out, _ = await site.ctl("reload", "-o", "json")
    [change] = [json.loads(line) for line in out.splitlines()]
    assert change["field"] == "tunnel.crl"

    async def is_refused() -> bool:
        return "CERTIFICATE_REVOKED" in site.log()

    await site.until(is_refused)
    assert await site.has_tunnels(0)
    assert "agent ended: its certificate is revoked" in site.log()
    assert "its certificate is not accepted: certificate revoked" in site.log()
