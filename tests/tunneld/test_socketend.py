"""A socket as one end of a relay: what it reads, what it takes, and how it says goodbye."""

import os
import socket
import struct
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.tunneld.sessionpair import Ended, run_relay
from tests.tunneld.transport.pairs import reset, tcp_pair
from tunneld.reactor import Reactor
from tunneld.relay import End, Relay, Source
from tunneld.socketend import SocketEnd
from tunneld.transport.plain import PlainTransport

RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class MemoryEnd:
    """The other end: takes what there is room for, and notes everything."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.limit = 1 << 30
        """Octets that it takes in all."""
        self.frame = 1 << 20
        self.ended = 0
        self.credited = 0
        self.state = "attached"
        self.waiting: Source | None = None
        self._view = memoryview(bytearray(1 << 20))
        self._relay: Relay
        self._peer: End

    def attach(self, relay: Relay, peer: End) -> None:
        self._relay, self._peer = relay, peer

    def start(self) -> None:
        self.state = "started"

    def room(self, source: Source) -> int:
        room = min(self.frame, self.limit - len(self.got))
        if not room:
            self.waiting = source
        return room

    def view(self, size: int) -> memoryview:
        return self._view[:size]

    def commit(self, size: int) -> None:
        self.got += self._view[:size]

    def finish(self) -> None:
        self.ended += 1
        self._relay.way_ended()

    def credit(self, size: int) -> None:
        self.credited += size

    def deliver(self, data: memoryview, end: bool) -> None:
        raise NotImplementedError("sockets push nothing")

    @property
    def has_all(self) -> bool:
        return False

    def close(self) -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"

    @property
    def carried(self) -> int:
        return len(self.got)

    @property
    def backlog(self) -> int:
        return 0

    @property
    def waits(self) -> bool:
        return self.waiting is not None

    # -- by the test --------------------------------------------------------------------------

    def push(self, octets: bytes, *, end: bool = False) -> None:
        self._peer.deliver(memoryview(octets), end)

    def take(self, size: int) -> None:
        """Have room for so much more."""
        self.limit = len(self.got) + size
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.resume()


class World:
    def __init__(self, early: bytes, memory: MemoryEnd) -> None:
        self.reactor = Reactor()
        self.socket, inner = tcp_pair()
        self.fd = inner.fileno()
        self.memory = memory
        self.end = SocketEnd(self.reactor, PlainTransport(inner), "client", early)
        self.result = Ended()

    def read(self) -> bytes:
        """What the socket's user finds."""
        got = b""
        try:
            while data := self.socket.recv(1 << 20):
                got += data
        except BlockingIOError:
            return got
        return got + b"|end"


@asynccontextmanager
async def relay(early: bytes = b"", memory: MemoryEnd | None = None) -> AsyncIterator[World]:
    """A relay between a socket and memory, under way."""
    world = World(early, memory or MemoryEnd())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reactor.run)
        nursery.start_soon(run_relay, Relay(world.end, world.memory), world.result)
        await wait_all_tasks_blocked()
        yield world
        nursery.cancel_scope.cancel()
    assert world.reactor.served == 0
    world.reactor.close()
    world.socket.close()


async def test_octets_go_both_ways() -> None:
    async with relay() as world:
        assert world.memory.state == "started"
        world.socket.send(b"question")
        await wait_all_tasks_blocked()
        assert world.memory.got == b"question"
        world.memory.push(b"answer")
        assert world.read() == b"answer"
        assert (world.end.read, world.end.written, world.memory.credited) == (8, 6, 6)


async def test_early_octets_come_first_in_pieces_that_fit() -> None:
    memory = MemoryEnd()
    memory.frame = 4
    async with relay(b"early octets ", memory) as world:
        world.socket.send(b"and late ones")
        await wait_all_tasks_blocked()
        assert world.memory.got == b"early octets and late ones"
        assert world.end.read == 26


async def test_without_room_nothing_is_read_and_then_everything() -> None:
    memory = MemoryEnd()
    memory.limit = 3
    async with relay(memory=memory) as world:
        world.socket.send(b"abcdef")
        await wait_all_tasks_blocked()
        assert memory.got == b"abc"
        assert memory.waiting is world.end
        memory.take(1)
        await wait_all_tasks_blocked()
        assert memory.got == b"abcd"
        memory.take(100)
        await wait_all_tasks_blocked()
        assert memory.got == b"abcdef"
        world.socket.send(b"g")
        await wait_all_tasks_blocked()
        assert memory.got == b"abcdefg"


async def test_an_end_behind_unread_octets_comes_after_them() -> None:
    memory = MemoryEnd()
    memory.limit = 3
    async with relay(memory=memory) as world:
        world.socket.send(b"abcdef")
        world.socket.shutdown(socket.SHUT_WR)
        await wait_all_tasks_blocked()
        assert (bytes(memory.got), memory.ended) == (b"abc", 0)
        memory.take(100)
        await wait_all_tasks_blocked()
        assert (bytes(memory.got), memory.ended) == (b"abcdef", 1)


