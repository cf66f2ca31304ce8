"""Descriptors that are kept back."""

import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from tunneld.agent.connect import connect
from tunneld.descriptors import Descriptors
from tunneld.dialing import OVERLOADED, DialError
from tunneld.quota import LimitedError


@pytest.fixture
def leave() -> Iterator[Callable[[int], int]]:
    """Sets the process's limit so that so many descriptors are left; gives the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def set_left(left: int) -> int:
        limit = lowest() + left
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        return limit

    yield set_left
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def lowest() -> int:
    number = os.open(os.devnull, os.O_RDONLY)
    os.close(number)
    return number


def test_an_eighth_is_kept_back_and_64_at_most() -> None:
    descriptors = Descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        for limit, usable in ((160, 140), (512, 448), (4096, 4032)):
            if hard == resource.RLIM_INFINITY or limit <= hard:
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
                assert (descriptors.limit, descriptors.usable) == (limit, usable)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_socket_with_a_high_number_is_refused_and_one_with_a_low_number_is_not(
    leave: Callable[[int], int],
) -> None:
    descriptors = Descriptors()
    leave(60)
    with ExitStack() as stack:
        while (sock := stack.enter_context(socket.socket())).fileno() < descriptors.usable:
            descriptors.check(sock, "this server")
        assert descriptors.are_short
        with pytest.raises(LimitedError, match="few file descriptors left") as caught:
            descriptors.check(sock, "this server")
        assert caught.value.kind is OVERLOADED
        assert caught.value.limit == "descriptors"
    assert not descriptors.are_short


async def test_the_log_hears_once_of_each_shortage(mock_clock: MockClock) -> None:
    descriptors = Descriptors()
    with capture_logs() as logs:
        for _ in range(10):
            descriptors.note()
            mock_clock.jump(4)
        mock_clock.jump(6)
        descriptors.note("Too many open files")
    assert descriptors.episodes == 2
    assert len(logs) <= 2


async def test_a_listener_waits_until_half_of_what_is_kept_back_is_free(
    autojump_clock: MockClock, leave: Callable[[int], int]
) -> None:
    descriptors = Descriptors()
    leave(30)
    taken: list[int] = []
    while lowest() < descriptors.limit - 2:
        taken.append(os.open(os.devnull, os.O_RDONLY))
    try:
        with trio.move_on_after(10) as waiting:
            await descriptors.wait_for_some()
        assert waiting.cancelled_caught
    finally:
        for number in taken:
            os.close(number)
    await descriptors.wait_for_some()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "name.invalid"])
async def test_a_dial_without_a_descriptor_fails_as_busy(
    leave: Callable[[int], int], host: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        await trio.to_thread.run_sync(lambda: None)  # what threads need is there
        leave(0)
        with pytest.raises(DialError) as caught:
            await connect(host, port, 5)
        assert caught.value.kind is OVERLOADED


async def test_a_dial_that_gets_one_that_is_kept_back_fails_as_busy_and_gives_it_back(
    leave: Callable[[int], int],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        leave(1)
        with pytest.raises(LimitedError, match="this agent has few file descriptors left"):
            await connect("127.0.0.1", listener.getsockname()[1], 5)
        os.close(os.open(os.devnull, os.O_RDONLY))  # which is the last one
