"""A stream as one end of a relay: what is kept before it starts, holds, and replies."""

import trio
from trio.testing import wait_all_tasks_blocked

from frames import ErrorCode, Setting
from tests.tunneld.sessionpair import (
    CONNECT,
    OK,
    Carried,
    Ended,
    Half,
    SessionPair,
    open_pair,
    run_relay,
)
from tunneld.relay import Relay


async def test_what_comes_before_the_relay_is_kept_for_it() -> None:
    async with open_pair() as pair:
        front, back = await pair.open()
        pair.server.connection.send_data(back.stream, b"early ")
        pair.server.kick()
        await wait_all_tasks_blocked()
        carried = Carried(pair, front, back)
        await carried.far.send_all(b"late")
        got = b""
        while len(got) < 10:
            got += await carried.near.receive_some()
        assert got == b"early late"


async def test_an_end_that_came_with_the_head_is_one() -> None:
    async with open_pair() as pair:
        front = pair.client.open(CONNECT, end_stream=True)
        await wait_all_tasks_blocked()
        back, _ = pair.requests.pop()
        assert back.respond(OK)
        far = Half(pair, back)
        assert await far.stream.receive_some() == b""
        near = Half(pair, front)
        front.finish()
        await far.stream.send_all(b"an answer all the same")
        assert await near.stream.receive_some() == b"an answer all the same"


# -- holding back -----------------------------------------------------------------------------


async def held(pair: SessionPair, early: int = 0) -> tuple[Carried, trio.SocketStream]:
    """A connection whose endpoint has spoken first, and is held back."""
    front, back = await pair.open()
    front.hold(early)
    carried = Carried(pair, front, back)
    await carried.far.send_all(b"banner")
    await wait_all_tasks_blocked()
    return carried, carried.near


async def is_silent(stream: trio.SocketStream) -> bool:
    with trio.move_on_after(0):
        await stream.receive_some()
        return False
    return True


async def test_what_is_held_comes_when_it_is_released() -> None:
    async with open_pair() as pair:
        carried, near = await held(pair)
        assert await is_silent(near)
        carried.front.release()
        carried.front.release()
        assert await near.receive_some() == b"banner"


async def test_a_client_that_speaks_needs_no_hold() -> None:
    async with open_pair() as pair:
        _, near = await held(pair)
        await near.send_all(b"hello")
        assert await near.receive_some() == b"banner"


async def test_what_a_client_had_sent_before_does_not_end_the_hold() -> None:
    """It cannot have read the reply when it sent that."""
    async with open_pair() as pair:
        _, near = await held(pair, early=5)
        await near.send_all(b"early")
        await wait_all_tasks_blocked()
        assert await is_silent(near)
        await near.send_all(b"!")
        assert await near.receive_some() == b"banner"


async def test_a_reset_waits_behind_what_is_held_until_its_time() -> None:
    async with open_pair() as pair:
        carried, near = await held(pair)
        carried.far_half.relay.fail("broken")
        await wait_all_tasks_blocked()
        assert not carried.near_result.event.is_set()
        carried.front.release()
        assert await near.receive_some() == b"banner"
        await carried.near_result.event.wait()
        assert carried.near_result.error == "stream reset by the other end (CONNECT_ERROR)"


async def test_a_hold_that_ends_before_the_relay_starts_is_none() -> None:
    async with open_pair() as pair:
        front, back = await pair.open()
        front.hold(0)
        front.release()
        carried = Carried(pair, front, back)
        await carried.far.send_all(b"banner")
        assert await carried.near.receive_some() == b"banner"


# -- without a relay --------------------------------------------------------------------------


async def test_a_reply_larger_than_the_window_is_sent_bit_by_bit() -> None:
    async with open_pair(settings={Setting.INITIAL_WINDOW_SIZE: 1_000}) as pair:
        front = pair.client.open(CONNECT)
        await wait_all_tasks_blocked()
        back, _ = pair.requests.pop()
        back.reply(500, "x" * 5_000)
        await wait_all_tasks_blocked()
        for _ in range(5):
            pair.client.connection.consume(front.stream, 1_000)
            pair.client.kick()
            await wait_all_tasks_blocked()
        assert await front.read_body(5_000) == b"x" * 5_000
        assert pair.server.ends == {}


async def test_a_reply_ends_a_request_that_goes_on() -> None:
    async with open_pair() as pair:
        front = pair.client.open(CONNECT)
        await wait_all_tasks_blocked()
        back, _ = pair.requests.pop()
        back.reply(500, "no")
        assert await front.read_body(100) == b"no"
        await wait_all_tasks_blocked()
        assert (pair.server.ends, pair.server.connection.streams) == ({}, {})
        assert front.lost == "stream reset by the other end (NO_ERROR)"


async def test_replies_to_a_lost_stream_are_dropped() -> None:
    async with open_pair() as pair:
        front, back = await pair.open()
        front.reset(ErrorCode.CANCEL)
        await wait_all_tasks_blocked()
        assert back.lost == "stream reset by the other end (CANCEL)"
        assert not back.respond(OK)
        back.reply(500, "nobody hears this")
        back.finish()
        back.abort()
        assert pair.server.ends == {}


async def test_a_lost_stream_is_told_once() -> None:
    async with open_pair() as pair:
        front, back = await pair.open()
        calls: list[str] = []
        front.on_lost = lambda: calls.append(str(front.lost))
        back.abort()
        await wait_all_tasks_blocked()
        front.set_lost("again")
        assert calls == ["stream reset by the other end (CONNECT_ERROR)"]


# -- from stream to stream --------------------------------------------------------------------


async def test_octets_between_streams_wait_in_bounds_and_are_credited_as_they_go() -> None:
    """A client by HTTP/2 pushes; the tunnel's stream has no window left."""
    async with open_pair() as pair:
        tunnel = SessionPair(pair.nursery, pair.reactor)
        await tunnel.start()
        outer, middle = await pair.open()
        inner, back = await tunnel.open()
        pair.nursery.start_soon(run_relay, Relay(middle, inner), Ended())
        near = Half(pair, outer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_and_end, near.stream, bytes(20_000_000))
            await wait_all_tasks_blocked()
            assert len(back._early) == back.stream.window_size
            assert 0 < len(inner._outbox) <= middle.stream.window_size
            got = 0
            async for data in Half(tunnel, back).stream:
                got += len(data)
        assert got == 20_000_000
    for stream in tunnel.outer:
        await trio.aclose_forcefully(stream)


async def send_and_end(stream: trio.SocketStream, octets: bytes) -> None:
    await stream.send_all(octets)
    await stream.send_eof()
