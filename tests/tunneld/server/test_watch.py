"""Watching a client while its dial is pending."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.tunneld.transport.pairs import reset, tcp_pair
from tunneld.server.watch import watching
from tunneld.transport.plain import PlainTransport
from tunneld.transport.stream import TransportStream


@pytest.fixture
def pair() -> tuple[TransportStream, TransportStream]:
    first, second = map(TransportStream, map(PlainTransport, tcp_pair()))
    return first, second


async def test_what_the_client_sends_meanwhile_is_kept_in_order(
    pair: tuple[TransportStream, TransportStream],
) -> None:
    ours, theirs = pair
    ours.unread(b"first ")
    async with watching(ours) as watch:
        await wait_all_tasks_blocked()
        await theirs.send_all(b"second ")
        await wait_all_tasks_blocked()
        await theirs.send_all(b"third")
        await wait_all_tasks_blocked()
        await watch.stop()
        assert ours.take_early() == b"first second third"
        await theirs.send_all(b" fourth")
        assert await ours.receive_some() == b" fourth"
    await ours.aclose()
    await theirs.aclose()


async def test_it_reads_ahead_in_bounds(pair: tuple[TransportStream, TransportStream]) -> None:
    ours, theirs = pair
    octets = bytes(range(256)) * 8192
    async with watching(ours) as watch, trio.open_nursery() as nursery:
        nursery.start_soon(theirs.send_all, octets)
        await wait_all_tasks_blocked()
        await watch.stop()
        early = ours.take_early()
        assert 64 * 1024 <= len(early) <= 128 * 1024
        got = bytearray(early)
        while len(got) < len(octets):
            got += await ours.receive_some()
    assert got == octets
    await ours.aclose()
    await theirs.aclose()


async def test_a_lost_client_cancels_the_block(
    pair: tuple[TransportStream, TransportStream],
) -> None:
    ours, theirs = pair
    reached = False
    async with watching(ours):
        reset(theirs.transport.sock)
        await trio.sleep_forever()
        reached = True
    assert not reached
    await ours.aclose()


async def test_a_client_that_half_closes_is_not_lost(
    pair: tuple[TransportStream, TransportStream],
) -> None:
    ours, theirs = pair
    async with watching(ours) as watch:
        await theirs.send_all(b"all I have to say")
        await theirs.send_eof()
        await wait_all_tasks_blocked()
        await watch.stop()
        assert await ours.receive_some() == b"all I have to say"
        assert await ours.receive_some() == b""
        await ours.send_all(b"answer")
    assert await theirs.receive_some() == b"answer"
    await ours.aclose()
    await theirs.aclose()


async def test_an_error_in_the_block_comes_out_as_it_is(
    pair: tuple[TransportStream, TransportStream],
) -> None:
    ours, theirs = pair
    with pytest.raises(ZeroDivisionError):
        async with watching(ours):
            raise ZeroDivisionError
    await ours.aclose()
    await theirs.aclose()
