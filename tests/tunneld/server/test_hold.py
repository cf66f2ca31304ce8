"""One timer for all that is held back."""

import socket
from collections.abc import AsyncIterator
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from tunneld.server.hold import FirstByteHold
from tunneld.streamend import StreamEnd


class FakeEnd:
    def __init__(self) -> None:
        self.held: int | None = None
        self.released: float | None = None
        self.broken = False
        self.aborted = 0

    def hold(self, early: int) -> None:
        self.held = early

    def release(self) -> None:
        if self.broken:
            raise ZeroDivisionError
        self.released = trio.current_time()

    def abort(self) -> None:
        self.aborted += 1


@pytest.fixture
async def hold(nursery: trio.Nursery) -> AsyncIterator[FirstByteHold]:
    made = FirstByteHold(2.0)
    nursery.start_soon(made.run)
    yield made
    nursery.cancel_scope.cancel()


def begin(hold: FirstByteHold, early: int = 0, client: socket.socket | None = None) -> FakeEnd:
    end = FakeEnd()
    hold.hold(cast(StreamEnd, end), early)
    hold.begin(cast(StreamEnd, end), client)
    return end


async def test_each_is_released_after_its_own_delay(
    hold: FirstByteHold, autojump_clock: MockClock
) -> None:
    started = trio.current_time()
    ends = []
    for _ in range(3):
        ends.append(begin(hold, early=7))
        await trio.sleep(0.5)
    await trio.sleep(10)
    assert [end.held for end in ends] == [7, 7, 7]
    expected = [started + 2, started + 2.5, started + 3]
    assert [end.released for end in ends] == pytest.approx(expected, abs=0.01)


async def test_it_serves_again_after_all_were_released(
    hold: FirstByteHold, autojump_clock: MockClock
) -> None:
    begin(hold)
    await trio.sleep(5)
    started = trio.current_time()
    end = begin(hold)
    await trio.sleep(5)
    assert end.released == pytest.approx(started + 2, abs=0.01)


async def test_one_that_cannot_be_released_ends_alone(
    hold: FirstByteHold, autojump_clock: MockClock
) -> None:
    broken, other = begin(hold), begin(hold)
    broken.broken = True
    await trio.sleep(5)
    assert broken.aborted == 1
    assert other.released is not None


async def test_no_delay_holds_nothing() -> None:
    end = begin(FirstByteHold(0))
    assert (end.held, end.released) == (None, None)


async def test_a_unix_client_that_has_not_read_is_waited_for(autojump_clock: MockClock) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.send(b"HTTP/1.1 200 Connection Established\r\n\r\n")
        async with trio.open_nursery() as nursery:
            hold = FirstByteHold(0.01)
            nursery.start_soon(hold.run)
            end = begin(hold, client=ours)
            await trio.sleep(0.5)
            assert end.released is None
            theirs.recv(100)
            await trio.sleep(0.01)
            assert end.released is not None
            nursery.cancel_scope.cancel()


async def test_a_unix_client_that_never_reads_is_not_waited_for_forever(
    autojump_clock: MockClock,
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.send(b"HTTP/1.1 200 Connection Established\r\n\r\n")
        async with trio.open_nursery() as nursery:
            hold = FirstByteHold(0.01)
            nursery.start_soon(hold.run)
            started = trio.current_time()
            end = begin(hold, client=ours)
            await trio.sleep(2)
            assert end.released == pytest.approx(started + 1, abs=0.02)
            nursery.cancel_scope.cancel()
