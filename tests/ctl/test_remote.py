"""Dials without a daemon: against a fake tunnel, and by `tunneld.client` against a fake proxy."""

import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from ctl.address import Address
from ctl.ends import SocketEnd, TunnelEnd
from ctl.messages import ControlError
from ctl.pump import Pump, TunnelResetError
from ctl.remote import RemoteDialer, TunnelClient, open_remote
from ctl.reset import receive, send_reset
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import echo
from tunneld.client import DialError

DESTINATION = Address("192.168.1.2", 7)
Open = Callable[[], trio.abc.HalfCloseableStream]


class FakeTunnel:
    """A `tunneld.client` whose dials give what ``open_stream`` makes."""

    def __init__(self, open_stream: Open) -> None:
        self._open_stream = open_stream
        self.closed = threading.Event()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[TunnelClient]:
        try:
            yield self
        finally:
            self.closed.set()

    async def dial(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        return self._open_stream()


class CutStream(trio.abc.HalfCloseableStream):
    """Takes everything, gives a few octets, and breaks once it has got the end of ours."""

    def __init__(self) -> None:
        self._answers = [b"half"]
        self._ended = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._answers:
            return self._answers.pop()
        await self._ended.wait()
        raise trio.BrokenResourceError("reset")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        self._ended.set()

    @property
    def got_end(self) -> bool:
        return self._ended.is_set()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def open_echo() -> trio.abc.HalfCloseableStream:
    ours, theirs = trio.testing.memory_stream_pair()
    trio.lowlevel.spawn_system_task(echo_stream, theirs)
    return ours


async def echo_stream(stream: trio.abc.HalfCloseableStream) -> None:
    try:
        while data := await stream.receive_some(65536):
            await stream.send_all(data)
        await stream.send_eof()
    except trio.BrokenResourceError:
        pass  # the other end was closed first


def send_all(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def receive_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(1 << 20), b""))


def test_octets_and_half_close_go_both_ways() -> None:
    tunnel = FakeTunnel(open_echo)
    data = random.Random(3).randbytes(4 << 20)
    with RemoteDialer("edge:8090", tunnel.connect) as dialer:
        dialled = dialer.dial(DESTINATION)
        assert dialled.hops == ["server edge:8090", "192.168.1.2:7"]
        with dialled.sock as sock:
            sender = threading.Thread(target=send_all, args=(sock, data))
            sender.start()
            assert hashlib.sha256(receive_all(sock)).digest() == hashlib.sha256(data).digest()
            sender.join()
        assert tunnel.closed.wait(10)


def test_several_dials_at_once() -> None:
    with RemoteDialer("edge:8090", FakeTunnel(open_echo).connect) as dialer:
        socks = [dialer.dial(DESTINATION).sock for _ in range(5)]
        for number, sock in enumerate(socks):
            sock.sendall(bytes([number]))
        for number, sock in enumerate(socks):
            with sock:
                assert sock.recv(10) == bytes([number])


def test_a_reset_is_told_though_we_had_half_closed() -> None:
    with RemoteDialer("edge:8090", FakeTunnel(CutStream).connect) as dialer:
        local, program = socket.socketpair()
        with local, program, dialer.dial(DESTINATION).sock as sock:
            pump = Pump(TunnelEnd(sock), SocketEnd(local), SocketEnd(local))
            program.shutdown(socket.SHUT_WR)
            with pytest.raises(TunnelResetError):
                pump.run_until_done()
            assert program.recv(100) == b"half"


def test_a_failed_dial_has_the_code_of_the_failure_and_the_next_one_works() -> None:
    outcomes: Iterator[Open] = iter([refuse, open_echo])
    tunnel = FakeTunnel(lambda: next(outcomes)())
    with RemoteDialer("edge:8090", tunnel.connect) as dialer:
        with pytest.raises(ControlError) as caught:
            dialer.dial(DESTINATION)
        assert (caught.value.code, caught.value.hint) == ("dns", "look there")
        with dialer.dial(DESTINATION).sock as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"


def refuse() -> trio.abc.HalfCloseableStream:
    raise DialError("dns", "no such host", "look there")


def test_closing_the_dialer_cuts_what_is_open() -> None:
    dialer = RemoteDialer("edge:8090", FakeTunnel(open_echo).connect)
    with dialer.dial(DESTINATION).sock as sock:
        dialer.close()
        with pytest.raises(ConnectionResetError):
            receive(sock, 100)


def test_a_reset_of_ours_is_one_towards_the_endpoint() -> None:
    stream = CutStream()
    with RemoteDialer("edge:8090", FakeTunnel(lambda: stream).connect) as dialer:
        with dialer.dial(DESTINATION).sock as sock:
            assert sock.recv(100) == b"half"
            send_reset(sock)
            assert sock.recv(100) == b"\0", "an answer in kind"
        assert not stream.got_end


class FakeProxy:
    """An HTTP CONNECT proxy on a UNIX socket: ``reply``, and an echo behind a 200."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reply = b"HTTP/1.1 200 Connection Established\r\n\r\n"
        self.requests: list[bytes] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                head = b""
                while b"\r\n\r\n" not in head and (data := client.recv(65536)):
                    head += data
                self.requests.append(head.partition(b"\r\n")[0])
                client.sendall(self.reply)
                if b" 200 " in self.reply:
                    echo(client)


@pytest.fixture
def proxy(short_tmp: Path) -> Iterator[FakeProxy]:
    made = FakeProxy(short_tmp / "p.sock")
    yield made
    made.close()


def test_a_proxy_on_a_unix_socket_is_dialled_through(proxy: FakeProxy) -> None:
    with open_remote(f"unix:{proxy.path}") as dialer:
        dialled = dialer.dial(Address("2001:db8::1", 7))
        with dialled.sock as sock:
            sock.sendall(b"hello")
            sock.shutdown(socket.SHUT_WR)
            assert receive_all(sock) == b"hello"
    assert proxy.requests == [b"CONNECT [2001:db8::1]:7 HTTP/1.1"]


def test_commands_work_through_a_proxy_without_a_daemon(proxy: FakeProxy) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ctl", "dial", "--proxy", f"unix:{proxy.path}", "h:7"],
        input=b"through the proxy",
        env={**os.environ, "TUNNELD_CONTROL": "/nonexistent"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"through the proxy", b"")


def test_a_refusal_of_the_proxy_has_its_exit_code(proxy: FakeProxy, run: Run) -> None:
    proxy.reply = (
        b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 9\r\n"
        b'Proxy-Status: edge; error=destination_unavailable; details="none"\r\n\r\nno agent\n'
    )
    done = run("http", "--proxy", f"unix:{proxy.path}", "http://h/")
    assert done.code == 7
    assert "no agent" in done.stderr


def test_a_proxy_that_is_not_there_is_an_error_with_a_hint(run: Run, short_tmp: Path) -> None:
    done = run("grpc", "--proxy", f"unix:{short_tmp}/none", "h:1")
    assert done.code == 1
    assert "cannot reach the server" in done.stderr


def test_ctrl_c_ends_a_dial_through_a_proxy_with_130(proxy: FakeProxy) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "ctl", "dial", "--proxy", f"unix:{proxy.path}", "h:7"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x")
        process.stdin.flush()
        assert process.stdout.read(1) == b"x"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
