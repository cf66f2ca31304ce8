"""Descriptors that are kept back."""

import os
import resource
import socket
from contextlib import ExitStack

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.tunneld.fewdescriptors import few_descriptors, lowest
from tunneld.agent.connect import connect
from tunneld.descriptors import Descriptors
from tunneld.dialing import OVERLOADED, DialError
from tunneld.quota import LimitedError


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


async def test_a_socket_with_a_high_number_is_refused_and_one_with_a_low_number_is_not() -> None:
    descriptors = Descriptors()
    with few_descriptors(60), ExitStack() as stack:
        while (sock := stack.enter_context(socket.socket())).fileno() < descriptors.usable:
            descriptors.check(sock, "this server")
        assert descriptors.are_short
        with pytest.raises(LimitedError, match="few file descriptors left") as caught:
            descriptors.check(sock, "this server")
        assert caught.value.kind is OVERLOADED
        assert caught.value.limit == "descriptors"
        stack.close()
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
    autojump_clock: MockClock,
) -> None:
    descriptors = Descriptors()
    with few_descriptors(30), ExitStack() as taken:
        while lowest() < descriptors.limit - 2:
            taken.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        with trio.move_on_after(10) as waiting:
            await descriptors.wait_for_some()
        assert waiting.cancelled_caught
        taken.close()
        await descriptors.wait_for_some()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "name.invalid"])
async def test_a_dial_without_a_descriptor_fails_as_busy(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        await trio.to_thread.run_sync(lambda: None)  # what threads need is there
        with few_descriptors(0), pytest.raises(DialError) as caught:
            await connect(host, port, 5)
        assert caught.value.kind is OVERLOADED


async def test_a_dial_that_gets_one_that_is_kept_back_fails_as_busy_and_gives_it_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, few_descriptors(1):
        with pytest.raises(LimitedError, match="this agent has few file descriptors left"):
            await connect("127.0.0.1", listener.getsockname()[1], 5)
        assert lowest() == Descriptors().limit - 1