async def test_both_ends_close_it() -> None:
    async with relay() as world:
        world.socket.shutdown(socket.SHUT_WR)
        await wait_all_tasks_blocked()
        assert world.memory.ended == 1
        world.memory.push(b"answer", end=True)
        await world.result.event.wait()
        assert world.read() == b"answer|end"
        assert world.result.error is None
        assert world.memory.state == "closed"
        assert world.reactor.served == 0


class Watched(PlainTransport):
    """One that can be looked at after its end."""


@pytest.mark.parametrize("reset_it", [False, True])
async def test_an_end_that_has_ended_keeps_nothing_of_its_transport(reset_it: bool) -> None:
    socket_, inner = tcp_pair()
    transport = Watched(inner)
    gone = weakref.ref(transport)
    memory = MemoryEnd()
    reactor, result = Reactor(), Ended()
    end = SocketEnd(reactor, transport, "client")
    del transport
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        nursery.start_soon(run_relay, Relay(end, memory), result)
        await wait_all_tasks_blocked()
        assert gone() is not None
        if reset_it:
            reset(socket_)
        else:
            socket_.close()
            memory.push(b"", end=True)
        await result.event.wait()
        assert gone() is None
        end.deliver(memoryview(b"late"), False)
        end.flush()
        end.abort()
        nursery.cancel_scope.cancel()
    reactor.close()


async def test_the_death_of_the_process_resets_it() -> None:
    async with relay() as world:
        with socket.socket(fileno=os.dup(world.fd)) as same:
            assert same.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == RESET_AT_CLOSE
            world.socket.shutdown(socket.SHUT_WR)
            world.memory.push(b"answer", end=True)
            await world.result.event.wait()
            assert same.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == bytes(8)


async def test_an_end_without_octets_is_passed_on() -> None:
    async with relay() as world:
        world.memory.push(b"", end=True)
        assert world.read() == b"|end"
        world.socket.send(b"still open this way")
        await wait_all_tasks_blocked()
        assert world.memory.got == b"still open this way"


async def test_what_the_socket_does_not_take_is_not_credited() -> None:
    async with relay() as world:
        octets = bytes(20_000_000)
        world.memory.push(octets, end=True)
        assert 0 < world.memory.credited < len(octets)
        got = b""
        while not got.endswith(b"|end"):
            got += world.read()
            assert world.memory.credited == world.end.written
            await wait_all_tasks_blocked()
        assert got == octets + b"|end"
        assert world.memory.credited == len(octets)


async def test_a_reset_is_passed_on() -> None:
    async with relay() as world:
        reset(world.socket)
        await world.result.event.wait()
        assert world.result.error == "client: Connection reset by peer"
        assert world.memory.state == "aborted"


async def test_octets_from_before_a_reset_are_carried_first() -> None:
    memory = MemoryEnd()
    memory.limit = 3
    async with relay(memory=memory) as world:
        world.socket.send(b"abcdef")
        reset(world.socket)
        await wait_all_tasks_blocked()
        assert not world.result.event.is_set()
        memory.take(100)
        await world.result.event.wait()
        assert memory.got == b"abcdef"
        assert memory.ended == 0


async def test_octets_from_before_a_failed_write_are_carried_first() -> None:
    memory = MemoryEnd()
    memory.limit = 0
    async with relay(memory=memory) as world:
        world.socket.send(b"an answer that did not wait")
        reset(world.socket)
        await wait_all_tasks_blocked()
        memory.limit = 1000
        memory.push(b"more of the question")
        await world.result.event.wait()
        assert memory.got == b"an answer that did not wait"
        assert memory.ended == 0
        assert world.result.error is not None


async def test_a_reset_behind_the_end_is_passed_on() -> None:
    async with relay() as world:
        world.socket.shutdown(socket.SHUT_WR)
        await wait_all_tasks_blocked()
        assert not world.result.event.is_set()
        reset(world.socket)
        await world.result.event.wait()
        assert world.result.error == "client: Connection reset by peer"


async def test_an_abort_lets_what_came_before_go_first() -> None:
    async with relay() as world:
        world.memory.push(b"last words")
        world.end.abort()
        await wait_all_tasks_blocked()
        assert world.socket.recv(100) == b"last words"
        with pytest.raises(ConnectionResetError):
            world.socket.recv(100)


async def test_a_socket_that_hung_up_while_nobody_reads_it_keeps_nobody_busy() -> None:
    """Level-triggered, a hang-up is reported for ever."""
    memory = MemoryEnd()
    memory.limit = 0
    async with relay(memory=memory) as world:
        world.socket.send(b"abc")
        reset(world.socket)
        for _ in range(3):  # it would never be blocked
            await wait_all_tasks_blocked()
        assert world.reactor.served == 0


async def test_octets_for_a_socket_that_is_gone_are_dropped() -> None:
    async with relay() as world:
        world.end.abort()
        world.memory.push(b"too late", end=True)
        world.end.flush()
        world.end.resume()
        world.end.abort()
        world.end.close()
        assert world.memory.credited == 0


async def test_a_bug_in_the_data_plane_ends_the_relay_alone() -> None:
    async with relay() as world:
        world.end.fail(ZeroDivisionError("division by zero"))
        await world.result.event.wait()
        assert world.result.error == "internal error: division by zero"
