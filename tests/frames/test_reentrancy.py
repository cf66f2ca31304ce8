"""Events and receivers may call anything of their connection but `receive`."""

import pytest

from frames import (
    Connection,
    ConnectionState,
    ErrorCode,
    Limits,
    RequestReceived,
    Role,
    Setting,
    WindowOpened,
)
from frames.frame import FrameType, serialize
from tests.frames.peer import (
    GET,
    OK,
    POST,
    Peer,
    begun,
    data,
    padded,
    ping,
    requested,
    requesting,
    reset,
    settings,
)


class Reactive:
    """A server that acts on each event, and on octets, by what its test sets."""

    def __init__(self) -> None:
        self.connection = Connection(Role.SERVER, self._on_event, limits=Limits())
        self.seen: list[object] = []
        self.peer = Peer(Role.CLIENT)
        self.connection.initiate()

    def _on_event(self, event: object) -> None:
        self.seen.append(event)
        if isinstance(event, RequestReceived):
            self.act(event.stream_id)

    def act(self, stream_id: int) -> None:
        raise NotImplementedError

    def receive(self, octets: bytes) -> None:
        self.connection.receive(memoryview(octets))


def test_a_request_may_be_answered_from_its_event() -> None:
    class Answering(Reactive):
        def act(self, stream_id: int) -> None:
            stream = self.connection.streams[stream_id]
            self.connection.send_headers(stream, OK)
            self.connection.send_data(stream, b"at once", end_stream=True)

    server = Answering()
    server.receive(server.peer.hello() + server.peer.headers(1, GET, end_stream=True) + ping())
    assert not server.connection.streams
    assert bytes(server.connection.tx.waiting()).endswith(
        data(1, b"at once", end_stream=True) + ping(ack=True)
    )


def test_a_request_may_be_reset_from_its_event() -> None:
    class Refusing(Reactive):
        def act(self, stream_id: int) -> None:
            stream = self.connection.streams[stream_id]
            self.connection.reset_stream(stream, ErrorCode.REFUSED_STREAM)

    server = Refusing()
    peer = server.peer
    server.receive(peer.hello() + peer.headers(1, POST) + data(1, b"x", end_stream=True) + ping())
    assert bytes(server.connection.tx.waiting()).endswith(
        reset(1, ErrorCode.REFUSED_STREAM) + ping(ack=True)
    )


@pytest.mark.parametrize("how", ["close", "GOAWAY"])
def test_a_connection_closed_from_an_event_takes_nothing_more(how: str) -> None:
    class Closing(Reactive):
        def act(self, stream_id: int) -> None:
            if how == "close":
                self.connection.close()
            else:
                self.connection.send_goaway(ErrorCode.INTERNAL_ERROR)

    server = Closing()
    peer = server.peer
    wire = peer.hello() + peer.headers(1, POST) + peer.headers(3, POST) + b"garbage" + bytes(100)
    assert server.connection.receive(memoryview(wire)) == len(wire)
    assert server.connection.state is ConnectionState.CLOSED
    assert len(server.seen) == 2


@pytest.mark.parametrize("frame", [data(1, bytes(50)), padded(1, bytes(50), 50)])
@pytest.mark.parametrize("cut", [30, 200])
def test_a_connection_closed_from_a_receiver_takes_nothing_more(frame: bytes, cut: int) -> None:
    side, _, stream = requested()
    stream.receiver = lambda octets, end: side.connection.close()
    wire = (frame + ping() + data(1, bytes(50)))[:cut]
    assert side.connection.receive(memoryview(wire)) == len(wire)
    assert side.connection.receive(memoryview(b"more")) == 4
    assert side.connection.tx.length == 0
    assert side.take_events() == []


def test_a_receiver_may_open_another_stream() -> None:
    side, peer, stream = requesting()
    opened: list[int] = []
    stream.receiver = lambda octets, end: opened.append(side.open_stream(GET).id)
    side.receive_data(peer.headers(1, OK) + data(1, b"x") + data(1, b"y"))
    assert opened == [3, 5]


def test_a_goaway_event_may_close_the_connection() -> None:
    seen: list[object] = []

    def on_event(event: object) -> None:
        seen.append(event)
        connection.close()

    connection = Connection(Role.CLIENT, lambda event: None)
    connection.initiate()
    connection.open_stream(GET)
    connection.receive(memoryview(settings()))
    connection.on_event = on_event
    connection.receive(memoryview(serialize(FrameType.GOAWAY, 0, 0, bytes(8))))
    assert len(seen) == 1, "no event of the refused stream after close()"


def test_window_events_may_reset_the_streams_behind_them() -> None:
    side, _ = begun(Role.CLIENT, (Setting.INITIAL_WINDOW_SIZE, 0))
    streams = [side.open_stream(POST) for _ in range(3)]
    seen: list[object] = []

    def on_event(event: object) -> None:
        seen.append(event)
        side.connection.reset_stream(streams[2], ErrorCode.CANCEL)

    for stream in streams:
        stream.blocked = True
    side.connection.on_event = on_event
    side.receive_data(settings((Setting.INITIAL_WINDOW_SIZE, 10)))
    assert seen[1:] == [WindowOpened(1), WindowOpened(3)]
    assert side.connection.streams.keys() == {1, 3}
