"""Octets between a carrier and a socket pair: ends, aborts, and peers that say nothing."""

import socket

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.tunneld.transport.pairs import reset, tcp_pair
from tunneld.transport.plain import PlainTransport
from tunneld.transport.pump import AHEAD, GRACE, last_words, pump, socket_pair, tune_carrier
from tunneld.transport.stream import TransportStream


class Pumped:
    """A pump between a TCP connection and a socket pair, with a stream at either far end."""

    def __init__(self, nursery: trio.Nursery) -> None:
        far, near = tcp_pair()
        inner, ours = socket_pair()
        self.far_socket, self.inner_socket = far, inner
        self.far = TransportStream(PlainTransport(far))
        self.inner = TransportStream(PlainTransport(inner))
        self.carrier = TransportStream(PlainTransport(near))
        self.broken: str | None = ""
        self.done = trio.Event()
        nursery.start_soon(self._run, ours)

    async def _run(self, ours: socket.socket) -> None:
        try:
            self.broken = await pump(self.carrier, ours)
        finally:
            self.done.set()

    def close(self) -> None:
        self.far.close()
        self.inner.close()


@pytest.fixture
async def pumped(nursery: trio.Nursery) -> Pumped:
    return Pumped(nursery)


async def receive_all(stream: TransportStream) -> bytes:
    octets = b""
    while data := await stream.receive_some():
        octets += data
    return octets


async def test_octets_and_ends_go_both_ways(pumped: Pumped) -> None:
    with trio.fail_after(5):
        await pumped.far.send_all(b"in")
        await pumped.far.send_eof()
        assert await receive_all(pumped.inner) == b"in"
        await pumped.inner.send_all(b"and out")
        await pumped.inner.send_eof()
        assert await receive_all(pumped.far) == b"and out"
        await pumped.done.wait()
    assert pumped.broken is None
    pumped.close()


async def test_much_goes_both_ways_at_once(pumped: Pumped) -> None:
    octets = bytes(range(256)) * 8192
    received: dict[str, bytes] = {}

    async def send(stream: TransportStream) -> None:
        await stream.send_all(octets)

    async def receive(name: str, stream: TransportStream) -> None:
        data = b""
        while len(data) < len(octets):
            data += await stream.receive_some()
        received[name] = data

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, pumped.far)
            nursery.start_soon(send, pumped.inner)
            nursery.start_soon(receive, "far", pumped.far)
            nursery.start_soon(receive, "inner", pumped.inner)
    assert received == {"far": octets, "inner": octets}
    pumped.close()
    await pumped.done.wait()


async def test_a_stalled_reader_stops_the_sender(pumped: Pumped) -> None:
    """What is held on the way is bounded, by what the kernel keeps of sockets."""
    sent = 0
    with trio.move_on_after(5):
        while sent < 64 << 20:
            with trio.move_on_after(0.2) as stuck:
                await pumped.inner.send_all(bytes(65536))
            if stuck.cancelled_caught:
                break
            sent += 65536
    assert sent < 32 << 20
    pumped.far.abort()
    pumped.inner.abort()
    with trio.fail_after(5):
        await pumped.done.wait()


async def test_a_reset_of_the_carrier_ends_the_pair_without_delay(pumped: Pumped) -> None:
    await pumped.far.send_all(b"cut")
    with trio.fail_after(5):
        assert await pumped.inner.receive_some() == b"cut"
        reset(pumped.far_socket)
        assert await receive_all(pumped.inner) == b""
        await pumped.done.wait()
    assert pumped.broken == "[Errno 104] Connection reset by peer"
    pumped.close()


async def test_closing_the_pair_with_octets_unread_resets_the_carrier(pumped: Pumped) -> None:
    await pumped.far.send_all(b"never read")
    with trio.fail_after(5):
        await trio.lowlevel.wait_readable(pumped.inner_socket)
        pumped.inner.close()
        await pumped.done.wait()
        with pytest.raises(trio.BrokenResourceError):
            await receive_all(pumped.far)
    pumped.close()


async def test_a_peer_that_never_ends_is_given_up(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        pumped = Pumped(nursery)
        pumped.inner.close()
        assert await receive_all(pumped.far) == b""
        await pumped.done.wait()
    assert trio.current_time() == GRACE
    pumped.close()


async def test_cancelling_closes_both(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        pumped = Pumped(nursery)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with pytest.raises(trio.BrokenResourceError):
        await pumped.far.receive_some()
    assert await pumped.inner.receive_some() == b""
    pumped.close()


async def test_little_waits_unsent_in_the_kernel() -> None:
    first, second = tcp_pair()
    inner, ours = socket_pair()
    for sock in (first, inner):
        tune_carrier(sock)
    assert first.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == AHEAD
    for sock in (first, second, inner, ours):
        sock.close()


async def test_last_words_outlast_a_cancellation(autojump_clock: MockClock) -> None:
    ended_at = None
    with trio.CancelScope() as outer:
        async with last_words(3.0) as scope:
            scope.shield = True
            outer.cancel()
            try:
                await trio.sleep_forever()
            finally:
                ended_at = trio.current_time()
    assert ended_at == 3.0


async def test_without_a_shield_a_cancellation_comes_at_once(autojump_clock: MockClock) -> None:
    with trio.CancelScope() as outer:
        async with last_words(3.0):
            outer.cancel()
            await trio.sleep_forever()
    assert trio.current_time() == 0


async def test_last_words_that_are_said_early_end_early(autojump_clock: MockClock) -> None:
    async with last_words(3.0) as scope:
        scope.shield = True
        await trio.sleep(1)
    assert trio.current_time() == 1
