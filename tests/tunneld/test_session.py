"""Sessions: how they live, notice a dead peer, drain, and end."""

import socket
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from frames import LocalProtocolError, Role, Setting
from frames.frame import PREFACE
from tests.tunneld.sessionpair import CONNECT, OK, open_pair
from tunneld.reactor import Reactor
from tunneld.session import Session, SessionError, window_budget
from tunneld.transport.plain import PlainTransport


async def test_a_request_is_answered() -> None:
    async with open_pair() as pair:
        front = pair.client.open(
            [(b":method", b"GET"), (b":scheme", b"x"), (b":path", b"/"), (b":authority", b"a")],
            end_stream=True,
        )
        await wait_all_tasks_blocked()
        (back, headers), *_ = pair.requests
        assert dict(headers)[b":path"] == b"/"
        back.reply(418, "a teapot", [(b"x-more", b"yes")])
        assert await front.read_body(100) == b"a teapot"
        assert front.response is not None
        assert front.response.status == 418
        assert front.response.headers["x-more"] == "yes"
        front.abort()
        assert (pair.client.ends, pair.server.ends) == ({}, {})


async def test_a_body_that_is_too_long_is_none() -> None:
    async with open_pair() as pair:
        front = pair.client.open(CONNECT)
        await wait_all_tasks_blocked()
        pair.requests[0][0].reply(500, "x" * 1000)
        assert await front.read_body(999) is None


async def test_a_body_that_is_cut_off_is_none() -> None:
    async with open_pair() as pair:
        front = pair.client.open(CONNECT)
        await wait_all_tasks_blocked()
        back, _ = pair.requests[0]
        back.respond(OK)
        back._session.connection.send_data(back.stream, b"half of")
        back.abort()
        assert await front.read_body(1000) is None
        assert front.lost == "stream reset by the other end (CONNECT_ERROR)"


