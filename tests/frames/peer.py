"""Worlds for the tests of `frames`: a connection under test, and a peer that speaks by hand."""

from collections.abc import Callable, Iterable

import hpack
import pytest

from frames import (
    BufferedConnection,
    ConnectionState,
    DataReceived,
    ErrorCode,
    Event,
    Headers,
    Limits,
    Role,
    Stream,
)
from frames.errors import RemoteProtocolError, StreamProtocolError
from frames.frame import HEADER, HEADER_SIZE, PREFACE, Flag, FrameType, serialize

GET: Headers = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/"),
    (b":authority", b"example.com"),
]
POST: Headers = [(b":method", b"POST"), *GET[1:]]
HEAD: Headers = [(b":method", b"HEAD"), *GET[1:]]
CONNECT: Headers = [(b":method", b"CONNECT"), (b":authority", b"192.168.1.2:4001")]
EXTENDED: Headers = [(b":method", b"CONNECT"), (b":protocol", b"connect-udp"), *GET[1:]]
OK: Headers = [(b":status", b"200")]
TRAILERS: Headers = [(b"grpc-status", b"0")]

Frame = tuple[int, int, int, bytes]
"""Type, flags, stream id, payload."""


class Peer:
    """The other side, by hand: says what it is told to, in the right compression."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()

    def hello(self, *settings: tuple[int, int]) -> bytes:
        payload = b"".join(code.to_bytes(2) + value.to_bytes(4) for code, value in settings)
        preface = PREFACE if self.role is Role.CLIENT else b""
        return preface + serialize(FrameType.SETTINGS, 0, 0, payload)

    def headers(self, stream_id: int, headers: Headers, *, end_stream: bool = False) -> bytes:
        flags = Flag.END_HEADERS | (Flag.END_STREAM if end_stream else 0)
        block: bytes = self.encoder.encode(headers)
        return serialize(FrameType.HEADERS, flags, stream_id, block)

    def decode(self, block: bytes) -> Headers:
        return list(self.decoder.decode(block, raw=True))


def data(stream_id: int, octets: bytes, *, end_stream: bool = False) -> bytes:
    return serialize(FrameType.DATA, Flag.END_STREAM if end_stream else 0, stream_id, octets)


def padded(stream_id: int, octets: bytes, padding: int, *, end_stream: bool = False) -> bytes:
    flags = Flag.PADDED | (Flag.END_STREAM if end_stream else 0)
    payload = bytes([padding]) + octets + bytes(padding)
    return serialize(FrameType.DATA, flags, stream_id, payload)


def reset(stream_id: int, code: int = 0) -> bytes:
    return serialize(FrameType.RST_STREAM, 0, stream_id, code.to_bytes(4))


def window_update(stream_id: int, increment: int) -> bytes:
    return serialize(FrameType.WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4))


def settings(*entries: tuple[int, int]) -> bytes:
    payload = b"".join(code.to_bytes(2) + value.to_bytes(4) for code, value in entries)
    return serialize(FrameType.SETTINGS, 0, 0, payload)


def ping(octets: bytes = bytes(8), *, ack: bool = False) -> bytes:
    return serialize(FrameType.PING, Flag.ACK if ack else 0, 0, octets)


def goaway(last: int, code: int = 0, debug: bytes = b"") -> bytes:
    return serialize(FrameType.GOAWAY, 0, 0, last.to_bytes(4) + code.to_bytes(4) + debug)


SETTINGS_ACK = serialize(FrameType.SETTINGS, Flag.ACK, 0)


def frames_in(octets: bytes) -> list[Frame]:
    """Cut what a connection sent into frames; a preface at the start is left out."""
    octets = octets.removeprefix(PREFACE)
    frames: list[Frame] = []
    while octets:
        length_type, flags, stream_id = HEADER.unpack_from(octets)
        stop = HEADER_SIZE + (length_type >> 8)
        assert stop <= len(octets), "half a frame"
        frames.append((length_type & 0xFF, flags, stream_id, octets[HEADER_SIZE:stop]))
        octets = octets[stop:]
    return frames


def sent_by(side: BufferedConnection) -> list[Frame]:
    """What a connection has to send, as frames; it counts as sent."""
    return frames_in(side.data_to_send())


def error_of(call: Callable[[], object]) -> RemoteProtocolError | StreamProtocolError | None:
    """What ``call`` finds wrong with the peer; anything else that it raises is a bug."""
    try:
        call()
    except (RemoteProtocolError, StreamProtocolError) as exc:
        return exc
    return None


def breaks(side: BufferedConnection, octets: bytes) -> ErrorCode:
    """The code with which ``octets`` break the connection; its GOAWAY says the same."""
    with pytest.raises(RemoteProtocolError) as caught:
        side.receive_data(octets)
    kind, _, _, payload = sent_by(side)[-1]
    assert kind == FrameType.GOAWAY
    assert payload[4:8] == caught.value.code.to_bytes(4)
    assert payload[8:].decode() == str(caught.value)
    assert side.connection.state is ConnectionState.CLOSED
    return caught.value.code


def merged(events: Iterable[Event]) -> list[Event]:
    """The same events with neighbouring octets of a stream in one."""
    result: list[Event] = []
    for event in events:
        last = result[-1] if result else None
        if (
            isinstance(event, DataReceived)
            and isinstance(last, DataReceived)
            and last.stream_id == event.stream_id
        ):
            octets = last.data + event.data
            result[-1] = DataReceived(event.stream_id, octets, event.end_stream)
        else:
            result.append(event)
    return result


def begun(
    role: Role,
    *theirs: tuple[int, int],
    ours: dict[int, int] | None = None,
    limits: Limits | None = None,
    receive_window: int = 65535,
) -> tuple[BufferedConnection, Peer]:
    """A connection in ``role`` and its peer, with SETTINGS exchanged and nothing to send.

    Args:
      theirs: the peer's settings.
    """
    side = BufferedConnection(role, settings=ours, limits=limits, receive_window=receive_window)
    peer = Peer(Role.SERVER if role is Role.CLIENT else Role.CLIENT)
    side.connection.initiate()
    side.receive_data(peer.hello(*theirs) + SETTINGS_ACK)
    side.data_to_send()
    return side, peer


def requested(
    headers: Headers = POST, *theirs: tuple[int, int], end_stream: bool = False
) -> tuple[BufferedConnection, Peer, Stream]:
    """A server with request 1, begun or complete."""
    side, peer = begun(Role.SERVER, *theirs)
    side.receive_data(peer.headers(1, headers, end_stream=end_stream))
    return side, peer, side.connection.streams[1]


def requesting(
    headers: Headers = POST, *theirs: tuple[int, int], end_stream: bool = False
) -> tuple[BufferedConnection, Peer, Stream]:
    """A client with request 1 sent."""
    side, peer = begun(Role.CLIENT, *theirs)
    stream = side.open_stream(headers, end_stream=end_stream)
    side.data_to_send()
    return side, peer, stream


class Pair:
    """A client and a server of ours, and the wire between them."""

    def __init__(
        self,
        *,
        client_settings: dict[int, int] | None = None,
        server_settings: dict[int, int] | None = None,
        receive_window: int = 65535,
    ) -> None:
        self.client = BufferedConnection(
            Role.CLIENT, settings=client_settings, receive_window=receive_window
        )
        self.server = BufferedConnection(
            Role.SERVER, settings=server_settings, receive_window=receive_window
        )
        self.client_events: list[Event] = []
        self.server_events: list[Event] = []
        self.client.connection.initiate()
        self.server.connection.initiate()
        self.exchange()
        self.client_events.clear()
        self.server_events.clear()

    def exchange(self) -> None:
        """Carry octets both ways until there are none."""
        while True:
            to_server, to_client = self.client.data_to_send(), self.server.data_to_send()
            if not to_server and not to_client:
                return
            self.server_events += self.server.receive_data(to_server)
            self.client_events += self.client.receive_data(to_client)

    def open(self, headers: Headers = POST, *, end_stream: bool = False) -> tuple[Stream, Stream]:
        """A stream, as the client has it and as the server has it."""
        stream = self.client.open_stream(headers, end_stream=end_stream)
        self.exchange()
        return stream, self.server.connection.streams[stream.id]
