"""Whose turn it is: nobody is forgotten, and equal turns are equal shares."""

from collections.abc import Callable

import pytest

from frames import Connection, Limits, Role, Setting, Stream
from frames.frame import FrameType, serialize_settings, serialize_u32
from frames.transmit import DATA_LIMIT
from tests.tunneld.sessionpair import CONNECT
from tunneld.relay import Source
from tunneld.sendqueue import MIN_FRAME, SendQueue

KIB = 1024


class Sender:
    """Sends what it has, as a relay's socket would."""

    def __init__(self, world: "World", stream: Stream, left: int) -> None:
        self.world = world
        self.stream = stream
        self.left = left
        self.sizes: list[int] = []
        self.blocked = False

    @property
    def is_waiting(self) -> bool:
        return self.blocked

    def block(self, source: Source) -> None:
        self.blocked = True

    def resume(self) -> None:
        self.blocked = False
        self.send()

    def send(self) -> None:
        """One frame, if there is room; else the queue comes back to us."""
        if not self.left or self.blocked:
            return
        size = min(self.world.queue.room(self, self), self.left)
        if size:
            self.world.connection.tx.payload_view(size)
            self.world.connection.commit_data(self.stream, size)
            self.left -= size
            self.sizes.append(size)
            self.world.served.append(self)


class World:
    """A connection whose peer takes much, and a transport that is told when to send."""

    def __init__(self, window: int = 1 << 30, stream_window: int = 1 << 30) -> None:
        self.connection = Connection(Role.CLIENT, lambda event: None, limits=Limits())
        self.connection.initiate()
        settings = {
            Setting.INITIAL_WINDOW_SIZE: stream_window,
            Setting.MAX_FRAME_SIZE: 128 * KIB,
        }
        self.take(serialize_settings(settings.items()))
        if window > 65535:
            self.credit(0, window - 65535)
        self.due: list[Callable[[], None]] = []
        self.served: list[Sender] = []
        self.queue = SendQueue(self.connection, self.due.append)
        self.flush()

    def take(self, octets: bytes) -> None:
        self.connection.receive(memoryview(octets))

    def credit(self, stream_id: int, size: int) -> None:
        self.take(serialize_u32(FrameType.WINDOW_UPDATE, stream_id, size))

    def sender(self, left: int) -> Sender:
        return Sender(self, self.connection.open_stream(CONNECT), left)

    def flush(self) -> None:
        """The transport takes everything; then the turns that are due."""
        self.connection.sent()
        self.queue.buffer_sent()
        self.run()

    def run(self) -> None:
        while self.due:
            self.due.pop(0)()


def test_one_sender_gets_large_frames_until_the_buffer_is_full() -> None:
    world = World()
    sender = world.sender(10_000 * KIB)
    world.flush()
    while not sender.is_waiting:
        sender.send()
    assert sender.sizes[0] == 128 * KIB
    assert sum(sender.sizes) > DATA_LIMIT - MIN_FRAME
    world.flush()
    assert sender.sizes[-1] == 128 * KIB


def test_whoever_waits_is_served_first_come_first_served() -> None:
    world = World()
    senders = [world.sender(10_000 * KIB) for _ in range(10)]
    for sender in senders:
        while not sender.is_waiting:
            sender.send()
    for _ in range(50):
        world.served.clear()
        world.flush()
        for sender in list(world.served):  # epoll reports them in the order they were read in
            sender.send()
    totals = [sum(sender.sizes) for sender in senders]
    # The first sent a whole buffer before others came; the last of each is shorter.
    assert max(totals) - min(totals) <= DATA_LIMIT + MIN_FRAME


