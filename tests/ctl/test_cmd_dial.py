import hashlib
import os
import random
import signal
import socket
import subprocess
from collections.abc import Callable
from subprocess import Popen

import pytest

from ctl.messages import ControlError
from ctl.reset import receive_into, send_reset
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import Dial, FakeDaemon, echo

Start = Callable[..., "Popen[bytes]"]


def test_it_is_a_byte_pipe_that_ends_with_the_endpoint(daemon: FakeDaemon, start: Start) -> None:
    daemon.answers["dial"] = Dial(echo)
    process = start("dial", "192.168.1.2:7")
    out, err = process.communicate(b"hello", timeout=30)
    assert (process.returncode, out, err) == (0, b"hello", b"")
    assert daemon.calls == [("dial", {"host": "192.168.1.2", "port": 7, "server": None})]


def test_the_server_role_can_be_chosen(daemon: FakeDaemon, start: Start) -> None:
    daemon.answers["dial"] = Dial(echo)
    process = start("dial", "--server", "edge", "[::1]:7")
    process.communicate(timeout=30)
    assert daemon.calls == [("dial", {"host": "::1", "port": 7, "server": "edge"})]


def test_eight_mebibytes_go_through_and_back_whole(daemon: FakeDaemon, start: Start) -> None:
    daemon.answers["dial"] = Dial(echo)
    data = random.Random(7).randbytes(8 << 20)
    out, _ = start("dial", "h:7").communicate(data, timeout=60)
    assert hashlib.sha256(out).digest() == hashlib.sha256(data).digest()


def test_an_endpoint_that_speaks_first_is_heard_before_stdin_says_anything(
    daemon: FakeDaemon, start: Start
) -> None:
    def banner(sock: socket.socket) -> None:
        sock.sendall(b"220 ready\r\n")
        echo(sock)

    daemon.answers["dial"] = Dial(banner)
    process = start("dial", "h:25")
    assert process.stdout is not None
    assert process.stdout.readline() == b"220 ready\r\n"
    out, _ = process.communicate(b"QUIT", timeout=30)
    assert out == b"QUIT"


def test_it_ends_with_the_endpoint_while_stdin_is_open(daemon: FakeDaemon, start: Start) -> None:
    def bye(sock: socket.socket) -> None:
        sock.sendall(b"bye")
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1)

    daemon.answers["dial"] = Dial(bye)
    process = start("dial", "h:7")
    assert process.stdout is not None
    assert process.stdout.read() == b"bye"
    assert process.wait(30) == 0


def test_a_cut_connection_exits_with_1_and_says_so(daemon: FakeDaemon, start: Start) -> None:
    daemon.answers["dial"] = Dial(lambda sock: sock.sendall(b"half an ans"))
    process = start("dial", "h:7")
    assert process.wait(30) == 1
    out, err = process.communicate()
    assert out == b"half an ans"
    assert b"error[failed]: the connection was reset; the data may be incomplete" in err


def test_a_reset_is_told_though_stdin_had_ended(daemon: FakeDaemon, start: Start) -> None:
    def reset(sock: socket.socket) -> None:
        while sock.recv(100):
            pass
        sock.sendall(b"half an ans")
        send_reset(sock)

    daemon.answers["dial"] = Dial(reset)
    out, err = (process := start("dial", "h:7")).communicate(b"question", timeout=30)
    assert (process.returncode, out) == (1, b"half an ans")
    assert b"the connection was reset" in err


def test_a_reader_that_goes_away_ends_it_quietly(daemon: FakeDaemon, start: Start) -> None:
    daemon.answers["dial"] = Dial(echo)
    process = start("dial", "h:7")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(30) == 1
    assert process.stderr is not None
    assert process.stderr.read() == b""


def test_ctrl_c_exits_with_130_and_is_a_reset_towards_the_endpoint(
    daemon: FakeDaemon, start: Start
) -> None:
    told: list[tuple[int, bool]] = []

    def wait(sock: socket.socket) -> None:
        sock.sendall(b"!")
        told.append(receive_into(sock, memoryview(bytearray(10))))

    daemon.answers["dial"] = Dial(wait)
    process = start("dial", "h:7")
    assert process.stdout is not None
    assert process.stdout.read(1) == b"!"
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    daemon.join()
    assert told == [(0, True)]


def test_stdin_and_stdout_may_be_one_socket_as_with_ssh(daemon: FakeDaemon, start: Start) -> None:
    daemon.answers["dial"] = Dial(echo)
    ssh, command = socket.socketpair()
    with ssh:
        process = start("dial", "h:22", stdin=command.fileno(), stdout=command.fileno())
        command.close()
        ssh.sendall(b"SSH-2.0-test\r\n")
        assert ssh.recv(100) == b"SSH-2.0-test\r\n"
        ssh.shutdown(socket.SHUT_WR)
        assert ssh.recv(100) == b""
        assert process.wait(30) == 0


def test_a_closed_stdin_is_an_empty_one(daemon: FakeDaemon, start: Start) -> None:
    daemon.answers["dial"] = Dial(echo)
    process = start("dial", "h:7", stdin=None, preexec_fn=lambda: os.close(0))
    assert process.wait(30) == 0
    assert process.stdout is not None
    assert process.stdout.read() == b""


def test_stdin_from_dev_null_half_closes_at_once(daemon: FakeDaemon, start: Start) -> None:
    daemon.answers["dial"] = Dial(echo)
    assert start("dial", "h:7", stdin=subprocess.DEVNULL).wait(30) == 0


@pytest.mark.parametrize(
    ("code", "status"),
    [("no_agent", 7), ("timeout", 6), ("refused", 1), ("dns", 1), ("denied", 5)],
)
def test_a_failed_dial_says_why_and_writes_nothing(
    daemon: FakeDaemon, run: Run, code: str, status: int
) -> None:
    daemon.answers["dial"] = ControlError(code, "agent demo: connection refused", "look there")
    done = run("dial", "h:7")
    assert (done.code, done.stdout) == (status, "")
    assert done.stderr == f"error[{code}]: agent demo: connection refused\nhint: look there\n"
