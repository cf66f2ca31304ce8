"""The world that is attacked: a server and an agent as processes, and an honest client."""

import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.attacks.victim import Victim
from tests.interop.konnectivity.processes import free_port
from tunneld.pki import Pki

HEAD_TIMEOUT = 3
"""Seconds, of the server."""
PATIENCE = 60.0
"""Seconds for anything that an honest client waits for: far more than it ever takes."""

_SERVER = """
[[role]]
kind = "server"
name = "edge"
policy = {{ open = true }}
frontends = [
  {{ listen = "127.0.0.1:{front}", cert = "{pki}/frontend/server.crt", \
key = "{pki}/frontend/server.key", client-ca = "{pki}/frontend/ca.crt" }},
]
tunnel = {{ listen = "127.0.0.1:{tunnel}", cert = "{pki}/agent/server.crt", \
key = "{pki}/agent/server.key", client-ca = "{pki}/agent/ca.crt" }}
head-timeout = {timeout}
{options}
"""

_AGENT = """
[[role]]
kind = "agent"
name = "home"
policy = {{ open = true }}
server = "127.0.0.1:{tunnel}"
cert = "{pki}/agent/agent.crt"
key = "{pki}/agent/agent.key"
ca = "{pki}/agent/ca.crt"

[[role]]
kind = "agent"
name = "lured"
policy = {{ open = true }}
server = "127.0.0.1:{evil}"
cert = "{pki}/agent/agent.crt"
key = "{pki}/agent/agent.key"
ca = "{pki}/agent/ca.crt"
backoff-min = 0.05
backoff-max = 0.1

[[role]]
kind = "echo"
name = "echo"
listen = "127.0.0.1:{echo}"
"""


class World:
    """See `open_world`. Blocking sockets all through: the attacker knows nothing of our code."""

    def __init__(self, directory: Path, options: str) -> None:
        self.pki = directory / "pki"
        Pki(self.pki).init()
        self.front, self.tunnel, self.evil, self.echo = (free_port() for _ in range(4))
        ports = {name: getattr(self, name) for name in ("front", "tunnel", "evil", "echo")}
        server = _SERVER.format(pki=self.pki, timeout=HEAD_TIMEOUT, options=options, **ports)
        agent = _AGENT.format(pki=self.pki, **ports)
        self.server = Victim(directory / "server", server)
        self.agent = Victim(directory / "agent", agent)
        self._trusted = self.client_context("frontend", "client")

    def client_context(self, side: str, name: str, *alpn: str) -> ssl.SSLContext:
        """TLS of who dials out with a certificate: ``frontend client``, ``agent agent``."""
        context = ssl.create_default_context(cafile=str(self.pki / side / "ca.crt"))
        context.load_cert_chain(self.pki / side / f"{name}.crt", self.pki / side / f"{name}.key")
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def server_context(self) -> ssl.SSLContext:
        """TLS of a server that agents trust."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pki / "agent/server.crt", self.pki / "agent/server.key")
        context.set_alpn_protocols(["rh2"])
        return context

    def dial(self) -> bool:
        """What an honest client does: connect, dial the echo endpoint, send, compare, end."""
        raw = socket.create_connection(
            ("127.0.0.1", self.front), PATIENCE, source_address=("127.0.0.2", 0)
        )  # its own address, not the attacker's: in a crowd the oldest of that goes
        with self._trusted.wrap_socket(raw, server_hostname="127.0.0.1") as sock:
            sock.sendall(f"CONNECT 127.0.0.1:{self.echo} HTTP/1.1\r\n\r\n".encode())
            reply = b""
            while not reply.endswith(b"\r\n\r\n") and (more := sock.recv(4096)):
                reply += more
            if not reply.startswith(b"HTTP/1.1 200 "):
                return False
            sent = os.urandom(10_000)
            sock.sendall(sent)
            back = b""
            while len(back) < len(sent) and (more := sock.recv(65536)):
                back += more
            return back == sent

    def wait_for_agent(self) -> None:
        """Until dials go through."""
        begun = time.monotonic()
        while not self.dial():
            late = time.monotonic() > begun + PATIENCE
            if late or not self.server.alive or not self.agent.alive:
                raise RuntimeError(self.server.log() + self.agent.log())

    @contextmanager
    def honest_client(self) -> Iterator["HonestClient"]:
        """One that dials again and again while the block runs, once at least."""
        client = HonestClient(self)
        client.start()
        try:
            yield client
        finally:
            client.stop()


class HonestClient(threading.Thread):
    """Counts its dials, and those among them that went wrong."""

    def __init__(self, world: World) -> None:
        super().__init__(daemon=True)
        self.dials = 0
        self.failures: list[str] = []
        self._world = world
        self._over = threading.Event()

    def run(self) -> None:
        while not self.dials or not self._over.is_set():
            try:
                failure = "" if self._world.dial() else "another answer than 200 and an echo"
            except OSError as exc:
                failure = str(exc) or type(exc).__name__
            self.dials += 1
            if failure:
                self.failures.append(failure)
            self._over.wait(0.02)  # it shall not be the load itself

    def stop(self) -> None:
        self._over.set()
        self.join()

    @property
    def served(self) -> bool:
        return self.dials > 0 and not self.failures


@contextmanager
def open_world(directory: Path, options: str = "") -> Iterator[World]:
    """A server and an agent, connected.

    Args:
      options: more lines for the server's table.
    """
    world = World(directory, options)
    with world.server, world.agent:
        world.wait_for_agent()
        yield world
