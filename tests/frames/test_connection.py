"""Octets cut into frames: DATA in place, padding, what is kept and what is refused."""

import pytest

from frames import (
    BufferedConnection,
    DataReceived,
    ErrorCode,
    RequestReceived,
    Role,
    Setting,
    StreamReset,
    StreamState,
)
from frames.frame import PREFACE, Flag, FrameType, serialize
from tests.frames.peer import (
    GET,
    POST,
    Peer,
    begun,
    breaks,
    data,
    merged,
    padded,
    ping,
    requested,
    reset,
    sent_by,
    window_update,
)

# -- the start ----------------------------------------------------------------------------------


def test_a_client_must_begin_with_the_preface() -> None:
    side = BufferedConnection(Role.SERVER)
    side.connection.initiate()
    assert breaks(side, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") is ErrorCode.PROTOCOL_ERROR


def test_a_wrong_preface_is_refused_at_its_first_wrong_octet() -> None:
    side = BufferedConnection(Role.SERVER)
    side.connection.initiate()
    side.receive_data(PREFACE[:10])
    assert breaks(side, b"x") is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(
    "first",
    [ping(), data(1, b"x"), serialize(FrameType.SETTINGS, Flag.ACK, 0), serialize(0x42, 0, 0)],
    ids=["PING", "DATA", "SETTINGS ACK", "unknown"],
)
def test_the_first_frame_must_be_settings(role: Role, first: bytes) -> None:
    side = BufferedConnection(role)
    side.connection.initiate()
    preface = PREFACE if role is Role.SERVER else b""
    assert breaks(side, preface + first) is ErrorCode.PROTOCOL_ERROR


def test_a_client_may_talk_before_it_has_read_anything() -> None:
    side, peer = BufferedConnection(Role.SERVER), Peer(Role.CLIENT)
    side.connection.initiate()
    wire = peer.hello() + peer.headers(1, POST) + data(1, b"body", end_stream=True)
    assert side.receive_data(wire)[1:] == [
        RequestReceived(1, POST, False),
        DataReceived(1, b"body", True),
    ]


# -- DATA ---------------------------------------------------------------------------------------


def test_data_goes_to_the_receiver_as_a_view_of_what_came() -> None:
    side, _, stream = requested()
    seen: list[tuple[bytes, object, bool]] = []
    stream.receiver = lambda octets, end: seen.append((bytes(octets), octets.obj, end))
    wire = data(1, b"some") + data(1, b"thing", end_stream=True)
    assert side.connection.receive(memoryview(wire)) == len(wire)
    assert seen == [(b"some", wire, False), (b"thing", wire, True)]
    assert seen[0][1] is wire, "no copy"


def test_data_goes_on_before_its_frame_is_complete() -> None:
    side, _, stream = requested()
    seen: list[tuple[bytes, bool]] = []
    stream.receiver = lambda octets, end: seen.append((bytes(octets), end))
    wire = data(1, b"abcdef", end_stream=True)
    for part in (wire[:11], wire[11:14], wire[14:]):
        assert side.connection.receive(memoryview(part)) == len(part)
    assert seen == [(b"ab", False), (b"cde", False), (b"f", True)]
    assert stream.state is StreamState.HALF_CLOSED_REMOTE


def test_the_stream_ends_with_its_last_octet_not_before() -> None:
    side, _, stream = requested()
    side.connection.receive(memoryview(data(1, b"abc", end_stream=True)[:-1]))
    assert stream.can_receive
    side.connection.receive(memoryview(b"c"))
    assert not stream.can_receive


def test_the_end_comes_even_without_octets() -> None:
    side, _, _ = requested()
    assert side.receive_data(data(1, b"", end_stream=True)) == [DataReceived(1, b"", True)]


def test_empty_data_is_no_news() -> None:
    side, _, _ = requested()
    assert side.receive_data(data(1, b"") + padded(1, b"", 10)) == []


@pytest.mark.parametrize("payload", [b"", b"x", b"abcde"])
@pytest.mark.parametrize("padding", [0, 1, 9, 255])
@pytest.mark.parametrize("end_stream", [False, True])
def test_padding_is_skipped_wherever_it_is_cut(
    payload: bytes, padding: int, end_stream: bool
) -> None:
    wire = padded(1, payload, padding, end_stream=end_stream)
    after = data(3, b"next")
    for cut in range(len(wire) + 1):
        side, peer, stream = requested()
        side.receive_data(peer.headers(3, POST))
        events = side.receive_data(wire[:cut]) + side.receive_data(wire[cut:] + after)
        expected = [DataReceived(1, payload, end_stream)] if payload or end_stream else []
        assert merged(events) == [*expected, DataReceived(3, b"next", False)]
        assert stream.can_receive != end_stream
        flow_length = 1 + len(payload) + padding
        assert stream.receive_window == 65535 - flow_length
        assert stream.unacked == flow_length, "padding is consumed by itself"


def test_octets_for_nobody_are_credited() -> None:
    side, _, stream = requested()
    stream.receiver = None
    side.data_to_send()
    side.receive_data(data(1, bytes(16_384)) * 2)
    assert {frame[2] for frame in sent_by(side)} == {0, 1}
    assert stream.receive_window > 65535


def test_the_connection_is_credited_on_receipt_whoever_reads() -> None:
    side, peer, stream = requested()
    stream.receiver = lambda octets, end: None
    side.receive_data(peer.headers(3, POST))
    side.connection.streams[3].receiver = lambda octets, end: None
    side.data_to_send()
    assert side.receive_data((data(1, bytes(16_384)) + data(3, bytes(16_384))) * 3) == []
    assert {frame[2] for frame in sent_by(side)} == {0}
    assert side.connection.receive_window > 65535 - 32768
    assert stream.receive_window == 65535 - 3 * 16_384


def test_a_stream_whose_window_is_overrun_is_reset_alone() -> None:
    side, peer, stream = requested()
    stream.receiver = lambda octets, end: None
    side.receive_data(data(1, bytes(16_384)) * 3)
    (event,) = side.receive_data(data(1, bytes(16_384)))
    assert isinstance(event, StreamReset)
    assert event.code == ErrorCode.FLOW_CONTROL_ERROR
    assert side.receive_data(data(1, bytes(16_384))) == []
    assert len(side.receive_data(peer.headers(3, POST) + data(3, b"x"))) == 2


def test_a_connection_whose_window_is_overrun_is_broken() -> None:
    side, _, _ = requested()
    side.connection.receive_window = 5
    side.connection._unacked = 0
    assert breaks(side, data(1, b"123456")) is ErrorCode.FLOW_CONTROL_ERROR


@pytest.mark.parametrize(
    ("parts", "good"),
    [([3, 2], True), ([5], True), ([6], False), ([3, 3], False), ([4], False), ([], False)],
)
def test_a_body_is_as_long_as_it_promised(parts: list[int], good: bool) -> None:
    side, peer = begun(Role.SERVER)
    side.receive_data(peer.headers(1, [*POST, (b"content-length", b"5")]))
    wire = b"".join(data(1, bytes(size)) for size in parts) + data(1, b"", end_stream=True)
    events = side.receive_data(wire)
    assert isinstance(events[-1], DataReceived) == good
    assert (reset(1, ErrorCode.PROTOCOL_ERROR) in side.data_to_send()) != good


def test_padding_is_not_part_of_a_body() -> None:
    side, peer = begun(Role.SERVER)
    side.receive_data(peer.headers(1, [*POST, (b"content-length", b"5")]))
    events = side.receive_data(padded(1, b"12345", 200, end_stream=True))
    assert events == [DataReceived(1, b"12345", True)]


# -- streams that end amid a frame ----------------------------------------------------------------


@pytest.mark.parametrize("frame", [data(1, b"x" * 100), padded(1, b"x" * 100, 50)])
@pytest.mark.parametrize("cut", [9, 10, 11, 60, 109])
def test_what_is_left_of_a_frame_is_skipped_when_its_stream_was_reset(
    frame: bytes, cut: int
) -> None:
    side, peer, stream = requested()
    side.receive_data(frame[:cut])
    side.connection.reset_stream(stream, ErrorCode.CANCEL)
    assert side.receive_data(frame[cut:] + peer.headers(3, GET)) == [RequestReceived(3, GET, False)]


def test_a_receiver_may_reset_its_stream_amid_a_frame() -> None:
    side, peer, stream = requested()
    seen: list[bytes] = []

    def receive(octets: memoryview, end_stream: bool) -> None:
        seen.append(bytes(octets))
        side.connection.reset_stream(stream, ErrorCode.CANCEL)

    stream.receiver = receive
    frame = padded(1, b"x" * 100, 50, end_stream=True)
    side.connection.receive(memoryview(frame[:20]))
    wire = frame[20:] + data(1, b"crossed") + peer.headers(3, GET)
    assert side.receive_data(wire) == [RequestReceived(3, GET, False)]
    assert seen == [b"x" * 10]


# -- what is kept, what is refused ----------------------------------------------------------------


def test_an_incomplete_control_frame_is_left_over() -> None:
    side, _ = begun(Role.SERVER)
    wire = ping() + ping()[:-1]
    assert side.connection.receive(memoryview(wire)) == 17
    assert side.connection.receive(memoryview(ping())) == 17


def test_unknown_frames_are_skipped_however_long_and_wherever_cut() -> None:
    side, _ = begun(Role.SERVER)
    side.data_to_send()
    wire = serialize(0x42, 0xFF, 7, bytes(16_384)) + ping()
    for cut in (5, 9, 10, 16_000, len(wire) - 3):
        assert side.receive_data(wire[:cut]) == []
        assert len(side._kept) < 17
        assert side.receive_data(wire[cut:]) == []
        assert side.data_to_send() == ping(ack=True)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("frame_type", [FrameType.SETTINGS, FrameType.GOAWAY, FrameType.PING])
def test_a_long_control_frame_is_refused_whether_it_is_there_or_not(
    frame_type: FrameType, complete: bool
) -> None:
    side, _ = begun(Role.SERVER, ours={Setting.MAX_FRAME_SIZE: 1 << 20})
    frame = serialize(frame_type, 0, 0, bytes(16 * 1024 + 2))
    assert breaks(side, frame if complete else frame[:9]) is ErrorCode.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("complete", [True, False])
def test_a_long_header_block_is_refused_whether_it_is_there_or_not(complete: bool) -> None:
    side, _ = begun(Role.SERVER, ours={Setting.MAX_FRAME_SIZE: 1 << 20})
    frame = serialize(FrameType.HEADERS, Flag.END_HEADERS, 1, bytes(32 * 1024 + 300))
    assert breaks(side, frame if complete else frame[:9]) is ErrorCode.ENHANCE_YOUR_CALM


def test_frames_may_be_as_long_as_we_announced() -> None:
    side, peer = begun(Role.SERVER, ours={Setting.MAX_FRAME_SIZE: 20_000})
    side.receive_data(peer.headers(1, POST))
    assert side.receive_data(data(1, bytes(20_000))) == [DataReceived(1, bytes(20_000), False)]
    assert breaks(side, data(1, bytes(20_001))[:9]) is ErrorCode.FRAME_SIZE_ERROR


def test_the_reserved_bit_of_a_stream_id_is_ignored() -> None:
    side, _, _ = requested()
    wire = bytearray(data(1, b"x"))
    wire[5] |= 0x80
    assert side.receive_data(bytes(wire)) == [DataReceived(1, b"x", False)]


def test_undefined_flags_are_ignored() -> None:
    side, _, _ = requested()
    wire = serialize(FrameType.DATA, 0xF6, 1, b"x") + serialize(FrameType.PING, 0xFE, 0, bytes(8))
    assert side.receive_data(wire) == [DataReceived(1, b"x", False)]


def test_what_comes_after_the_end_is_swallowed() -> None:
    side, peer, _ = requested()
    side.receive_data(data(1, b"abc")[:10])
    breaks(side, b"xx" + window_update(0, 0))
    wire = peer.headers(3, GET)
    assert side.connection.receive(memoryview(wire)) == len(wire)
    assert side.take_events() == [DataReceived(1, b"xx", False)]