async def test_the_round_trip_is_measured(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        assert pair.client.pings.rtt is None
        await trio.sleep(11)
        assert pair.client.pings.rtt == pytest.approx(0)


class RawPeer:
    """A server by hand: says SETTINGS, and answers PING until it dies."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.alive = True

    async def run(self) -> None:
        await self.stream.send_all(SETTINGS)
        await self._read(len(PREFACE))
        while True:
            header = await self._read(9)
            payload = await self._read(int.from_bytes(header[:3], "big"))
            if header[3] == PING and self.alive:
                await self.stream.send_all(header[:4] + b"\x01" + header[5:] + payload)

    async def _read(self, size: int) -> bytes:
        octets = b""
        while len(octets) < size:
            more = await self.stream.receive_some(size - len(octets))
            if not more:
                await trio.sleep_forever()
            octets += more
        return octets


PING = 6
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@pytest.fixture
async def raw(nursery: trio.Nursery) -> AsyncIterator[tuple[Session, RawPeer]]:
    """A session that is yet to be run, and its peer."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    reactor, peer = Reactor(), RawPeer(stream)
    nursery.start_soon(reactor.run)
    nursery.start_soon(peer.run)
    yield Session(reactor, PlainTransport(ours), Role.CLIENT, keepalive=KEEPALIVE), peer
    nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(stream)


KEEPALIVE = 8.0


@pytest.mark.parametrize("age", [0.0, 3.0, 7.99, 8.01, 28.0])
async def test_a_dead_peer_is_noticed_within_two_keepalives(
    raw: tuple[Session, RawPeer], nursery: trio.Nursery, autojump_clock: MockClock, age: float
) -> None:
    session, peer = raw
    started = trio.current_time()
    lost: list[float] = []

    async def die() -> None:
        await trio.sleep(age)
        peer.alive = False
        end = session.open(CONNECT)
        end.on_lost = lambda: lost.append(trio.current_time() - started)

    nursery.start_soon(die)
    with pytest.raises(SessionError, match="nothing heard for 8 s"):
        await session.run()
    assert age < lost[0] <= age + 2 * KEEPALIVE


async def test_a_peer_that_never_answers_does_not_keep_a_drain_for_ever(
    raw: tuple[Session, RawPeer], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    session, peer = raw
    peer.alive = False

    async def drain() -> None:
        session.drain()

    nursery.start_soon(drain)
    with pytest.raises(SessionError, match="nothing heard"):
        await session.run()


async def test_a_session_that_the_kernel_will_not_watch_is_closed() -> None:
    ours, theirs = socket.socketpair()
    reactor = Reactor()
    session = Session(reactor, PlainTransport(ours), Role.CLIENT)
    reactor.register(ours.fileno(), session, 0)  # so that it cannot be once more
    with pytest.raises(SessionError, match="cannot serve the connection: File exists"):
        await session.run()
    assert theirs.recv(1) == b""
    theirs.close()
    reactor.close()


async def test_a_peer_that_speaks_is_alive_however_long(autojump_clock: MockClock) -> None:
    async with open_pair(keepalive=1.0) as pair:
        await trio.sleep(100)
        assert pair.client.usable
        assert not pair.client_end.event.is_set()


async def test_what_came_while_we_slept_proves_the_peer_alive(mock_clock: MockClock) -> None:
    """As after a suspend: the timer is long due, and the answer lies unread in the socket."""
    async with open_pair(keepalive=10.0) as pair:
        await wait_all_tasks_blocked()
        for _ in range(5):
            mock_clock.jump(1000)
            await wait_all_tasks_blocked()
        assert pair.client.usable
        assert pair.server_end.event.is_set() is False


async def test_losing_the_peer_loses_every_stream() -> None:
    async with open_pair() as pair:
        streams = [await pair.open() for _ in range(3)]
        pair.server._transport.sock.shutdown(2)
        await pair.client_end.event.wait()
        assert pair.client_end.error == "the peer closed the connection"
        assert {front.lost for front, _ in streams} == {"the peer closed the connection"}
        assert not pair.client.usable
        with pytest.raises(LocalProtocolError):
            pair.client.open(CONNECT)


async def test_cancelling_cuts_it_off() -> None:
    async with open_pair() as pair:
        front, back = await pair.open()
        lost: list[bool] = []
        front.on_lost = lambda: lost.append(True)
        pair.nursery.cancel_scope.cancel()
    assert front.lost == "cancelled"
    assert back.lost is not None
    assert lost == [True]


async def test_garbage_ends_it_with_a_reason_for_both() -> None:
    async with open_pair() as pair:
        front, back = await pair.open()
        pair.client.connection.tx.append(b"\x00\x00\x08\x06\x00\x00\x00\x00\x01" + bytes(8))
        pair.client.kick()
        await pair.server_end.event.wait()
        await pair.client_end.event.wait()
        assert pair.server_end.error == "the peer broke the protocol: PING on stream 1"
        assert pair.client_end.error == "ended by the other end: PING on stream 1 (PROTOCOL_ERROR)"
        assert back.lost == pair.server_end.error
        assert front.lost == pair.client_end.error


async def test_refusing_a_peer_tells_it_why() -> None:
    async with open_pair() as pair:
        pair.client.refuse("not on the list")
        await pair.client_end.event.wait()
        await pair.server_end.event.wait()
        assert pair.server_end.error == "ended by the other end: not on the list (PROTOCOL_ERROR)"
        pair.client.refuse("twice is harmless")


async def test_an_error_of_ours_ends_the_session_alone() -> None:
    async with open_pair() as pair:

        def break_down(*args: object) -> None:
            raise ZeroDivisionError("division by zero")

        pair.on_request = break_down
        pair.client.open(CONNECT)
        await pair.server_end.event.wait()
        assert pair.server_end.error == "internal error: division by zero"
        await pair.client_end.event.wait()


# -- draining ---------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["client", "server"])
async def test_a_drain_without_streams_ends_both_in_peace(who: str) -> None:
    async with open_pair() as pair:
        getattr(pair, who).drain()
        assert getattr(pair, who).draining
        assert not getattr(pair, who).usable
        await pair.client_end.event.wait()
        await pair.server_end.event.wait()
        assert (pair.client_end.error, pair.server_end.error) == (None, None)


@pytest.mark.parametrize("who", ["client", "server"])
async def test_a_drain_lets_streams_finish(who: str) -> None:
    async with open_pair() as pair:
        carried = await pair.carry()
        getattr(pair, who).drain()
        await wait_all_tasks_blocked()
        assert pair.client.draining
        assert pair.server.draining
        with pytest.raises(LocalProtocolError):
            pair.client.open(CONNECT)
        await carried.near.send_all(b"question")
        assert await carried.far.receive_some() == b"question"
        await carried.far.send_all(b"answer")
        await carried.far.send_eof()
        assert await carried.near.receive_some() == b"answer"
        assert await carried.near.receive_some() == b""
        assert not pair.client_end.event.is_set()
        await carried.near.send_eof()
        await pair.client_end.event.wait()
        await pair.server_end.event.wait()
        assert (pair.client_end.error, pair.server_end.error) == (None, None)
        assert (carried.near_result.error, carried.far_result.error) == (None, None)


async def test_a_stream_that_crosses_the_drain_is_served() -> None:
    async with open_pair() as pair:
        await wait_all_tasks_blocked()
        pair.on_request = lambda end, headers: end.reply(200, "in time")
        pair.server.drain()
        front = pair.client.open(CONNECT)  # the GOAWAY is on its way
        assert await front.read_body(100) == b"in time"
        front.abort()
        await pair.client_end.event.wait()
        await pair.server_end.event.wait()
        assert (pair.client_end.error, pair.server_end.error) == (None, None)


@pytest.mark.parametrize("who", ["client", "server"])
async def test_the_last_octets_leave_before_a_drained_session_ends(who: str) -> None:
    """More than the sockets hold, to a peer that does not read yet."""
    async with open_pair() as pair:
        carried = await pair.carry()
        getattr(pair, who).drain()
        await wait_all_tasks_blocked()
        await carried.far.send_eof()
        assert await carried.near.receive_some() == b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_and_end, carried.near, bytes(3_000_000))
            await wait_all_tasks_blocked()
            got = 0
            async for data in carried.far:
                got += len(data)
        assert got == 3_000_000
        await pair.client_end.event.wait()
        await pair.server_end.event.wait()
        assert (pair.client_end.error, pair.server_end.error) == (None, None)


async def send_and_end(stream: trio.SocketStream, octets: bytes) -> None:
    await stream.send_all(octets)
    await stream.send_eof()


# -- what comes to an end although the session goes on, and the other way round ---------------


async def test_all_that_was_said_outlives_the_session() -> None:
    """The endpoint takes its time; the stream has long ended both ways."""
    before = window_budget.left
    async with open_pair() as pair:
        carried = await pair.carry()
        await carried.far.send_eof()
        assert await carried.near.receive_some() == b""
        octets = bytes(range(250)) * 1600  # 400 kB: more than a UNIX socket's buffer
        await carried.near.send_all(octets)
        await carried.near.send_eof()
        await carried.near_result.event.wait()
        await wait_all_tasks_blocked()
        assert not carried.far_result.event.is_set()
        pair.client._transport.sock.shutdown(2)
        await pair.server_end.event.wait()
        await pair.client_end.event.wait()
        got = bytearray()
        async for data in carried.far:
            got += data
        assert got == octets
        await carried.far_result.event.wait()
        assert carried.far_result.error is None
    assert window_budget.left == before


async def test_a_lost_session_resets_what_was_not_all_said() -> None:
    async with open_pair() as pair:
        carried = await pair.carry()
        await carried.near.send_all(bytes(400_000))
        await wait_all_tasks_blocked()
        pair.client._transport.sock.shutdown(2)
        await carried.far_result.event.wait()
        assert carried.far_result.error == "the peer closed the connection"
        assert carried.near_result.error == "the peer closed the connection"


async def test_windows_come_back_whatever_becomes_of_streams() -> None:
    before = window_budget.left
    async with open_pair() as pair:
        for number in range(12):
            carried = await pair.carry()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(carried.near.send_all, bytes(1_500_000))
                got = 0
                while got < 1_500_000:
                    got += len(await carried.far.receive_some())
            assert window_budget.left < before
            if number % 3 == 0:
                carried.near_half.relay.fail("broken")
            elif number % 3 == 1:
                carried.far_half.relay.fail("broken")
            else:
                await carried.near.send_eof()
                await carried.far.send_eof()
            await carried.near_result.event.wait()
            await carried.far_result.event.wait()
            assert window_budget.left == before
        assert (pair.client.ends, pair.server.ends) == ({}, {})
        assert (pair.client.connection.streams, pair.server.connection.streams) == ({}, {})


async def test_windows_come_back_when_the_session_is_lost() -> None:
    before = window_budget.left
    async with open_pair() as pair:
        carried = await pair.carry()
        await carried.near.send_all(bytes(200_000))
        while (await carried.far.receive_some(10_000)) and window_budget.left == before:
            pass
        pair.nursery.cancel_scope.cancel()
    assert window_budget.left == before


async def test_the_connection_window_is_shared_and_comes_back() -> None:
    """Streams whose readers stall use up nothing of the others'."""
    settings = {Setting.INITIAL_WINDOW_SIZE: 60_000}
    async with open_pair(receive_window=65_535, settings=settings) as pair:
        stalled = [await pair.carry() for _ in range(8)]
        async with trio.open_nursery() as nursery:
            for carried in stalled:
                nursery.start_soon(carried.near.send_all, bytes(2_000_000))
            carried = await pair.carry()
            nursery.start_soon(send_and_end, carried.near, bytes(1_000_000))
            got = 0
            async for data in carried.far:
                got += len(data)
            assert got == 1_000_000
            for carried in stalled:
                nursery.start_soon(read, carried.far, 2_000_000)


async def read(stream: trio.SocketStream, size: int) -> None:
    while size:
        data = await stream.receive_some(100_000)
        assert data
        size -= len(data)
