"""Two connections of ours, a wire in both directions, and all that may happen between them.

Octets are checked as they come, the rest when the wire is empty: then both ends agree on every
stream, its state and both its windows, and on the connection's.
"""

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from frames import (
    Connection,
    ErrorCode,
    Event,
    Limits,
    RequestReceived,
    Role,
    Setting,
    Stream,
    StreamReset,
    StreamState,
    TrailersReceived,
    WindowBudget,
    WindowOpened,
)
from frames.frame import MAX_WINDOW
from tests.frames.peer import CONNECT, OK, POST, TRAILERS

BUDGET = 300_000
MIRRORED = {
    StreamState.OPEN: StreamState.OPEN,
    StreamState.HALF_CLOSED_LOCAL: StreamState.HALF_CLOSED_REMOTE,
    StreamState.HALF_CLOSED_REMOTE: StreamState.HALF_CLOSED_LOCAL,
}


class End:
    """One side: a connection, and what its user knows."""

    def __init__(self, role: Role) -> None:
        self.connection = Connection(
            role,
            self.on_event,
            limits=Limits(max_window=200_000),
            budget=WindowBudget(BUDGET),
            receive_window=100_000,
        )
        self.sent: dict[int, bytes] = {}
        self.received: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.reset: set[int] = set()
        self.opened: Counter[int] = Counter()
        self.unconsumed: Counter[int] = Counter()
        self.in_flight = b""
        """What the other side has sent and this one has not been given."""
        self.kept = b""

    def on_event(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self.collect(self.connection.streams[event.stream_id])
            case TrailersReceived():
                self.ended.add(event.stream_id)
            case StreamReset():
                assert event.by_peer, event.reason
                self.reset.add(event.stream_id)
            case WindowOpened():
                self.opened[event.stream_id] += 1

    def collect(self, stream: Stream) -> None:
        self.received[stream.id] = b""

        def receive(octets: memoryview, end_stream: bool) -> None:
            assert stream.id not in self.ended
            assert stream.id not in self.reset
            self.received[stream.id] += octets
            self.unconsumed[stream.id] += len(octets)
            if end_stream:
                self.ended.add(stream.id)

        stream.receiver = receive

    def take(self, size: int) -> None:
        """Parse ``size`` octets of what is in flight."""
        octets, self.in_flight = self.in_flight[:size], self.in_flight[size:]
        view = memoryview(self.kept + octets)
        used = self.connection.receive(view)
        self.kept = bytes(view[used:])

    def flush_to(self, other: "End") -> None:
        other.in_flight += self.connection.tx.waiting()
        self.connection.sent()


class TwoConnections(RuleBasedStateMachine):
    """Rules take "client" or "server" for whose turn it is."""

    def __init__(self) -> None:
        super().__init__()
        self.client, self.server = End(Role.CLIENT), End(Role.SERVER)
        self.content = 0
        for end in (self.client, self.server):
            end.connection.initiate()

    def sides(self, ours: bool) -> tuple[End, End]:
        return (self.client, self.server) if ours else (self.server, self.client)

    def pick(self, end: End, index: int) -> Stream | None:
        streams = list(end.connection.streams.values())
        return streams[index % len(streams)] if streams else None

    side = st.booleans()
    index = st.integers(0, 7)

    @rule(connect=st.booleans())
    def open(self, connect: bool) -> None:
        if self.client.connection.can_open and len(self.client.connection.streams) < 6:
            stream = self.client.connection.open_stream(CONNECT if connect else POST)
            self.client.collect(stream)

    @rule(index=index)
    def respond(self, index: int) -> None:
        stream = self.pick(self.server, index)
        if stream is not None and stream.can_send and not stream.head_sent:
            self.server.connection.send_headers(stream, OK)

    @rule(side=side, index=index, size=st.sampled_from([1, 10, 1_000, 20_000, 150_000]))
    def send(self, side: bool, index: int, size: int) -> None:
        end, _ = self.sides(side)
        stream = self.pick(end, index)
        if stream is None or not stream.sends_data:
            return
        self.content += 1
        octets = bytes([self.content % 256]) * size
        room = min(stream.send_window, end.connection.send_window)
        taken = end.connection.send_data(stream, octets)
        assert taken <= max(0, room)
        end.sent[stream.id] = end.sent.get(stream.id, b"") + octets[:taken]
        if taken < size:
            stream.blocked = stream.send_window <= 0
            end.connection.blocked = end.connection.send_window <= 0

    @rule(side=side, index=index, trailers=st.booleans())
    def finish(self, side: bool, index: int, trailers: bool) -> None:
        end, _ = self.sides(side)
        stream = self.pick(end, index)
        if stream is None or not stream.sends_data:
            return
        if trailers and not stream.is_connect:
            end.connection.send_headers(stream, TRAILERS, end_stream=True)
        else:
            end.connection.send_data(stream, b"", end_stream=True)

    @rule(side=side, index=index, rounds=st.integers(1, 4))
    def pump(self, side: bool, index: int, rounds: int) -> None:
        """Send all that goes, have it consumed, and again: windows grow."""
        end, other = self.sides(side)
        self.settle()
        for _ in range(rounds):
            stream = self.pick(end, index)
            if stream is not None:
                self.send(side, index, 150_000)
                self.settle()
                received = other.connection.streams[stream.id]
                size, other.unconsumed[stream.id] = other.unconsumed[stream.id], 0
                other.connection.consume(received, size)

    @precondition(lambda self: self.content % 3 == 0)
    @rule(side=side, index=index)
    def abort(self, side: bool, index: int) -> None:
        end, _ = self.sides(side)
        stream = self.pick(end, index)
        if stream is not None:
            end.connection.reset_stream(stream, ErrorCode.CANCEL)
            end.reset.add(stream.id)

    @rule(side=side, index=index, part=st.sampled_from([0.1, 0.5, 1.0]))
    def consume(self, side: bool, index: int, part: float) -> None:
        end, _ = self.sides(side)
        stream = self.pick(end, index)
        if stream is not None:
            size = round(end.unconsumed[stream.id] * part)
            end.unconsumed[stream.id] -= size
            end.connection.consume(stream, size)

    @rule(side=side, window=st.sampled_from([0, 1, 100, 65_535, 150_000]))
    def change_window(self, side: bool, window: int) -> None:
        end, _ = self.sides(side)
        end.connection.send_settings({Setting.INITIAL_WINDOW_SIZE: window})

    @rule(side=side, size=st.sampled_from([0, 1, 4096]), frame=st.sampled_from([16_384, 40_000]))
    def change_other_settings(self, side: bool, size: int, frame: int) -> None:
        end, _ = self.sides(side)
        changed = {Setting.HEADER_TABLE_SIZE: size, Setting.MAX_FRAME_SIZE: frame}
        end.connection.send_settings({int(code): value for code, value in changed.items()})

    @rule(side=side)
    def ping(self, side: bool) -> None:
        self.sides(side)[0].connection.send_ping(b"12345678")

    @rule(side=side, part=st.floats(0, 1))
    def deliver(self, side: bool, part: float) -> None:
        end, other = self.sides(side)
        end.flush_to(other)
        other.take(round(len(other.in_flight) * part))

    @rule()
    def settle(self) -> None:
        """Carry everything, then look at both ends."""
        client, server = self.client, self.server
        while True:
            client.flush_to(server)
            server.flush_to(client)
            if not client.in_flight and not server.in_flight:
                break
            for end in (client, server):
                end.take(len(end.in_flight))
        assert not client.kept
        assert not server.kept
        self.compare(client, server)
        self.compare(server, client)

    def compare(self, sender: End, receiver: End) -> None:
        assert sender.connection.streams.keys() == receiver.connection.streams.keys()
        assert sender.connection.send_window == receiver.connection.receive_window
        for stream_id, stream in sender.connection.streams.items():
            other = receiver.connection.streams[stream_id]
            assert other.state is MIRRORED[stream.state]
            assert stream.send_window == other.receive_window
            held = receiver.unconsumed[stream_id] + other.unacked
            assert not other.can_receive or other.receive_window + held == other.window_size
            assert not stream.blocked or stream.send_window <= 0
        for stream_id, octets in sender.sent.items():
            if stream_id not in sender.reset | receiver.reset:
                assert receiver.received[stream_id] == octets

    @invariant()
    def nothing_comes_that_was_not_sent(self) -> None:
        for sender, receiver in (self.sides(True), self.sides(False)):
            for stream_id, octets in receiver.received.items():
                assert sender.sent.get(stream_id, b"").startswith(octets)

    @invariant()
    def windows_keep_their_bounds(self) -> None:
        for end in (self.client, self.server):
            connection = end.connection
            assert connection.send_window >= 0
            assert 0 <= connection.receive_window <= 100_000
            grown = 0
            for stream in connection.streams.values():
                assert stream.send_window <= MAX_WINDOW
                assert stream.receive_window + stream.unacked <= stream.window_size
                grown += stream.window_size - connection._initial_window
            assert connection.budget.left == BUDGET - grown >= 0

    @precondition(lambda self: self.content > 20)
    @rule()
    def drain(self) -> None:
        """The server takes no more; in two steps, with a round trip between them."""
        self.server.connection.drain()
        self.settle()
        assert not self.client.connection.can_open
        self.server.connection.send_goaway()
        self.settle()

    def teardown(self) -> None:
        self.settle()
        for end in (self.client, self.server):
            end.connection.close()
            assert end.connection.budget.left == BUDGET


def test_both_ends_agree_whatever_happens() -> None:
    run_state_machine_as_test(TwoConnections)
