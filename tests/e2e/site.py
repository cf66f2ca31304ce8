"""A daemon on loopback with a server, an agent and an endpoint, and connections that go on all the
time and must not notice what is done to it."""

import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from tests.e2e.conftest import Daemon
from tests.tunneld.peers import ESTABLISHED, TlsPeer, client_context, connect, open_tls
from tunneld.registrar import Registrar

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


@asynccontextmanager
async def open_site(directory: Path, processes: int) -> AsyncIterator[Site]:
    """A site with a server of so many processes, while the block runs."""
    registrar = Registrar(directory / "pki")
    registrar.init(["127.0.0.1"], "home")
    values = {name: free_port() for name in ("frontend", "tunnel", "echo")}
    daemon = Daemon(directory)
    site = Site(daemon, directory, registrar, values, client_context(registrar.directory))
    more = {"watch": "false", "dial_timeout": 10.0, "tunnel_crl": "", "port": '"1-65535"'}
    site.write(processes=processes, **more)
    await trio.to_thread.run_sync(
        partial(daemon.tunneld, "start", "--config", str(directory / "t.toml"))
    )
    try:
        await site.until(partial(site.has_tunnels, processes))
        yield site
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(daemon.stop)
