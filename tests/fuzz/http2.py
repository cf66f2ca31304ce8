"""HTTP/2: whole connections in either role, and header blocks by themselves."""

from collections.abc import Sequence

import hpack

from frames import (
    Connection,
    DataReceived,
    ErrorCode,
    Event,
    Limits,
    RemoteProtocolError,
    RequestReceived,
    ResponseReceived,
    Role,
    Stream,
)
from frames.blocks import BlockReader, BlockWriter
from frames.frame import Flag, FrameType, serialize
from tests.frames.peer import (
    CONNECT,
    GET,
    OK,
    POST,
    SETTINGS_ACK,
    TRAILERS,
    Peer,
    data,
    goaway,
    merged,
    padded,
    ping,
    reset,
    settings,
    window_update,
)
from tests.fuzz.target import Target, same_for_all_cuts
from tests.interop.malformed import CONNECTIONS

LIMITS = Limits(max_concurrent_streams=5, max_header_list=1_000, max_header_block=600)


class Program:
    """A connection with a program on top that answers, sends, resets and drains by itself."""

    def __init__(self, role: Role) -> None:
        self.connection = Connection(role, self._on_event, limits=LIMITS)
        self.events: list[Event] = []
        self.connection.initiate()
        if role is Role.CLIENT:
            for headers in (GET, POST, CONNECT):
                self._read(self.connection.open_stream(headers))

    def receive(self, parts: Sequence[bytes]) -> ErrorCode | None:
        """Take in octets; the code of the error that ended the connection."""
        kept = b""
        for part in parts:
            octets = kept + part
            try:
                used = self.connection.receive(memoryview(octets))
            except RemoteProtocolError as exc:
                return exc.code
            kept = octets[used:]
            assert len(kept) < self.connection.max_kept
            assert len(self.connection.streams) <= LIMITS.max_concurrent_streams + 3
            assert self.connection.tx.length < LIMITS.max_unsent
        return None

    def _on_event(self, event: Event) -> None:
        self.events.append(event)
        match event:
            case RequestReceived() if not self.connection.drained:
                self._serve(self.connection.streams[event.stream_id], event)
            case ResponseReceived() if event.stream_id in self.connection.streams:
                stream = self.connection.streams[event.stream_id]
                if stream.sends_data:
                    self.connection.send_data(stream, b"thanks", end_stream=event.stream_id == 3)

    def _serve(self, stream: Stream, event: RequestReceived) -> None:
        connection = self.connection
        self._read(stream)
        match stream.id % 10:
            case 1 | 9:
                connection.send_headers(stream, OK)
                connection.send_data(stream, b"answer")
            case 3:
                connection.send_headers(stream, OK, end_stream=True)
            case 5:
                connection.reset_stream(stream, ErrorCode.CANCEL)
            case _:
                pass  # answered never

    def _read(self, stream: Stream) -> None:
        def receive(octets: memoryview, end_stream: bool) -> None:
            self.events.append(DataReceived(stream.id, bytes(octets), end_stream))
            self.connection.consume(stream, len(octets))

        stream.receiver = receive


def _outcome(role: Role, parts: Sequence[bytes]) -> object:
    program = Program(role)
    code = program.receive(parts)
    states = sorted((each.id, each.state.value) for each in program.connection.streams.values())
    return merged(program.events), code, states, program.connection.state


def run_server(octets: bytes) -> None:
    """We are the server."""
    same_for_all_cuts(octets, lambda parts: _outcome(Role.SERVER, parts))


def run_client(octets: bytes) -> None:
    """We are the client, with three requests under way."""
    same_for_all_cuts(octets, lambda parts: _outcome(Role.CLIENT, parts))


def run_hpack(octets: bytes) -> None:
    """Blocks behind each other with one table; the first octet of each says how long it is."""
    reader = BlockReader(LIMITS)
    while octets:
        length, block, octets = octets[0], octets[1 : octets[0] + 1], octets[octets[0] + 1 :]
        cut = length // 2
        reader.begin(1, block[:cut], end_stream=False)
        try:
            reader.go_on(block[cut:])
            section = reader.end()
        except RemoteProtocolError:
            return
        assert sum(len(name) + len(value) + 32 for name, value in section) <= 1_000
        _check_round_trip(section)


def _check_round_trip(section: list[tuple[bytes, bytes]]) -> None:
    wire = BlockWriter().serialize(1, section, False, 16_384)
    assert BlockReader(Limits())._limits.max_header_list > 1_000
    reader = BlockReader(Limits())
    reader.begin(1, wire[9:], end_stream=False)
    assert [(bytes(n), bytes(v)) for n, v in reader.end()] == [
        (bytes(n), bytes(v)) for n, v in section
    ]


def _conversations(role: Role) -> list[bytes]:
    peer = Peer(Role.CLIENT if role is Role.SERVER else Role.SERVER)
    said = [peer.hello((4, 1_000), (1, 0)), SETTINGS_ACK]
    heads = [GET, POST, CONNECT] if role is Role.SERVER else [OK, OK, OK]
    for stream_id, head in zip((1, 3, 5), heads, strict=True):
        said.append(peer.headers(stream_id, head))
        said.append(data(stream_id, b"some octets") + padded(stream_id, b"and more", 7))
    said += [
        ping(),
        window_update(0, 1_000),
        window_update(1, 5),
        settings((4, 100)),
        ping(ack=True),
    ]
    said += [data(1, b"", end_stream=True), reset(3, 8), peer.headers(5, TRAILERS, end_stream=True)]
    said += [serialize(0xBB, 0, 0, b"unknown"), serialize(FrameType.PRIORITY, 0, 7, bytes(5))]
    whole = b"".join(said)
    block = peer.encoder.encode(heads[0])
    split = serialize(FrameType.HEADERS, Flag(0), 7, block[:3]) + serialize(
        FrameType.CONTINUATION, Flag.END_HEADERS, 7, block[3:]
    )
    return [whole, said[0] + said[1] + split, whole + goaway(5), said[0]]


_FRAMES = [
    *(serialize(kind, flags, 1, bytes(4)) for kind in range(10) for flags in (0, 1, 4, 5)),
    ping(),
    SETTINGS_ACK,
    settings((5, 16_384)),
    reset(1),
    window_update(0, 2**31 - 1),
    data(3, b"x", end_stream=True),
]


def _blocks(*sections: list[tuple[bytes, bytes]]) -> bytes:
    encoder = hpack.Encoder()
    wire = b""
    for section in sections:
        block = encoder.encode(section)
        wire += bytes([len(block)]) + block
    return wire


_LONG = [(b"x-long", b"v" * 100), *((b"x-long", b"v" * 100) for _ in range(3))]

TARGETS = [
    Target(
        "http2-server",
        run_server,
        [*_conversations(Role.SERVER), *(each.wire for each in CONNECTIONS.values())],
        _FRAMES,
    ),
    Target("http2-client", run_client, _conversations(Role.CLIENT), _FRAMES),
    Target(
        "hpack",
        run_hpack,
        [
            _blocks(GET, POST, GET),
            _blocks(_LONG, GET, _LONG),
            b"\x03\x3f\xe1\x1f\x01\x82\x02\x20\x82",
        ],
        [
            b"\x20",
            b"\x3f\xe1\x1f",
            b"\x82",
            b"\xbe",
            b"\x40\x01a\x01b",
            b"\x00\x01a\x82\x1c\x64",
            b"\xff\x80",
        ],
    ),
]
