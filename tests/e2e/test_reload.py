"""A daemon whose certificates, CAs, rules and configuration change under 200 connections."""

import json
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.e2e.conftest import Daemon
from tests.tunneld.peers import ESTABLISHED, TlsPeer, client_context, connect, open_tls
from tunneld.pki import Side
from tunneld.registrar import Registrar

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

CONNECTIONS = 200
CONFIG = """
watch = {watch}

[[role]]
kind = "server"
name = "edge"
processes = {processes}
dial-timeout = {dial_timeout}
tunnel = {{ listen = "127.0.0.1:{tunnel}", cert = "pki/agent/server.crt", \
key = "pki/agent/server.key", client-ca = "pki/agent/ca.crt"{tunnel_crl} }}
[[role.frontends]]
listen = "127.0.0.1:{frontend}"
cert = "pki/frontend/server.crt"
key = "pki/frontend/server.key"
client-ca = "pki/frontend/ca.crt"
[[role.policy.rules]]
action = "allow"
client = ["cert:client"]
port = [{port}]

[[role]]
kind = "agent"
name = "home"
server = "127.0.0.1:{tunnel}"
cert = "pki/agent/agent.crt"
key = "pki/agent/agent.key"
ca = "pki/agent/ca.crt"
policy = {{ open = true }}

[[role]]
kind = "echo"
name = "echo"
listen = "127.0.0.1:{echo}"
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass
class Site:
    """A daemon, its files, and connections through it."""

    daemon: Daemon
    directory: Path
    registrar: Registrar
    values: dict[str, Any]
    tls: ssl.SSLContext
    stop: trio.Event = field(default_factory=trio.Event)
    right: int = 0
    """Connections that went on until the end, every octet as it was sent."""
    rounds: int = 0
    newcomers: int = 0
    failures: list[str] = field(default_factory=list)

    def write(self, **values: Any) -> None:
        self.values |= values
        text = CONFIG.format(**self.values)
        new = self.directory / "new.toml"
        new.write_text(text)
        new.replace(self.directory / "t.toml")

    @property
    def frontend(self) -> tuple[str, int]:
        return "127.0.0.1", self.values["frontend"]

    async def ctl(self, *argv: str, check: bool = True) -> tuple[int, str, str]:
        done = await trio.to_thread.run_sync(partial(self.daemon.ctl, *argv, check=check))
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    async def open(self) -> TlsPeer:
        peer = await open_tls(self.frontend, self.directory / "pki", context=self.tls)
        try:
            reply = await connect(peer, f"127.0.0.1:{self.values['echo']}")
            if reply != ESTABLISHED:
                raise ConnectionError(reply)
        except BaseException:
            await trio.aclose_forcefully(peer.stream)
            raise
        return peer

    async def talk(self, number: int, task_status: trio.TaskStatus[None]) -> None:
        """One connection: octets out and back, until told to stop."""
        peer = await self.open()
        task_status.started()
        try:
            while not self.stop.is_set():
                octets = os.urandom(1000 + number)
                await peer.send_all(octets)
                got = b""
                while len(got) < len(octets):
                    got += await peer.receive_some() or b"?" * len(octets)
                if got != octets:
                    raise ConnectionError("octets differ")
                self.rounds += 1
                await trio.sleep(0.05)
            self.right += 1
        except (OSError, trio.BrokenResourceError) as exc:
            self.failures.append(f"connection {number}: {exc!r}")
        finally:
            await trio.aclose_forcefully(peer.stream)

    async def come_and_go(self) -> None:
        """New connections all the time, none of them refused."""
        while not self.stop.is_set():
            try:
                peer = await self.open()
                await trio.aclose_forcefully(peer.stream)
                self.newcomers += 1
            except (OSError, trio.BrokenResourceError) as exc:
                self.failures.append(f"newcomer: {exc!r}")
            await trio.sleep(0.02)

    async def change(self, what: Callable[[], object]) -> None:
        """Change certificates; clients have the new files from then on."""
        await trio.to_thread.run_sync(what)
        self.tls = client_context(self.directory / "pki")

    async def until(self, true: Callable[[], Awaitable[bool]]) -> None:
        with trio.fail_after(20):
            while not await true():  # noqa: ASYNC110 - another process brings it about
                await trio.sleep(0.05)

    async def has_tunnels(self, number: int) -> bool:
        _, out, _ = await self.ctl("agents", "-o", "json")
        return len(json.loads(out)["agents"]) == number

    def log(self) -> str:
        return (self.daemon.state / "tunneld.log").read_text()


@pytest.fixture
async def site(tmp_path: Path, processes: int) -> AsyncIterator[Site]:
    registrar = Registrar(tmp_path / "pki")
    registrar.init(["127.0.0.1"], "home")
    values = {name: free_port() for name in ("frontend", "tunnel", "echo")}
    daemon = Daemon(tmp_path)
    site = Site(daemon, tmp_path, registrar, values, client_context(registrar.directory))
    more = {"watch": "false", "dial_timeout": 10.0, "tunnel_crl": "", "port": '"1-65535"'}
    site.write(processes=processes, **more)
    await trio.to_thread.run_sync(
        partial(daemon.tunneld, "start", "--config", str(tmp_path / "t.toml"))
    )
    try:
        await site.until(partial(site.has_tunnels, processes))
        yield site
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(daemon.stop)


@pytest.fixture
def processes() -> int:
    """Of the server."""
    return 1


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
