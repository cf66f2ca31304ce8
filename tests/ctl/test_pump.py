import hashlib
import os
import pty
import random
import socket
import struct
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctl.ends import FileSink, FileSource, SocketEnd, TunnelEnd, open_sink
from ctl.pump import Pump, TunnelResetError
from ctl.reset import send_reset

MIB = 1 << 20


class Run:
    """A pump in a thread, with what it raised."""

    def __init__(self, pump: Pump, until_done: bool = False) -> None:
        self.error: BaseException | None = None
        self._pump = pump
        self._target = pump.run_until_done if until_done else pump.run_until_answered
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._target()
        except Exception as exc:
            self.error = exc

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive(), "the pump does not end"


class World:
    """A tunnel and a program around the pump, joined by real descriptors."""

    def __init__(self) -> None:
        self.tunnel, self.endpoint = socket.socketpair()
        self.stdin, self.program_out = os.pipe()
        self.program_in, self.stdout = os.pipe()
        self._open = {self.stdin, self.program_out, self.program_in}

    def start(self) -> Run:
        return Run(
            Pump(TunnelEnd(self.tunnel), FileSource(self.stdin), open_sink(self.stdout)),
        )

    def close_fd(self, fd: int) -> None:
        self._open.remove(fd)
        os.close(fd)

    def close(self) -> None:
        self.tunnel.close()
        self.endpoint.close()
        for fd in list(self._open):
            self.close_fd(fd)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def read_all(fd: int) -> bytes:
    return b"".join(iter(lambda: os.read(fd, MIB), b""))


def receive_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(MIB), b""))


def fill(sock: socket.socket) -> None:
    """Write to a non-blocking socket until nothing fits any more."""
    try:
        while True:
            sock.send(b"\0" * MIB)
    except BlockingIOError:
        pass


def test_octets_go_both_ways(world: World) -> None:
    run = world.start()
    os.write(world.program_out, b"ask")
    assert world.endpoint.recv(10) == b"ask"
    world.endpoint.sendall(b"answer")
    assert os.read(world.program_in, 10) == b"answer"
    world.endpoint.shutdown(socket.SHUT_WR)
    run.join()
    assert run.error is None


def test_the_end_of_stdin_is_passed_on_and_the_answer_still_arrives(world: World) -> None:
    run = world.start()
    os.write(world.program_out, b"ask")
    world.close_fd(world.program_out)
    assert receive_all(world.endpoint) == b"ask"
    world.endpoint.sendall(b"answer")
    world.endpoint.close()
    assert read_all(world.program_in) == b"answer"
    run.join()
    assert run.error is None


def test_it_ends_when_the_endpoint_ends_though_stdin_is_open(world: World) -> None:
    run = world.start()
    world.endpoint.sendall(b"banner")
    world.endpoint.shutdown(socket.SHUT_WR)
    assert read_all(world.program_in) == b"banner"
    run.join()
    assert run.error is None


def test_a_tunnel_closed_while_it_should_listen_is_a_reset(world: World) -> None:
    run = world.start()
    world.endpoint.sendall(b"half of the ans")
    world.endpoint.close()
    run.join()
    assert isinstance(run.error, TunnelResetError)
    assert os.read(world.program_in, 100) == b"half of the ans"


def test_a_reset_tunnel_is_told_apart_from_an_end() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    tunnel = socket.create_connection(listener.getsockname())
    endpoint, _ = listener.accept()
    local, program = socket.socketpair()
    with listener, tunnel, endpoint, local, program:
        program.shutdown(socket.SHUT_WR)
        run = Run(Pump(TunnelEnd(tunnel), SocketEnd(local), SocketEnd(local)), until_done=True)
        assert receive_all(endpoint) == b""
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        endpoint.close()
        run.join()
    assert isinstance(run.error, TunnelResetError)


def test_octets_for_an_endpoint_that_is_gone_are_a_reset_but_its_answer_is_taken(
    world: World,
) -> None:
    world.endpoint.sendall(b"bye")
    world.endpoint.close()
    os.write(world.program_out, b"more")
    run = world.start()
    assert os.read(world.program_in, 10) == b"bye"
    run.join()
    assert isinstance(run.error, TunnelResetError)


def test_it_ends_when_the_reader_of_stdout_is_gone_though_nothing_comes(world: World) -> None:
    run = world.start()
    world.close_fd(world.program_in)
    run.join()
    assert isinstance(run.error, BrokenPipeError)


def test_a_reader_that_does_not_read_stalls_only_its_own_direction(world: World) -> None:
    run = world.start()
    world.endpoint.setblocking(False)
    fill(world.endpoint)
    world.endpoint.setblocking(True)
    for _ in range(100):
        os.write(world.program_out, b"x" * 4096)
        assert len(world.endpoint.recv(4096, socket.MSG_WAITALL)) == 4096
    world.close_fd(world.program_in)
    run.join()
    assert isinstance(run.error, BrokenPipeError)


def test_stdio_keeps_its_blocking_mode(world: World) -> None:
    run = world.start()
    world.endpoint.sendall(b"x")
    os.read(world.program_in, 1)
    assert os.get_blocking(world.stdin)
    assert os.get_blocking(world.stdout)
    world.endpoint.shutdown(socket.SHUT_WR)
    run.join()


