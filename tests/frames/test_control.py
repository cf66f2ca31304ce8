"""What the peer says in frames other than DATA, and what follows."""

import pytest

from frames import (
    ConnectionState,
    ErrorCode,
    Event,
    PingAcknowledged,
    Role,
    Setting,
    SettingsAcknowledged,
    SettingsReceived,
    StreamReset,
    StreamState,
)
from frames.frame import MAX_WINDOW, Flag, FrameType, serialize
from tests.frames.peer import (
    GET,
    OK,
    SETTINGS_ACK,
    TRAILERS,
    begun,
    breaks,
    data,
    padded,
    ping,
    requested,
    requesting,
    reset,
    sent_by,
    settings,
    window_update,
)

# -- SETTINGS -----------------------------------------------------------------------------------


def test_settings_are_in_force_and_acknowledged() -> None:
    side, _ = begun(Role.CLIENT)
    wire = settings((Setting.MAX_FRAME_SIZE, 65536), (Setting.MAX_CONCURRENT_STREAMS, 1))
    assert side.receive_data(wire) == [SettingsReceived({5: 65536, 3: 1})]
    assert side.data_to_send() == SETTINGS_ACK
    assert side.connection.peer_max_frame == 65536
    side.open_stream(GET)
    assert not side.connection.can_open


def test_our_settings_are_told_when_they_are_in_force() -> None:
    side, _ = begun(Role.CLIENT)
    side.connection.send_settings({Setting.INITIAL_WINDOW_SIZE: 70_000})
    assert side.receive_data(SETTINGS_ACK) == [SettingsAcknowledged()]


def test_unknown_settings_are_not_kept() -> None:
    side, _ = begun(Role.SERVER)
    wire = settings((0x0A0A, 99), (0xFFFF, 1), (Setting.ENABLE_PUSH, 0))
    assert side.receive_data(wire) == [SettingsReceived({0x0A0A: 99, 0xFFFF: 1, 2: 0})]
    assert set(side.connection.peer) <= set(Setting)


def test_the_last_of_several_values_counts() -> None:
    side, _, stream = requesting()
    side.receive_data(settings((4, 5), (4, MAX_WINDOW), (4, 10)))
    assert stream.send_window == 10


def test_many_settings_in_one_frame_are_refused() -> None:
    side, _ = begun(Role.SERVER)
    side.receive_data(settings(*[(4, 100)] * 32))
    assert breaks(side, settings(*[(4, 100)] * 33)) is ErrorCode.ENHANCE_YOUR_CALM


def test_an_initial_window_that_overflows_a_stream_breaks_the_connection() -> None:
    side, _, _ = requesting()
    side.receive_data(window_update(1, MAX_WINDOW - 65535))
    assert breaks(side, settings((4, 65536))) is ErrorCode.FLOW_CONTROL_ERROR


def test_the_peers_table_size_is_answered_in_the_next_block() -> None:
    side, peer = begun(Role.CLIENT)
    side.open_stream(GET)
    side.data_to_send()
    side.receive_data(settings((Setting.HEADER_TABLE_SIZE, 0)))
    side.data_to_send()
    side.open_stream(GET)
    ((_, _, _, block),) = sent_by(side)
    assert block[0] == 0x20, "RFC 7541 section 6.3: a table of 0 octets"
    peer.decoder.max_allowed_table_size = 0
    assert peer.decode(block) == GET


def test_a_table_size_of_ours_binds_the_peer_once_acknowledged() -> None:
    side, peer = begun(Role.SERVER)
    side.connection.send_settings({Setting.HEADER_TABLE_SIZE: 0})
    assert len(side.receive_data(peer.headers(1, GET))) == 1
    side.receive_data(SETTINGS_ACK)
    assert breaks(side, peer.headers(3, GET)) is ErrorCode.COMPRESSION_ERROR


def test_push_cannot_be_announced_by_a_server() -> None:
    side, _ = begun(Role.CLIENT)
    side.receive_data(settings((Setting.ENABLE_PUSH, 0)))
    assert breaks(side, settings((Setting.ENABLE_PUSH, 1))) is ErrorCode.PROTOCOL_ERROR


def test_extended_connect_cannot_be_taken_back_by_a_server() -> None:
    side, _ = begun(Role.CLIENT, (Setting.ENABLE_CONNECT_PROTOCOL, 1))
    wire = settings((Setting.ENABLE_CONNECT_PROTOCOL, 0))
    assert breaks(side, wire) is ErrorCode.PROTOCOL_ERROR


# -- PING, RST_STREAM, WINDOW_UPDATE, PRIORITY --------------------------------------------------


def test_a_ping_is_answered_with_its_octets() -> None:
    side, _ = begun(Role.SERVER)
    assert side.receive_data(ping(b"\x02\x04\x10\x10\x09\x0e\x07\x07")) == []
    assert side.data_to_send() == ping(b"\x02\x04\x10\x10\x09\x0e\x07\x07", ack=True)


def test_the_answer_to_our_ping_is_an_event() -> None:
    side, _ = begun(Role.SERVER)
    assert side.receive_data(ping(b"12345678", ack=True)) == [PingAcknowledged(b"12345678")]
    assert side.data_to_send() == b""


