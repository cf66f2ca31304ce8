"""A real daemon with few file descriptors: what runs goes on, what is new is told, and later all is
as before."""

import contextlib
import hashlib
import json
import random
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.conftest import Daemon
from tunneld.pki import Pki

pytestmark = pytest.mark.e2e

LIMIT = 200
CHUNK = 8192
ESTABLISHED = b"HTTP/1.1 200 Connection Established\r\n\r\n"

CONFIG = """
[[role]]
kind = "server"
name = "edge"
frontends = [{ listen = "unix:front.sock" }]
policy = { open = true }
[role.tunnel]
listen = "127.0.0.1:0"
cert = "pki/agent/server.crt"
key = "pki/agent/server.key"
client-ca = "pki/agent/ca.crt"
"""
AGENT = """
[[role]]
kind = "agent"
name = "home"
server = "127.0.0.1:%s"
cert = "pki/agent/agent.crt"
key = "pki/agent/agent.key"
ca = "pki/agent/ca.crt"
policy = { open = true }
"""


def start(daemon: Daemon, directory: Path, config: str) -> None:
    file = directory / "tunneld.toml"
    file.write_text(config)
    argv = ["tunneld", "start", "--config", str(file)]
    daemon.run("sh", "-c", f'ulimit -n {LIMIT}; exec "$0" -m "$@"', sys.executable, *argv)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture
def edge(daemon: Daemon, tmp_path: Path) -> Daemon:
    """A daemon with a server and its agent, both with the descriptors of one process."""
    Pki(tmp_path / "pki").init(["127.0.0.1"], "demo")
    port = free_port()
    start(daemon, tmp_path, CONFIG.replace("127.0.0.1:0", f"127.0.0.1:{port}") + AGENT % port)
    return daemon


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of an endpoint that sends back what it gets."""

    def serve(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while data := sock.recv(65536):
                sock.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threading.Thread(target=serve, args=[sock], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def client(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(str(path))
    return sock


def connect(path: Path, port: int) -> tuple[socket.socket, bytes]:
    sock = client(path)
    sock.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: -\r\n\r\n".encode())
    return sock, sock.recv(65536)


class Transfer:
    """One connection that sends octets and gets them back, as long as it is asked to."""

    def __init__(self, path: Path, port: int) -> None:
        self.sock, reply = connect(path, port)
        assert reply == ESTABLISHED
        self.random = random.Random(1)
        self.sent, self.got = hashlib.sha256(), hashlib.sha256()

    def go_on(self, chunks: int) -> None:
        for _ in range(chunks):
            octets = self.random.randbytes(CHUNK)
            self.sent.update(octets)
            self.sock.sendall(octets)
            left = len(octets)
            while left:
                data = self.sock.recv(left)
                assert data, "cut off"
                self.got.update(data)
                left -= len(data)

    def end(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)
        assert self.sock.recv(1) == b""
        self.sock.close()
        assert self.got.digest() == self.sent.digest()


def test_what_runs_goes_on_and_what_is_new_is_told(edge: Daemon, echo: int, tmp_path: Path) -> None:
    pid, path = edge.pid, tmp_path / "front.sock"
    transfer = Transfer(path, echo)
    transfer.go_on(10)
    with ExitStack() as stack:
        admitted: list[socket.socket] = []
        refusals: list[bytes] = []
        while len(refusals) < 10:
            sock, reply = connect(path, echo)
            stack.enter_context(sock)
            if reply == ESTABLISHED:
                admitted.append(sock)
            else:
                refusals.append(reply)
            assert len(admitted) < LIMIT
        for reply in refusals:
            assert reply.startswith(b"HTTP/1.1 503 ")
            assert b"error=connection_limit_reached" in reply
            assert b"Retry-After: 1\r\n" in reply
            assert b"file descriptors" in reply
        assert len(admitted) > 50
        for sock in admitted:
            sock.sendall(b"still there")
            assert sock.recv(100) == b"still there"
        for _ in range(3 * LIMIT):  # these say nothing, and take what is left
            stack.enter_context(client(path))
        transfer.go_on(100)
        status = json.loads(edge.tunneld("status", "-o", "json").stdout)
        assert status["pid"] == pid
    deadline = 100
    while deadline:
        sock, reply = connect(path, echo)
        sock.close()
        if reply == ESTABLISHED:
            break
        deadline -= 1
    assert deadline
    transfer.go_on(10)
    transfer.end()
    assert edge.pid == pid
    roles = {row["name"]: row["state"] for row in edge.json("role", "list")["roles"]}
    assert roles == {"edge": "ready", "home": "ready"}
    log = (edge.state / "tunneld.log").read_text()
    assert 1 <= log.count("no file descriptors left") <= 3
    assert "Traceback" not in log
