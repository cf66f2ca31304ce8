"""What the service manager is told, at a real datagram socket."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from tunneld.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def told(manager: socket.socket) -> list[str]:
    """The lines of every message that waits."""
    lines: list[str] = []
    while True:
        try:
            lines += manager.recv(65536).decode().split("\n")
        except BlockingIOError:
            return lines


def notifier(manager: socket.socket, watchdog: float = 0.0) -> Notifier:
    return Notifier(manager.getsockname(), watchdog)


async def test_each_message_is_a_datagram_of_assignments(manager: socket.socket) -> None:
    await notifier(manager).ready()
    assert told(manager) == ["READY=1", f"MAINPID={os.getpid()}"]
    await notifier(manager).stopping(40.5)
    assert told(manager) == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=40500000"]
    await notifier(manager).succeeded_by(7)
    assert told(manager) == ["MAINPID=7"]


async def test_a_reload_says_when_it_began(manager: socket.socket) -> None:
    before = time.monotonic_ns() // 1000
    await notifier(manager).reloading()
    first, second = told(manager)
    assert first == "RELOADING=1"
    name, _, value = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(value) <= time.monotonic_ns() // 1000


async def test_a_status_is_one_line_of_bounded_length(manager: socket.socket) -> None:
    await notifier(manager).status("edge: ready\nWATCHDOG=trigger")
    assert told(manager) == ["STATUS=edge: ready WATCHDOG=trigger"]
    await notifier(manager).status("x" * 10_000)
    [line] = told(manager)
    assert line == f"STATUS={'x' * 499}…"


async def test_an_abstract_socket_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("")  # the kernel draws an abstract name
        sock.setblocking(False)
        await Notifier(f"@{sock.getsockname()[1:].decode()}").status("hello")
        assert told(sock) == ["STATUS=hello"]


async def test_without_a_manager_nothing_is_done() -> None:
    nobody = Notifier()
    with capture_logs() as logs:
        await nobody.ready()
        await nobody.stopping(1)
        await nobody.watch(trio.sleep_forever)
    assert logs == []


async def test_a_manager_that_is_gone_is_logged(tmp_path: Path) -> None:
    with capture_logs() as logs:
        await Notifier(str(tmp_path / "none")).ready()
    assert [each["event"] for each in logs] == ["service manager not told"]
    assert logs[0]["reason"] == "No such file or directory"


async def test_a_manager_that_reads_nothing_does_not_hold_us_up(
    manager: socket.socket, autojump_clock: MockClock
) -> None:
    with capture_logs() as logs:
        while not logs:
            await notifier(manager).ready()
    assert logs[0]["reason"] == "it takes no message"


async def test_the_watchdog_is_fed_twice_within_its_time_and_by_who_is_alive_alone(
    manager: socket.socket, autojump_clock: MockClock
) -> None:
    stuck = trio.Event()

    async def alive() -> None:
        if trio.current_time() - began > 50:
            await stuck.wait()

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notifier(manager, watchdog=20.0).watch, alive)
        await wait_all_tasks_blocked()
        assert told(manager) == ["WATCHDOG=1"]
        await trio.sleep(45)
        assert told(manager) == ["WATCHDOG=1"] * 4
        await trio.sleep(1000)
        assert told(manager) == ["WATCHDOG=1"]  # of second 50; then nothing more
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("variables", "address", "watchdog"),
    [
        ({}, "", 0),
        ({"NOTIFY_SOCKET": "/run/n"}, "/run/n", 0),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "2500000"}, "@n", 2.5),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, "/n", 0),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "soon"}, "/n", 0),
        ({"NOTIFY_SOCKET": "vsock:2:1"}, "", 0),
    ],
)
def test_the_environment_names_the_manager_once(
    variables: dict[str, str], address: str, watchdog: float
) -> None:
    environ = {**variables, "HOME": "/"}
    found = Notifier.from_environment(environ)
    assert (found.address, found.watchdog) == (address, watchdog)
    assert environ == {"HOME": "/"}


def test_a_watchdog_is_for_the_process_it_names() -> None:
    environ = {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}
    assert Notifier.from_environment(environ).watchdog == 3.0