def test_a_reset_of_the_peers_ends_the_stream() -> None:
    side, _, stream = requested()
    assert side.receive_data(reset(1, 0x1234)) == [StreamReset(1, 0x1234, by_peer=True)]
    assert stream.state is StreamState.CLOSED
    assert stream.receiver is None
    assert not side.connection.streams


STREAM_IS_GONE: dict[str, bytes] = {
    "WINDOW_UPDATE": window_update(1, 5),
    "RST_STREAM": reset(1),
    "PRIORITY": serialize(FrameType.PRIORITY, 0, 1, bytes(5)),
}


@pytest.mark.parametrize("wire", STREAM_IS_GONE.values(), ids=STREAM_IS_GONE)
@pytest.mark.parametrize("by_us", [True, False])
def test_stream_management_on_a_closed_stream_is_ignored(wire: bytes, by_us: bool) -> None:
    side, _, stream = requested()
    if by_us:
        side.connection.reset_stream(stream, ErrorCode.CANCEL)
    else:
        side.receive_data(reset(1))
    side.data_to_send()
    assert side.receive_data(wire) == []
    assert side.data_to_send() == b""


def test_a_window_that_overflows_resets_its_stream() -> None:
    side, _, _ = requesting()
    (event,) = side.receive_data(window_update(1, MAX_WINDOW))
    assert isinstance(event, StreamReset)
    assert event.code == ErrorCode.FLOW_CONTROL_ERROR
    assert side.data_to_send() == reset(1, ErrorCode.FLOW_CONTROL_ERROR)


def test_the_reserved_bit_of_an_increment_is_ignored() -> None:
    side, _, stream = requesting()
    side.receive_data(window_update(1, 0x80000000 | 7))
    assert stream.send_window == 65535 + 7


def test_an_increment_of_nothing_resets_its_stream() -> None:
    side, _, _ = requesting()
    (event,) = side.receive_data(window_update(1, 0))
    assert isinstance(event, StreamReset)
    assert event.code == ErrorCode.PROTOCOL_ERROR


def test_priorities_are_ignored_even_of_idle_streams() -> None:
    side, _ = begun(Role.SERVER)
    wire = serialize(FrameType.PRIORITY, 0, 99, bytes.fromhex("80000001 ff"))
    assert side.receive_data(wire) == []
    assert side.data_to_send() == b""


# -- frames of no stream, or of the wrong one ----------------------------------------------------


def priority(stream_id: int, dependency: int) -> bytes:
    return serialize(FrameType.PRIORITY, 0, stream_id, dependency.to_bytes(4) + b"\x10")