@pytest.mark.parametrize(("count", "share"), [(2, 128), (3, 85), (5, 51), (10, 25), (30, 25)])
def test_those_who_wait_share_a_buffer(count: int, share: int) -> None:
    world = World()
    world.connection.tx.limit = 256 * KIB
    senders = [world.sender(10_000 * KIB) for _ in range(count)]
    for _ in range(6):
        for sender in senders:
            while not sender.is_waiting:
                sender.send()
        world.flush()
    last = {sender.sizes[-1] // KIB for sender in senders}
    assert last <= {share, share - 1}  # the last of a buffer has less room


def test_a_sender_without_a_stream_window_does_not_hold_up_the_next() -> None:
    world = World(stream_window=20 * KIB)
    first, second = world.sender(100 * KIB), world.sender(10 * KIB)
    world.flush()
    for _ in range(2):
        first.send()
        second.send()
    assert (sum(first.sizes), sum(second.sizes)) == (20 * KIB, 10 * KIB)
    assert first.is_waiting
    assert first.stream.blocked
    assert not world.due


def test_a_sender_without_the_connections_window_is_resumed_when_it_opens() -> None:
    world = World(window=65535)
    first, second = world.sender(100 * KIB), world.sender(100 * KIB)
    world.flush()
    for _ in range(2):
        first.send()
        second.send()
    assert sum(first.sizes + second.sizes) == 65535
    assert first.is_waiting
    assert second.is_waiting
    world.flush()
    assert world.connection.blocked
    world.credit(0, 50 * KIB)
    world.queue.window_opened()
    world.run()
    assert sum(first.sizes + second.sizes) == 65535 + 50 * KIB
    world.credit(0, 1 << 20)
    world.queue.window_opened()
    while first.left + second.left:
        for sender in (first, second):
            if not sender.is_waiting:
                sender.send()
        world.flush()


def test_a_small_window_is_used_although_frames_are_small() -> None:
    world = World(stream_window=100)
    sender = world.sender(100 * KIB)
    world.flush()
    sender.send()
    assert sender.sizes == [100]


def test_little_room_is_left_for_a_larger_frame() -> None:
    world = World()
    world.connection.tx.limit = 256 * KIB
    first, second = world.sender(250 * KIB), world.sender(10_000 * KIB)
    world.flush()
    first.send()
    first.send()
    assert 0 < world.connection.tx.room < MIN_FRAME
    second.send()
    assert second.is_waiting
    world.flush()
    assert second.sizes == [128 * KIB]


def test_one_that_is_gone_when_its_turn_comes_is_passed_over() -> None:
    world = World()
    senders = [world.sender(10_000 * KIB) for _ in range(4)]
    for _ in range(3):
        for sender in senders:
            sender.send()
    waiting = [sender for sender in senders if sender.is_waiting]
    assert len(waiting) > 1
    waiting[0].left = 0
    before = [sum(sender.sizes) for sender in waiting[1:]]
    world.flush()
    world.flush()
    assert all(sum(s.sizes) > b for s, b in zip(waiting[1:], before, strict=True))


@pytest.mark.parametrize("count", [1, 3, 4, 5, 30])
@pytest.mark.parametrize(("window", "stream_window"), [(1 << 30, 1 << 30), (70_000, 5_000)])
def test_everybody_finishes(count: int, window: int, stream_window: int) -> None:
    """Windows are credited as they are used, a little late."""
    world = World(window, stream_window)
    senders = [world.sender(300 * KIB + number) for number in range(count)]
    world.flush()
    credited = [0] * count
    for _ in range(20_000):
        if not any(sender.left for sender in senders):
            break
        for sender in senders:
            if not sender.is_waiting:
                sender.send()
        world.flush()
        for number, sender in enumerate(senders):
            used = sum(sender.sizes) - credited[number]
            if used:
                credited[number] += used
                blocked = sender.stream.blocked
                world.credit(sender.stream.id, used)
                if blocked:
                    sender.resume()
                starved = world.connection.blocked
                world.credit(0, used)
                if starved:
                    world.queue.window_opened()
        world.run()
    assert [sender.left for sender in senders] == [0] * count
