"""Relays: whatever happens at their ends, octets arrive whole and in order, or an error does."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.tunneld.sessionpair import Ended, SessionPair, open_pair, run_relay
from tests.tunneld.transport.pairs import tcp_pair, tls_pair
from tunneld.pace import Paces
from tunneld.pacedend import paced
from tunneld.relay import FrameEnd, Relay, RelayError
from tunneld.session import window_budget
from tunneld.socketend import SocketEnd
from tunneld.transport.base import Transport
from tunneld.transport.plain import PlainTransport
from tunneld.transport.stream import TransportStream

BANDWIDTH = 10_000_000
"""Of slow connections: a turn takes a few milliseconds."""
PATTERN = bytes(range(251)) * 4200
"""About 1 MiB in which no two places a little apart are alike."""


@dataclass
class Way:
    """A relay, and the stream at its outer end."""

    stream: TransportStream
    relay: Relay
    result: Ended = field(default_factory=Ended)


def way_over(pair: SessionPair, end: FrameEnd, outer: Transport, inner: Transport) -> Way:
    way = Way(TransportStream(outer), Relay(SocketEnd(pair.reactor, inner, "socket"), end))
    pair.nursery.start_soon(run_relay, way.relay, way.result)
    return way


@asynccontextmanager
async def carried(kind: str, pki: Path) -> AsyncIterator[tuple[Way, Way, SessionPair]]:
    """From a client by TCP, TLS, or a stream of another session, to an endpoint by TCP."""
    protocol, _, slow = kind.partition(", ")
    async with open_pair() as pair:
        front, back = await pair.open()
        before: FrameEnd = paced(front, [Paces(pair.reactor, BANDWIDTH)] if slow else [])
        if protocol == "h2":
            other = SessionPair(pair.nursery, pair.reactor)
            await other.start()
            near_end, middle = await other.open()
            pair.nursery.start_soon(run_relay, Relay(middle, before), Ended())
            before = near_end
        if protocol == "tls":
            inner, outer = tls_pair(pki, fin_is_end=True)
            near = way_over(pair, before, outer, inner)
        else:
            near = way_over(pair, before, *map(PlainTransport, tcp_pair()))
        far = way_over(pair, back, *map(PlainTransport, tcp_pair()))
        yield near, far, pair
        await near.stream.aclose()
        await far.stream.aclose()


@dataclass
class Side:
    """What one peer did, and what came to it."""

    stream: TransportStream
    sent: int = 0
    state: str = "open"
    got: bytearray = field(default_factory=bytearray)
    outcome: str = ""

    async def do(self, action: str, size: int) -> None:
        if self.state != "open" and action != "read":
            return
        try:
            if action == "write":
                start = self.sent % 251
                await self.stream.send_all(PATTERN[start : start + size])
                self.sent += size
            elif action == "end":
                self.state = "ended"
                await self.stream.send_eof()
            elif action == "reset":
                self.state = "reset"
                self.stream.abort()
            elif not self.outcome:
                await self.read(size)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.state = "broken"
            # It has been told. Linux tells it once: what is read then looks like an end.
            self.outcome = self.outcome or "error"

    async def read(self, size: int) -> None:
        with trio.move_on_after(0.001):
            try:
                data = await self.stream.receive_some(size)
            except trio.BrokenResourceError:
                self.outcome = "error"
            except trio.ClosedResourceError:
                self.outcome = "closed"
            else:
                self.got += data
                self.outcome = "" if data else "end"

    async def finish(self) -> None:
        await self.do("end", 0)
        while not self.outcome:
            await self.read(100_000)


ACTIONS = st.tuples(
    st.integers(0, 1),
    st.sampled_from(["write"] * 6 + ["read"] * 4 + ["end", "reset"]),
    st.sampled_from([1, 100, 5_000, 70_000, 400_000]),
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    kind=st.sampled_from(["tcp", "tls", "h2", "tcp, slow", "h2, slow"]),
    actions=st.lists(ACTIONS, max_size=14),
)
def test_octets_arrive_whole_or_an_error_does(
    pki: Path, kind: str, actions: list[tuple[int, str, int]]
) -> None:
    async def play() -> None:
        async with carried(kind, pki) as (near, far, pair):
            sides = (Side(near.stream), Side(far.stream))
            with trio.move_on_after(8):
                for who, action, size in actions:
                    with trio.move_on_after(0.02) as blocked:
                        await sides[who].do(action, size)
                    if blocked.cancelled_caught:
                        sides[who].sent += size - sides[who].stream.transport.unsent
                        sides[who].state = "cut" if action == "write" else sides[who].state
                        if sides[who].state == "cut":
                            sides[who].stream.abort()
                async with trio.open_nursery() as nursery:
                    for side in sides:
                        nursery.start_soon(side.finish)
            for sender, receiver in (sides, sides[::-1]):
                judge(sender, receiver)
            await near.result.event.wait()
            await far.result.event.wait()
            assert (pair.client.ends, pair.server.ends) == ({}, {})
        assert window_budget.left == before

    before = window_budget.left
    trio.run(play)


def judge(sender: Side, receiver: Side) -> None:
    whole = expected(sender.sent)
    assert receiver.outcome, "neither an end nor an error within 8 s"
    assert whole.startswith(receiver.got) or sender.state == "cut"
    if receiver.outcome == "end":
        assert sender.state == "ended"
        assert receiver.got == whole
    if {sender.state, receiver.state} == {"ended"}:
        assert receiver.outcome == "end"


def expected(size: int) -> bytes:
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


# -- one at a time ----------------------------------------------------------------------------


async def test_a_relay_that_fails_resets_both_ends(pki: Path) -> None:
    async with carried("tcp", pki) as (near, far, _):
        await near.stream.send_all(b"x")
        assert await far.stream.receive_some() == b"x"
        near.relay.fail("cancelled")
        with pytest.raises(trio.BrokenResourceError):
            await near.stream.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await far.stream.receive_some()
        await far.result.event.wait()
        assert far.result.error == "stream reset by the other end (CONNECT_ERROR)"


async def test_cancelling_run_resets_both_ends(pki: Path) -> None:
    async with open_pair() as pair:
        front, back = await pair.open()
        outer, inner = map(PlainTransport, tcp_pair())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Relay(SocketEnd(pair.reactor, inner, "client"), front).run)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with pytest.raises(ConnectionResetError):
            outer.receive_into(memoryview(bytearray(1)))
        await wait_all_tasks_blocked()
        assert back.lost is not None
        outer.close()


async def test_the_first_error_counts(pki: Path) -> None:
    async with carried("tcp", pki) as (near, _, _pair):
        await wait_all_tasks_blocked()
        near.relay.fail("first")
        near.relay.fail("second")
        await near.result.event.wait()
        assert near.result.error == "first"


async def test_a_relay_on_a_lost_stream_ends_at_once() -> None:
    async with open_pair() as pair:
        front, back = await pair.open()
        back.abort()
        await wait_all_tasks_blocked()
        outer, inner = map(PlainTransport, tcp_pair())
        with pytest.raises(RelayError, match="reset by the other end"):
            await Relay(SocketEnd(pair.reactor, inner, "client"), front).run()
        outer.close()


async def test_octets_from_before_the_relay_and_a_reset_are_carried() -> None:
    async with open_pair() as pair:
        front, back = await pair.open()
        pair.server.connection.send_data(back.stream, b"last words")
        back.abort()
        await wait_all_tasks_blocked()
        outer, inner = map(PlainTransport, tcp_pair())
        with pytest.raises(RelayError):
            await Relay(SocketEnd(pair.reactor, inner, "client"), front).run()
        stream = TransportStream(outer)
        assert await stream.receive_some() == b"last words"
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await stream.aclose()


async def test_a_reset_with_octets_that_find_no_room_is_told_in_time(
    autojump_clock: MockClock,
) -> None:
    """The far reader stalls, the near sender is reset: what is unread cannot hold it up."""
    async with open_pair() as pair:
        front, back = await pair.open()
        near_outer, near_inner = map(PlainTransport, tcp_pair())
        near = way_over(pair, front, near_outer, near_inner)
        far = way_over(pair, back, *map(PlainTransport, tcp_pair()))
        with trio.move_on_after(1):
            await near.stream.send_all(bytes(50_000_000))
        near.stream.abort()
        started = trio.current_time()
        await near.result.event.wait()
        await far.result.event.wait()
        assert trio.current_time() - started <= 1.01
        assert near.result.error == "socket: Connection reset by peer"
        await far.stream.aclose()


@pytest.mark.parametrize("kind", ["tcp", "tls", "h2"])
async def test_many_octets_cross_while_both_ends_dawdle(kind: str, pki: Path) -> None:
    async with carried(kind, pki) as (near, far, _), trio.open_nursery() as nursery:

        async def talk(way: Way) -> None:
            await way.stream.send_all(PATTERN * 3)
            await way.stream.send_eof()

        async def listen(way: Way, wait: Callable[[], float]) -> None:
            got = bytearray()
            while data := await way.stream.receive_some(30_000):
                got += data
                for _ in range(int(wait())):
                    await trio.lowlevel.checkpoint()
            assert got == PATTERN * 3

        for way in (near, far):
            nursery.start_soon(talk, way)
            nursery.start_soon(listen, way, lambda: 5)
