"""What PINGs tell of a peer."""

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from tunneld.pings import ACK_TIMEOUT, Pings


class Peer:
    """Takes PINGs; answers come when a test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, bytes]] = []
        self.looked = 0
        self.unread = False
        self.lost: list[str] = []
        self.pings = Pings(self._take, self._look, self.lost.append)

    def _take(self, data: bytes) -> None:
        assert len(data) == 8
        self.asked.append((trio.current_time(), data))

    def _look(self) -> None:
        self.looked += 1
        self.pings.heard = self.unread

    async def watch(self, interval: float, seconds: float) -> None:
        def run(action: Callable[[], None]) -> None:
            action()

        with trio.move_on_after(seconds):
            await self.pings.keep_alive(interval, run)


@pytest.mark.parametrize(("interval", "silence"), [(10.0, 10), (60.0, ACK_TIMEOUT)])
async def test_a_silent_peer_is_lost(
    autojump_clock: MockClock, interval: float, silence: float
) -> None:
    peer = Peer()
    began = trio.current_time()
    await peer.watch(interval, interval + silence + 1)
    assert [at - began for at, _ in peer.asked][:1] == [pytest.approx(interval)]
    assert peer.lost == [f"nothing heard for {silence:.0f} s"]


async def test_one_that_said_something_is_not(autojump_clock: MockClock) -> None:
    peer = Peer()
    peer.unread = True
    await peer.watch(10, 35)
    assert len(peer.asked) == 3
    assert peer.looked == 2
    assert peer.lost == []


async def test_the_last_answer_tells_how_far_it_is(autojump_clock: MockClock) -> None:
    peer = Peer()
    await peer.watch(10, 10.5)
    assert peer.pings.rtt is None
    peer.pings.acknowledged(peer.asked[0][1])
    assert peer.pings.rtt == pytest.approx(0.5)
    await trio.sleep(5)
    peer.pings.acknowledged(peer.asked[0][1])  # an answer to nothing
    assert peer.pings.rtt == pytest.approx(0.5)


async def test_each_probe_has_an_answer_of_its_own() -> None:
    peer = Peer()
    told: list[int] = []
    for number in range(3):
        peer.pings.probe(lambda number=number: told.append(number))  # type: ignore[misc]
    first, second, third = (data for _, data in peer.asked)
    peer.pings.acknowledged(second)
    peer.pings.acknowledged(first)
    peer.pings.acknowledged(first)
    assert told == [1, 0]
    peer.pings.forget()
    peer.pings.acknowledged(third)
    assert told == [1, 0]
