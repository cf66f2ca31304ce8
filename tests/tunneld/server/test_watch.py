"""Watching a client while its dial is pending."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.tunneld.transport.pairs import reset, tcp_pair, tls_pair
from tunneld.reactor import Reactor
from tunneld.server.watch import watching
from tunneld.transport.plain import PlainTransport
from tunneld.transport.stream import TransportStream

Pair = tuple[TransportStream, TransportStream]


@pytest.fixture
async def reactor(nursery: trio.Nursery) -> AsyncIterator[Reactor]:
    made = Reactor()
    nursery.start_soon(made.run)
    yield made
    assert made.served == 0
    nursery.cancel_scope.cancel()


@pytest.fixture(params=["tcp", "tls"])
def pair(request: pytest.FixtureRequest, pki: Path) -> Pair:
    transports = tls_pair(pki) if request.param == "tls" else map(PlainTransport, tcp_pair())
    first, second = map(TransportStream, transports)
    return first, second


async def test_what_the_client_sends_meanwhile_is_kept_in_order(
    reactor: Reactor, pair: Pair
) -> None:
    ours, theirs = pair
    ours.unread(b"first ")
    with watching(reactor, ours) as watch:
        await wait_all_tasks_blocked()
        await theirs.send_all(b"second ")
        await wait_all_tasks_blocked()
        await theirs.send_all(b"third")
        await wait_all_tasks_blocked()
        watch.stop()
        assert ours.take_early() == b"first second third"
        await theirs.send_all(b" fourth")
        assert await ours.receive_some() == b" fourth"
    await ours.aclose()
    await theirs.aclose()


async def test_it_reads_ahead_in_bounds(reactor: Reactor, pair: Pair) -> None:
    ours, theirs = pair
    octets = bytes(range(256)) * 8192
    async with trio.open_nursery() as nursery:
        with watching(reactor, ours) as watch:
            nursery.start_soon(theirs.send_all, octets)
            await wait_all_tasks_blocked()
            watch.stop()
        early = ours.take_early()
        assert len(early) == 64 * 1024
        got = bytearray(early)
        while len(got) < len(octets):
            got += await ours.receive_some()
    assert got == octets
    await ours.aclose()
    await theirs.aclose()


async def test_a_lost_client_cancels_the_block(reactor: Reactor, pair: Pair) -> None:
    ours, theirs = pair
    reached = False
    with watching(reactor, ours):
        reset(theirs.transport.sock)
        await trio.sleep_forever()
        reached = True
    assert not reached
    await ours.aclose()


async def test_a_client_that_half_closes_is_not_lost(reactor: Reactor, pair: Pair) -> None:
    ours, theirs = pair
    with watching(reactor, ours) as watch:
        await theirs.send_all(b"all I have to say")
        await theirs.send_eof()
        await wait_all_tasks_blocked()
        watch.stop()
        assert await ours.receive_some() == b"all I have to say"
        assert await ours.receive_some() == b""
        await ours.send_all(b"answer")
    assert await theirs.receive_some() == b"answer"
    await ours.aclose()
    await theirs.aclose()


async def test_a_reset_behind_the_end_is_a_loss(reactor: Reactor, pair: Pair) -> None:
    ours, theirs = pair
    with trio.fail_after(5), watching(reactor, ours):
        await theirs.send_eof()
        await wait_all_tasks_blocked()
        reset(theirs.transport.sock)
        await trio.sleep_forever()
    await ours.aclose()


async def test_what_a_client_sent_that_has_closed_is_kept(reactor: Reactor) -> None:
    """A UNIX socket tells of a close by a hang-up, which would be reported for ever."""
    first, second = socket.socketpair()
    first.setblocking(False)
    stream = TransportStream(PlainTransport(first))
    with watching(reactor, stream) as watch:
        second.send(b"all there is")
        second.close()
        await wait_all_tasks_blocked()
        assert reactor.served == 0
        watch.stop()
    assert stream.take_early() == b"all there is"
    stream.close()


async def test_an_error_in_the_block_comes_out_as_it_is(reactor: Reactor, pair: Pair) -> None:
    ours, theirs = pair
    with pytest.raises(ZeroDivisionError), watching(reactor, ours):
        raise ZeroDivisionError
    await ours.aclose()
    await theirs.aclose()


async def test_a_client_that_has_closed_without_a_word_is_lost(reactor: Reactor) -> None:
    """Which shows over a UNIX socket alone."""
    first, second = socket.socketpair()
    first.setblocking(False)
    with trio.fail_after(5), watching(reactor, TransportStream(PlainTransport(first))):
        await wait_all_tasks_blocked()
        second.close()
        await trio.sleep_forever()
    assert reactor.served == 0
    first.close()
