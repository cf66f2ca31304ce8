"""Bad input on every listener and in every command: a clear error, and nothing else happens."""

import contextlib
import os
import random
import shutil
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import need
from tests.e2e.conftest import PRIVATE, SERVER, Daemon, Lab

pytestmark = pytest.mark.e2e

GARBAGE = {
    "random": random.Random(1).randbytes(100_000),
    "zeros": bytes(100_000),
    "http get": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "half a tls record": b"\x16\x03\x01\x40\x00" + b"\x01" * 100,
    "nothing": b"",
    "endless line": b"A" * 300_000,
}


@pytest.fixture(autouse=True)
def unharmed(lab: Lab) -> Iterator[None]:
    """Whatever a test does: afterwards the daemon, its workers and the tunnel are as before."""
    before = {
        (r["name"], r["pid"], r["restarts"]) for r in lab.daemon.json("role", "list")["roles"]
    }
    yield
    after = {(r["name"], r["pid"], r["restarts"]) for r in lab.daemon.json("role", "list")["roles"]}
    assert after == before
    assert lab.daemon.ctl("grpc", f"{PRIVATE}:4001", "--name", "demo").stdout == b"Hello demo!\n"


def throw(lab: Lab, port: int, octets: bytes, *tls: str) -> bytes:
    argv = [sys.executable, "-m", "tests.e2e.garbage", SERVER, str(port), *tls]
    return lab.exec("public", *argv, stdin=octets, check=False).stdout


@pytest.mark.parametrize("port", [8090, 8091])
@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_before_tls(lab: Lab, port: int, kind: str) -> None:
    assert b"HTTP/1.1 200" not in throw(lab, port, GARBAGE[kind])


@pytest.mark.parametrize(
    ("octets", "answer"),
    [
        (b"\x00\xff\x01garbage\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"405 Method Not Allowed"),
        (b"CONNECT x:y HTTP/1.1\r\nHost: x\r\n\r\n", b"400 Bad Request"),
        (b"CONNECT a b c d HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"CONNECT x:1 HTTP/1.1\r\nX: " + b"y" * 100_000, b"431 Request Header Fields Too Large"),
        (b"CONNECT host HTTP/1.1\r\n\r\n", b"missing port in address"),
        (b"CONNECT host:0 HTTP/1.1\r\n\r\n", b"invalid port"),
        (b"CONNECT host:70000 HTTP/1.1\r\n\r\n", b"invalid port"),
        (b"CONNECT " + b"h" * 300 + b":80 HTTP/1.1\r\n\r\n", b"300 characters"),
        (b"CONNECT nosuch.invalid:80 HTTP/1.1\r\n\r\n", b"no such host"),
        (b"CONNECT 192.168.1.2:1 HTTP/1.1\r\n\r\n", b"connection refused"),
    ],
)
def test_heads_that_cannot_be_served(lab: Lab, octets: bytes, answer: bytes) -> None:
    assert answer in throw(lab, 8090, octets, str(lab.pki), "frontend", "client")


def test_garbage_of_a_client_that_agreed_on_http_2(lab: Lab) -> None:
    lab.daemon.environment["ALPN"] = "h2"
    try:
        for octets in GARBAGE.values():
            said = throw(lab, 8090, octets or b"\0", str(lab.pki), "frontend", "client")
            assert b"HTTP/1.1 200" not in said
    finally:
        del lab.daemon.environment["ALPN"]


def test_garbage_of_an_agent(lab: Lab) -> None:
    lab.daemon.environment["ALPN"] = "rh2"
    try:
        for octets in GARBAGE.values():
            said = throw(lab, 8091, octets or b"\0", str(lab.pki), "agent", "agent")
            assert said.startswith(b"PRI * HTTP/2.0")  # the server begins: HTTP/2's client
    finally:
        del lab.daemon.environment["ALPN"]


@pytest.mark.parametrize(
    "octets",
    [
        b"garbage",
        struct.pack(">I", 0xFFFFFFFF),
        struct.pack(">I", 5) + b"\xc1\xc1\xc1\xc1\xc1",
        struct.pack(">I", 1) + b"\x01",
        random.Random(2).randbytes(5000),
    ],
)
def test_garbage_on_the_control_socket(lab: Lab, octets: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(lab.daemon.control))
        with contextlib.suppress(ConnectionError):  # closed amid our garbage, which is fine
            sock.sendall(octets)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["dial", "host"], 2, b"port"),
        (["dial", "host:0"], 2, b"1"),
        (["dial", "host:70000"], 2, b"65535"),
        (["dial", "h" * 300 + ":80"], 2, b"300"),
        (["dial", "::1:80"], 2, b"["),
        (["http", "ftp://x/"], 2, b"http"),
        (["dial", "nosuch.invalid:80"], 1, b"no such host"),
        (["dial", f"{PRIVATE}:1"], 1, b"refused"),
        (["role", "stop", "nosuch"], 4, b"nosuch"),
        (["ns", "exec", "nosuch", "--", "true"], 4, b"nosuch"),
        (["nosuch"], 2, b"nosuch"),
    ],
)
def test_commands_say_what_is_wrong(lab: Lab, argv: list[str], code: int, says: bytes) -> None:
    done = lab.daemon.ctl(*argv, check=False)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_config_with_mistakes(tmp_path: Path, lab: Lab) -> None:
    config = tmp_path / "t.toml"
    config.write_text('[[role]]\nkind = "echo"\nname = "e"\nlisen = "127.0.0.1:7"\nnamespace = 3\n')
    done = lab.daemon.tunneld("check-config", str(config), check=False)
    assert done.returncode == 2
    for word in (b"t.toml", b"lisen", b"listen", b"namespace"):
        assert word in done.stderr + done.stdout


@pytest.mark.root
def test_namespaces_that_somebody_else_made(lab: Lab) -> None:
    need(shutil.which("ip"), "iproute2 is not installed")
    foreign = f"f{os.getpid()}"
    lab.daemon.run("ip", "netns", "add", f"{foreign}-public")
    try:
        done = lab.daemon.ctl("ns", "up", "--name", foreign, check=False)
        assert done.returncode == 1
        assert f"{foreign}-public".encode() in done.stderr
        names = [path.name for path in Path("/run/netns").glob(f"{foreign}*")]
        assert names == [f"{foreign}-public"]
        lab.daemon.ctl("ns", "down", "--name", foreign, check=False)
        assert Path("/run/netns", f"{foreign}-public").exists()
    finally:
        lab.daemon.run("ip", "netns", "delete", f"{foreign}-public")


def test_no_daemon_is_said(tmp_path: Path) -> None:
    done = Daemon(tmp_path).ctl("status", check=False)
    assert done.returncode == 3
    assert b"tunneld start" in done.stderr
