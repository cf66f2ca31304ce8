import json
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from queue import Queue
from subprocess import Popen

import pytest

from ctl.messages import ControlError
from ctl.reset import receive_into
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import Answer, Dial, FakeDaemon, echo

Start = Callable[..., "Popen[bytes]"]


@pytest.fixture
def forward(start: Start) -> Callable[[], tuple["Popen[bytes]", tuple[str, int]]]:
    def forward() -> tuple["Popen[bytes]", tuple[str, int]]:
        process = start("forward", "0", "192.168.1.2:7")
        assert process.stdout is not None
        host, _, port = process.stdout.readline().decode().split()[-1].rpartition(":")
        return process, (host, int(port))

    return forward


Forward = Callable[[], tuple["Popen[bytes]", tuple[str, int]]]


def receive_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


def test_several_connections_at_once_each_half_closeable(
    daemon: FakeDaemon, forward: Forward
) -> None:
    daemon.answers["dial"] = Dial(echo)
    process, address = forward()
    assert address[0] == "127.0.0.1"
    clients = [socket.create_connection(address) for _ in range(8)]
    for number, client in enumerate(clients):
        client.sendall(b"%d" % number * 100_000)
        client.shutdown(socket.SHUT_WR)
    for number, client in reversed(list(enumerate(clients))):
        with client:
            assert receive_all(client) == b"%d" % number * 100_000
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130


def test_a_failed_dial_resets_its_connection_and_the_next_one_works(
    daemon: FakeDaemon, forward: Forward
) -> None:
    answers: Iterator[Answer] = iter([ControlError("refused", "nobody listens"), Dial(echo)])
    daemon.answers["dial"] = lambda _params: next(answers)
    process, address = forward()
    with socket.create_connection(address) as client, pytest.raises(ConnectionResetError):
        client.recv(1)
    with socket.create_connection(address) as client:
        client.sendall(b"again")
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b"again"
    process.kill()
    assert process.stderr is not None
    assert b"error[refused]: nobody listens" in process.stderr.read()


def test_a_cut_connection_is_reset_towards_the_client(daemon: FakeDaemon, forward: Forward) -> None:
    daemon.answers["dial"] = Dial(lambda sock: sock.sendall(b"half"))
    _process, address = forward()
    with socket.create_connection(address) as client:
        assert client.recv(100) == b"half"
        with pytest.raises(ConnectionResetError):
            client.recv(100)


def test_a_client_that_resets_is_a_reset_towards_the_endpoint(
    daemon: FakeDaemon, forward: Forward
) -> None:
    told: Queue[tuple[int, bool]] = Queue()

    def until_the_end(sock: socket.socket) -> None:
        sock.sendall(b"hello")
        told.put(receive_into(sock, memoryview(bytearray(100))))

    daemon.answers["dial"] = Dial(until_the_end)
    process, address = forward()
    with socket.create_connection(address) as client:
        assert client.recv(100) == b"hello"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert process.stderr is not None
    lines = [process.stderr.readline(), process.stderr.readline()]
    assert b"connected to 192.168.1.2:7" in lines[0]
    assert b"reset" in lines[1]
    assert told.get(timeout=10) == (0, True)


def test_the_listening_address_as_json(daemon: FakeDaemon, start: Start) -> None:
    process = start("forward", "-o", "json", "[::1]:0", "h:7")
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    assert said["destination"] == "h:7"
    assert said["listening"].startswith("[::1]:")
    process.kill()


def test_an_address_in_use_is_an_error_with_a_way_out(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("forward", str(port), "h:7")
    assert done.code == 1
    assert "error[exists]" in done.stderr
    assert "in use" in done.stderr


def test_an_address_that_no_interface_has_is_an_error(run: Run) -> None:
    done = run("forward", "192.0.2.1:0", "h:7")
    assert done.code == 1
    assert "no interface has that address" in done.stderr