FATAL: dict[str, tuple[bytes, ErrorCode]] = {
    "6.1 DATA on stream 0": (data(0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "6.1 DATA on an idle stream": (data(9, b"x"), ErrorCode.PROTOCOL_ERROR),
    "6.1 padding too long": (
        serialize(FrameType.DATA, Flag.PADDED, 1, b"\x04abc"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "6.1 padded, empty": (serialize(FrameType.DATA, Flag.PADDED, 1), ErrorCode.FRAME_SIZE_ERROR),
    "6.2 HEADERS on stream 0": (
        serialize(FrameType.HEADERS, Flag.END_HEADERS, 0, b"\x82"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "6.2 HEADERS on an even stream": (
        serialize(FrameType.HEADERS, Flag.END_HEADERS, 2, b"\x82"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "6.2 padding too long": (
        serialize(FrameType.HEADERS, Flag.END_HEADERS | Flag.PADDED, 3, b"\x04abc"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "6.2 short priority": (
        serialize(FrameType.HEADERS, Flag.END_HEADERS | Flag.PRIORITY, 3, b"abcd"),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "RFC 7540 5.3.1 depends on itself": (
        serialize(
            FrameType.HEADERS, Flag.END_HEADERS | Flag.PRIORITY, 3, (3).to_bytes(4) + b"\x10\x82"
        ),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "6.3 PRIORITY on stream 0": (priority(0, 1), ErrorCode.PROTOCOL_ERROR),
    "6.4 RST_STREAM on stream 0": (reset(0), ErrorCode.PROTOCOL_ERROR),
    "6.4 RST_STREAM on an idle stream": (reset(3), ErrorCode.PROTOCOL_ERROR),
    "6.4 RST_STREAM too long": (
        serialize(FrameType.RST_STREAM, 0, 1, bytes(5)),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "6.5 SETTINGS on a stream": (
        serialize(FrameType.SETTINGS, 0, 1),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "6.5 SETTINGS of 7 octets": (
        serialize(FrameType.SETTINGS, 0, 0, bytes(7)),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "6.5 SETTINGS ACK with settings": (
        serialize(FrameType.SETTINGS, Flag.ACK, 0, bytes(6)),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "6.5.2 ENABLE_PUSH of 2": (settings((2, 2)), ErrorCode.PROTOCOL_ERROR),
    "6.5.2 window too large": (settings((4, 2**31)), ErrorCode.FLOW_CONTROL_ERROR),
    "6.5.2 frame size too small": (settings((5, 16_383)), ErrorCode.PROTOCOL_ERROR),
    "6.6 PUSH_PROMISE": (
        serialize(FrameType.PUSH_PROMISE, Flag.END_HEADERS, 1, (2).to_bytes(4) + b"\x82"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "6.7 PING on a stream": (
        serialize(FrameType.PING, 0, 1, bytes(8)),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "6.7 PING of 7 octets": (
        serialize(FrameType.PING, 0, 0, bytes(7)),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "6.8 GOAWAY on a stream": (
        serialize(FrameType.GOAWAY, 0, 1, bytes(8)),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "6.8 GOAWAY of 7 octets": (
        serialize(FrameType.GOAWAY, 0, 0, bytes(7)),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "6.9 increment of nothing": (window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
    "6.9 WINDOW_UPDATE on an idle stream": (window_update(3, 1), ErrorCode.PROTOCOL_ERROR),
    "6.9 WINDOW_UPDATE of 3 octets": (
        serialize(FrameType.WINDOW_UPDATE, 0, 0, bytes(3)),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "6.9.1 window too large": (window_update(0, MAX_WINDOW), ErrorCode.FLOW_CONTROL_ERROR),
    "6.10 CONTINUATION of nothing": (
        serialize(FrameType.CONTINUATION, Flag.END_HEADERS, 1, b"\x82"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "6.10 CONTINUATION of another stream": (
        serialize(FrameType.HEADERS, 0, 3, b"\x82")
        + serialize(FrameType.CONTINUATION, Flag.END_HEADERS, 1, b"\x82"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "6.10 DATA amid a header block": (
        serialize(FrameType.HEADERS, 0, 3, b"\x82") + data(1, b"x"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "6.10 unknown frame amid a header block": (
        serialize(FrameType.HEADERS, 0, 3, b"\x82") + serialize(0x42, 0, 3, b"x"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "4.2 frame too long": (serialize(0x42, 0, 0, bytes(16_385)), ErrorCode.FRAME_SIZE_ERROR),
}


@pytest.mark.parametrize(("wire", "code"), FATAL.values(), ids=FATAL)
def test_some_frames_break_the_connection(wire: bytes, code: ErrorCode) -> None:
    side, _, _ = requested()
    assert breaks(side, wire) is code


def test_a_lower_stream_id_that_was_never_used_breaks_the_connection() -> None:
    side, peer = begun(Role.SERVER)
    side.receive_data(peer.headers(5, GET))
    assert breaks(side, peer.headers(3, GET)) is ErrorCode.PROTOCOL_ERROR


def test_data_on_a_stream_that_was_skipped_breaks_the_connection() -> None:
    side, peer = begun(Role.SERVER)
    side.receive_data(peer.headers(5, GET))
    assert breaks(side, data(3, b"x")) is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize("how", ["ended", "reset"])
def test_headers_on_a_stream_that_its_peer_ended_break_the_connection(how: str) -> None:
    side, peer, stream = requested()
    if how == "ended":
        side.receive_data(data(1, b"", end_stream=True))
        side.connection.send_headers(stream, OK, end_stream=True)
    else:
        side.receive_data(reset(1))
    assert breaks(side, peer.headers(1, TRAILERS, end_stream=True)) is ErrorCode.STREAM_CLOSED


@pytest.mark.parametrize("how", ["ended", "reset", "half-closed"])
def test_data_on_a_stream_that_its_peer_ended_resets_it(how: str) -> None:
    side, _, stream = requested()
    side.receive_data(reset(1) if how == "reset" else data(1, b"", end_stream=True))
    if how == "ended":
        side.connection.send_headers(stream, OK, end_stream=True)
    side.data_to_send()
    events: list[Event] = side.receive_data(data(1, b"x"))
    assert side.data_to_send() == reset(1, ErrorCode.STREAM_CLOSED)
    assert bool(events) == (how == "half-closed")
    assert side.receive_data(data(1, b"x") + padded(1, b"x", 3)) == []


STREAM_ERRORS: dict[str, tuple[bytes, ErrorCode]] = {
    "5.3.1 depends on itself": (priority(1, 1), ErrorCode.PROTOCOL_ERROR),
    "6.3 PRIORITY of 4 octets": (
        serialize(FrameType.PRIORITY, 0, 1, bytes(4)),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "6.9 increment of nothing": (window_update(1, 0), ErrorCode.PROTOCOL_ERROR),
    "6.9.1 window too large": (window_update(1, MAX_WINDOW), ErrorCode.FLOW_CONTROL_ERROR),
}


@pytest.mark.parametrize(("wire", "code"), STREAM_ERRORS.values(), ids=STREAM_ERRORS)
def test_some_frames_break_their_stream_alone(wire: bytes, code: ErrorCode) -> None:
    side, _, stream = requested()
    (event,) = side.receive_data(wire)
    assert isinstance(event, StreamReset)
    assert (event.stream_id, event.code, event.by_peer) == (1, code, False)
    assert side.data_to_send() == reset(1, code)
    assert stream.state is StreamState.CLOSED
    assert side.connection.state is ConnectionState.OPEN