def test_eight_mebibytes_each_way_at_once_arrive_whole(world: World) -> None:
    there = random.Random(1).randbytes(8 * MIB)
    back = random.Random(2).randbytes(8 * MIB)
    run = world.start()
    got: dict[str, bytes] = {}

    def send_back() -> None:
        world.endpoint.sendall(back)
        world.endpoint.shutdown(socket.SHUT_WR)

    def send_there() -> None:
        view = memoryview(there)
        while view:
            view = view[os.write(world.program_out, view) :]
        world.close_fd(world.program_out)

    threads = [
        threading.Thread(target=send_back),
        threading.Thread(target=send_there),
        threading.Thread(target=lambda: got.update(there=receive_all(world.endpoint))),
    ]
    for thread in threads:
        thread.start()
    # The endpoint must not end first: the pump would rightly stop with it.
    digest, size = hashlib.sha256(), 0
    while size < len(back):
        chunk = os.read(world.program_in, 3000)
        digest.update(chunk)
        size += len(chunk)
    for thread in threads:
        thread.join(30)
    run.join()
    assert run.error is None
    assert digest.digest() == hashlib.sha256(back).digest()
    assert hashlib.sha256(got["there"]).digest() == hashlib.sha256(there).digest()


def test_a_file_can_be_stdin_and_stdout(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"data" * 100_000)
    tunnel, endpoint = socket.socketpair()
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        run = Run(
            Pump(TunnelEnd(tunnel), FileSource(source.fileno()), open_sink(os.dup(sink.fileno())))
        )
        echoed = receive_all(endpoint)
        endpoint.sendall(echoed)
        endpoint.close()
        run.join()
    tunnel.close()
    assert run.error is None
    assert (tmp_path / "out").read_bytes() == b"data" * 100_000


def test_a_socket_can_be_stdin_and_stdout() -> None:
    tunnel, endpoint = socket.socketpair()
    stdio, program = socket.socketpair()
    with tunnel, endpoint, stdio, program:
        run = Run(
            Pump(TunnelEnd(tunnel), FileSource(stdio.fileno()), open_sink(stdio.fileno())),
        )
        program.sendall(b"ask")
        assert endpoint.recv(10) == b"ask"
        endpoint.sendall(b"answer")
        endpoint.shutdown(socket.SHUT_WR)
        assert receive_all(program) == b"answer"
        run.join()
    assert run.error is None


def test_it_ends_when_the_program_behind_a_socket_is_gone() -> None:
    tunnel, endpoint = socket.socketpair()
    stdio, program = socket.socketpair()
    with tunnel, endpoint, stdio:
        run = Run(
            Pump(TunnelEnd(tunnel), FileSource(stdio.fileno()), open_sink(stdio.fileno())),
        )
        program.close()
        run.join()
    assert isinstance(run.error, BrokenPipeError)


def test_a_terminal_can_be_stdin_and_stdout() -> None:
    tunnel, endpoint = socket.socketpair()
    keyboard, terminal = pty.openpty()
    tty.setraw(terminal)
    with tunnel, endpoint:
        run = Run(Pump(TunnelEnd(tunnel), FileSource(terminal), open_sink(os.dup(terminal))))
        os.write(keyboard, b"typed")
        assert endpoint.recv(10) == b"typed"
        endpoint.sendall(b"shown")
        assert os.read(keyboard, 10) == b"shown"
        endpoint.shutdown(socket.SHUT_WR)
        run.join()
    os.close(keyboard)
    os.close(terminal)
    assert run.error is None


def test_without_an_open_file_of_its_own_a_pipe_is_written_in_pieces_that_always_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_proc(*_args: object) -> int:
        raise FileNotFoundError

    reader, writer = os.pipe()
    monkeypatch.setattr(os, "open", no_proc)
    sink = FileSink(writer)
    monkeypatch.undo()
    assert sink.fd == writer
    assert sink.write(memoryview(bytes(MIB))) == 4096
    sink.finish()
    os.close(reader)


def test_run_until_done_waits_for_both_ends() -> None:
    tunnel, endpoint = socket.socketpair()
    local, program = socket.socketpair()
    with tunnel, endpoint, local, program:
        run = Run(Pump(TunnelEnd(tunnel), SocketEnd(local), SocketEnd(local)), until_done=True)
        endpoint.sendall(b"first")
        endpoint.shutdown(socket.SHUT_WR)
        assert receive_all(program) == b"first"
        program.sendall(b"then")
        program.shutdown(socket.SHUT_WR)
        assert receive_all(endpoint) == b"then"
        run.join()
    assert run.error is None


def test_a_tunnel_that_breaks_after_its_end_is_a_reset_for_what_is_still_sent() -> None:
    tunnel, endpoint = socket.socketpair()
    local, program = socket.socketpair()
    with tunnel, local, program:
        run = Run(Pump(TunnelEnd(tunnel), SocketEnd(local), SocketEnd(local)), until_done=True)
        endpoint.shutdown(socket.SHUT_WR)
        assert program.recv(1) == b""
        endpoint.close()
        run.join()
    assert isinstance(run.error, TunnelResetError)


def test_a_reset_is_told_though_we_had_half_closed_and_what_came_before_it_is_passed_on() -> None:
    tunnel, endpoint = socket.socketpair()
    local, program = socket.socketpair()
    program.shutdown(socket.SHUT_WR)
    with tunnel, local, program:
        run = Run(Pump(TunnelEnd(tunnel), SocketEnd(local), SocketEnd(local)), until_done=True)
        assert receive_all(endpoint) == b""
        endpoint.sendall(b"half")
        send_reset(endpoint)
        endpoint.close()
        run.join()
        assert program.recv(100) == b"half"
    assert isinstance(run.error, TunnelResetError)
