"""Properties of parsing: where octets are cut does not matter, and nothing else than
`RemoteProtocolError` comes of octets that are wrong."""

from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from frames import (
    BufferedConnection,
    DataReceived,
    ErrorCode,
    Event,
    Limits,
    RemoteProtocolError,
    Role,
    Setting,
)
from frames.frame import Flag, FrameType, serialize
from tests.frames.peer import GET, error_of, merged
from tests.frames.strategies import OPENED_BY_CLIENT, conversations, hello, noise, pieces

roles = st.sampled_from(Role)


def beginning(role: Role) -> BufferedConnection:
    """A connection that has said hello; as a client, with requests open."""
    side = BufferedConnection(role, limits=Limits(max_header_block=200, max_continuations=3))
    side.connection.initiate()
    if role is Role.CLIENT:
        for _ in range(OPENED_BY_CLIENT):
            side.open_stream(GET)
    return side


def outcome(role: Role, parts: Iterable[bytes]) -> tuple[list[Event], ErrorCode | None]:
    """The events that come of ``parts``, and how the connection ended, if it did."""
    side = beginning(role)
    events: list[Event] = []
    try:
        for part in parts:
            events += side.receive_data(part)
            assert len(side._kept) < side.connection.max_kept
    except RemoteProtocolError as exc:
        return merged(events + side.take_events()), exc.code
    return merged(events), None


@given(roles, st.data())
def test_any_cut_of_a_conversation_gives_the_same_events(role: Role, draw: st.DataObject) -> None:
    wire = hello(role) + draw.draw(conversations(role))
    assert outcome(role, draw.draw(pieces(wire))) == outcome(role, [wire])


@given(roles, st.data())
def test_any_cut_of_any_frames_gives_the_same_events(role: Role, draw: st.DataObject) -> None:
    wire = hello(role) + draw.draw(conversations(role)) + draw.draw(noise())
    assert outcome(role, draw.draw(pieces(wire))) == outcome(role, [wire])


@given(roles, st.data())
def test_octet_by_octet_gives_the_same_events(role: Role, draw: st.DataObject) -> None:
    wire = hello(role) + draw.draw(conversations(role)) + draw.draw(noise())
    assert outcome(role, (bytes([octet]) for octet in wire)) == outcome(role, [wire])


@given(roles, st.data())
def test_a_conversation_that_breaks_off_is_the_beginning_of_the_whole(
    role: Role, draw: st.DataObject
) -> None:
    wire = hello(role) + draw.draw(conversations(role))
    part, _ = outcome(role, [wire[: draw.draw(st.integers(0, len(wire)))]])
    whole, _ = outcome(role, [wire])
    assert part[:-1] == whole[: len(part)][:-1]
    for last, complete in zip(part[-1:], whole[len(part) - 1 :], strict=False):
        if last != complete:  # DATA whose frame, or neighbour, had not come
            assert isinstance(last, DataReceived)
            assert isinstance(complete, DataReceived)
            assert complete.data.startswith(last.data)


@given(roles, st.binary(max_size=2_000), st.booleans())
def test_garbage_is_an_error_of_the_peers_or_nothing(
    role: Role, garbage: bytes, after_hello: bool
) -> None:
    side = beginning(role)
    wire = (hello(role) if after_hello else b"") + garbage
    error = error_of(lambda: side.receive_data(wire))
    assert len(side._kept) < side.connection.max_kept
    if error is not None:
        side.take_events()
        assert error.code.to_bytes(4) in side.data_to_send()
        assert side.receive_data(garbage) == []
        assert side.data_to_send() == b""


@given(roles, st.data())
def test_flipped_bits_are_an_error_of_the_peers_or_nothing(role: Role, draw: st.DataObject) -> None:
    wire = bytearray(hello(role) + draw.draw(conversations(role)))
    for _ in range(draw.draw(st.integers(1, 4))):
        wire[draw.draw(st.integers(0, len(wire) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    outcome(role, [bytes(wire)])


# -- what is left over ----------------------------------------------------------------------------

LONGEST: dict[str, bytes] = {
    "HEADERS": serialize(FrameType.HEADERS, Flag.END_HEADERS, 1, bytes(5_000 + 261)),
    "SETTINGS": serialize(FrameType.SETTINGS, 0, 0, bytes(16_384)),
    "DATA": serialize(FrameType.DATA, 0, 1, bytes(100_000)),
    "unknown": serialize(0x77, 0, 1, bytes(100_000)),
}


@pytest.mark.parametrize("frame", LONGEST.values(), ids=LONGEST)
@pytest.mark.parametrize("max_header_block", [100, 5_000, 50_000])
def test_less_than_max_kept_is_left_over_of_any_frame(frame: bytes, max_header_block: int) -> None:
    side = BufferedConnection(
        Role.SERVER,
        settings={Setting.MAX_FRAME_SIZE: 1 << 20},
        limits=Limits(max_header_block=max_header_block),
        receive_window=1 << 20,
    )
    side.connection.initiate()
    side.receive_data(hello(Role.SERVER))
    for start in range(0, len(frame), 1_111):
        try:
            side.receive_data(frame[start : start + 1_111])
        except RemoteProtocolError:
            break
        assert len(side._kept) < side.connection.max_kept


@given(st.integers(0, 2**24 - 1), st.integers(0, 255), st.integers(0, 255), st.integers(0, 9))
@example(32 * 1024 + 261, FrameType.HEADERS, 0, 1)
@example(16 * 1024, FrameType.PUSH_PROMISE, 0, 1)
def test_a_frame_that_may_be_kept_fits(
    length: int, frame_type: int, flags: int, stream_id: int
) -> None:
    """A frame header alone: either the frame is refused, or passed on as it comes, or short."""
    side = BufferedConnection(Role.SERVER, settings={Setting.MAX_FRAME_SIZE: 2**24 - 1})
    side.connection.initiate()
    side.receive_data(hello(Role.SERVER))
    header = length.to_bytes(3) + bytes([frame_type, flags]) + stream_id.to_bytes(4)
    try:
        side.receive_data(header)
    except RemoteProtocolError:
        return
    if frame_type != FrameType.DATA:
        assert not side._kept or len(header) + length <= side.connection.max_kept
