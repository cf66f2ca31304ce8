"""Relays that go no faster than they may: nothing is lost, and what waits is little."""

from typing import cast

import pytest
import trio
from trio.testing import MockClock

from tests.tunneld.sessionpair import Carried, SessionPair, open_pair
from tunneld.pace import Paces
from tunneld.pacedend import PacedEnd, paced
from tunneld.streamend import StreamEnd

RATE = 400_000
OCTETS = bytes(range(256)) * 8_192
"""2 MiB."""


async def carry(pair: SessionPair, paces: list[Paces]) -> tuple[Carried, PacedEnd]:
    """As `SessionPair.carry`, slowed down at the near end, where the server has its."""
    front, back = await pair.open()
    end = paced(front, paces)
    assert isinstance(end, PacedEnd)
    carried = Carried(pair, cast(StreamEnd, end), back)
    return carried, end


async def receive(stream: trio.SocketStream) -> bytes:
    got = bytearray()
    async for data in stream:
        got += data
    return bytes(got)


async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> tuple[bytes, float]:
    """What came of `OCTETS` and their end, and the seconds that it took."""
    began = trio.current_time()

    async def send() -> None:
        await source.send_all(OCTETS)
        await source.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        got = await receive(sink)
    return got, trio.current_time() - began


@pytest.mark.parametrize("way", ["to the agent", "from the agent"])
async def test_it_takes_as_long_as_it_must(way: str, autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        carried, _ = await carry(pair, [Paces(pair.reactor, RATE)])
        ends = (carried.near, carried.far)
        source, sink = ends if way == "to the agent" else reversed(ends)
        got, seconds = await pump(source, sink)
        assert got == OCTETS
        assert seconds == pytest.approx(len(OCTETS) / RATE, rel=0.1)
        await sink.send_eof()
        assert await receive(source) == b""
        await carried.near_result.event.wait()
        assert carried.near_result.error is None


async def test_what_waits_in_memory_is_a_window_at_most(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        carried, end = await carry(pair, [Paces(pair.reactor, 10_000)])
        with trio.move_on_after(5):
            await carried.far.send_all(OCTETS * 2)
        assert end._back is not None
        assert end._back.waits
        assert end._back.backlog <= 256 * 1024


async def test_connections_of_one_client_share_its_bandwidth(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        paces = Paces(pair.reactor, RATE)
        some = [(await carry(pair, [paces]))[0] for _ in range(4)]
        times: list[float] = []

        async def down(carried: Carried) -> None:
            got, seconds = await pump(carried.far, carried.near)
            assert got == OCTETS
            times.append(seconds)

        async with trio.open_nursery() as nursery:
            for carried in some:
                nursery.start_soon(down, carried)
        assert max(times) == pytest.approx(4 * len(OCTETS) / RATE, rel=0.1)
        assert min(times) > max(times) * 0.9, "they go equally fast"


async def test_both_directions_have_the_bandwidth_each(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        carried, _ = await carry(pair, [Paces(pair.reactor, RATE)])
        times: list[float] = []

        async def one(source: trio.SocketStream, sink: trio.SocketStream) -> None:
            got, seconds = await pump(source, sink)
            assert got == OCTETS
            times.append(seconds)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, carried.near, carried.far)
            nursery.start_soon(one, carried.far, carried.near)
        assert times == [pytest.approx(len(OCTETS) / RATE, rel=0.1)] * 2


async def test_a_client_that_leaves_is_not_waited_for(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        paces = Paces(pair.reactor, RATE)
        leaves, stays = (await carry(pair, [paces]))[0], (await carry(pair, [paces]))[0]
        with trio.move_on_after(1):
            await leaves.far.send_all(OCTETS)
        await leaves.near.aclose()
        await leaves.near_result.event.wait()
        got, seconds = await pump(stays.far, stays.near)
        assert got == OCTETS
        assert seconds == pytest.approx(len(OCTETS) / RATE, rel=0.1)
        assert not paces.from_agent.waiting


async def test_without_a_limit_nothing_stands_between() -> None:
    async with open_pair() as pair:
        front, _ = await pair.open()
        assert paced(front, []) is front
