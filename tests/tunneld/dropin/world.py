"""proxy-server and proxy-agent as processes on loopback, and what they need."""

import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

from tests.interop.konnectivity.processes import Process, free_port, http_get
from tunneld.pki import Pki

TIMEOUT = 30.0
"""Seconds for anything that takes a moment on an idle machine."""


class Program(Process):
    """A program that serves health and admin requests."""

    def __init__(self, module: str, flags: list[str], log: Path, health: int, admin: int) -> None:
        argv = [sys.executable, "-m", f"tunneld.dropin.{module}", *flags]
        super().__init__(module, argv, log)
        self.health = health
        self.admin = admin

    async def exit_code(self) -> int:
        with trio.fail_after(TIMEOUT):
            return await self.ended()

    async def says(self, text: str) -> None:
        """Wait until the log has ``text``."""
        await until(lambda: text in self.log_text(1 << 20))

    async def answers(self, path: str, answer: tuple[int, str]) -> None:
        """Wait until a health check has that answer."""
        with trio.fail_after(TIMEOUT):
            while await http_get(self.health, path) != answer:
                assert self.running, self.log_text()
                await trio.sleep(0.02)


async def until(true: Callable[[], object]) -> None:
    """Wait for what other processes bring about."""
    with trio.fail_after(TIMEOUT):
        while not true():  # noqa: ASYNC110 - nothing tells about other processes
            await trio.sleep(0.01)


class World:
    """A directory with certificates, and the programs that were started in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pki = directory / "pki"
        self.programs: list[Program] = []
        self.port = free_port()
        """For clients."""
        self.agent_port = free_port()
        Pki(self.pki).init()

    def tls_flags(self, side: str, name: str, prefix: str, ca: str) -> list[str]:
        """Flags for a certificate with its CA.

        Args:
          prefix, ca: begin the names of the flags.
        """
        files = self.pki / side
        return [
            f"--{prefix}-cert={files / name}.crt",
            f"--{prefix}-key={files / name}.key",
            f"--{ca}ca-cert={files / 'ca.crt'}",
        ]

    def server(self, *flags: str, uds: Path | None = None, tokens: bool = False) -> Program:
        """A server, started. By TCP, or at the UNIX socket ``uds``; with ``tokens``, agents need no
        certificates."""
        cluster = self.tls_flags("agent", "server", "cluster", "cluster-")
        if uds is not None:
            front = [f"--uds-name={uds}", "--server-port=0"]
        else:
            front = self.tls_flags("frontend", "server", "server", "server-")
            front += ["--server-bind-address=127.0.0.1", f"--server-port={self.port}"]
        health, admin = free_port(), free_port()
        listen = [
            "--agent-bind-address=127.0.0.1",
            f"--agent-port={self.agent_port}",
            f"--admin-port={admin}",
            "--health-bind-address=127.0.0.1",
            f"--health-port={health}",
        ]
        argv = [*front, *cluster[: 2 if tokens else 3], *listen, *flags]
        return self._start("proxy_server", argv, health, admin)

    def agent(self, *flags: str, tokens: bool = False) -> Program:
        """An agent of that server, started."""
        tls = self.tls_flags("agent", "agent", "agent", "")
        health, admin = free_port(), free_port()
        listen = [
            f"--proxy-server-port={self.agent_port}",
            "--health-server-host=127.0.0.1",
            f"--health-server-port={health}",
            f"--admin-server-port={admin}",
        ]
        argv = [*tls[2 if tokens else 0 :], *listen, *flags]
        return self._start("proxy_agent", argv, health, admin)

    def _start(self, module: str, flags: list[str], health: int, admin: int) -> Program:
        log = self.directory / f"{module}-{len(self.programs)}.log"
        program = Program(module, flags, log, health, admin)
        self.programs.append(program)
        program.start()
        return program

    async def connect(self, address: str) -> trio.abc.Stream:
        """A connection to ``address`` by CONNECT at the TCP port."""
        context = ssl.create_default_context(cafile=str(self.pki / "frontend/ca.crt"))
        client = self.pki / "frontend/client"
        context.load_cert_chain(f"{client}.crt", f"{client}.key")
        tcp = await trio.open_tcp_stream("127.0.0.1", self.port)
        stream = trio.SSLStream(tcp, context, server_hostname="127.0.0.1", https_compatible=True)
        await establish(stream, address)
        return stream


async def establish(stream: trio.abc.Stream, address: str) -> None:
    """CONNECT to ``address`` on ``stream``."""
    await stream.send_all(f"CONNECT {address} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    with trio.fail_after(TIMEOUT):
        reply = await stream.receive_some()
    assert reply == b"HTTP/1.1 200 Connection Established\r\n\r\n", reply


async def exchange(stream: trio.abc.Stream, octets: bytes = b"hello") -> None:
    """Have an echo endpoint send ``octets`` back."""
    await stream.send_all(octets)
    got = b""
    with trio.fail_after(TIMEOUT):
        while len(got) < len(octets):
            more = await stream.receive_some()
            assert more, "the connection has ended"
            got += more
    assert got == octets


async def ends(stream: trio.abc.Stream) -> None:
    """Wait until the peer closes ``stream``, in whatever way."""
    with trio.fail_after(TIMEOUT):
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass


@asynccontextmanager
async def echo_endpoint() -> AsyncIterator[str]:
    """The address of an endpoint that sends back what it gets."""

    async def echo(stream: trio.SocketStream) -> None:
        try:
            async for octets in stream:
                await stream.send_all(octets)
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, echo, listeners)
        yield f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@contextmanager
def open_world(directory: Path) -> Iterator[World]:
    """A world whose programs are ended with the block."""
    world = World(directory)
    try:
        yield world
    finally:
        for program in world.programs:
            program.kill()
