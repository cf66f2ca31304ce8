"""Frames as octets. Literal frames follow the layouts of RFC 9113 sections 4.1 and 6."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frames import ErrorCode, RemoteProtocolError
from frames.frame import (
    HEADER,
    PREFACE,
    Flag,
    FrameType,
    parse_goaway,
    parse_settings,
    parse_u32,
    serialize,
    serialize_goaway,
    serialize_settings,
    serialize_u32,
    strip_padding,
)

u31 = st.integers(0, 2**31 - 1)
u32 = st.integers(0, 2**32 - 1)


def test_the_preface_is_that_of_section_3_4() -> None:
    assert PREFACE.hex() == "505249202a20485454502f322e300d0a0d0a534d0d0a0d0a"


LAID_OUT = {
    "6.2 HEADERS": (
        serialize(FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, 1, b"\x82"),
        "000001 01 05 00000001 82",
    ),
    "6.4 RST_STREAM": (
        serialize_u32(FrameType.RST_STREAM, 5, ErrorCode.CANCEL),
        "000004 03 00 00000005 00000008",
    ),
    "6.5 SETTINGS, empty": (serialize_settings([]), "000000 04 00 00000000"),
    "6.5 SETTINGS": (
        serialize_settings([(4, 65535), (5, 16384)]),
        "00000c 04 00 00000000 00040000ffff 000500004000",
    ),
    "6.5 SETTINGS ACK": (
        serialize(FrameType.SETTINGS, Flag.ACK, 0),
        "000000 04 01 00000000",
    ),
    "6.7 PING": (
        serialize(FrameType.PING, 0, 0, bytes(range(8))),
        "000008 06 00 00000000 0001020304050607",
    ),
    "6.8 GOAWAY": (
        serialize_goaway(3, ErrorCode.PROTOCOL_ERROR, b"bad"),
        "00000b 07 00 00000000 00000003 00000001 626164",
    ),
    "6.9 WINDOW_UPDATE": (
        serialize_u32(FrameType.WINDOW_UPDATE, 0, 2**31 - 1),
        "000004 08 00 00000000 7fffffff",
    ),
}


@pytest.mark.parametrize(("octets", "wire"), LAID_OUT.values(), ids=LAID_OUT)
def test_frames_are_laid_out_as_in_their_section(octets: bytes, wire: str) -> None:
    assert octets == bytes.fromhex(wire)


@given(st.lists(st.tuples(st.integers(0, 2**16 - 1), u32)))
def test_settings_come_back_in_order(settings: list[tuple[int, int]]) -> None:
    assert parse_settings(serialize_settings(settings)[9:]) == settings


@given(u31, u32, st.binary(max_size=50))
def test_goaway_comes_back(last: int, code: int, debug: bytes) -> None:
    assert parse_goaway(serialize_goaway(last, code, debug)[9:]) == (last, code, debug)


def test_the_reserved_bit_of_goaway_is_ignored() -> None:
    assert parse_goaway(bytes.fromhex("80000007 00000000")) == (7, 0, b"")


@given(u32)
def test_a_number_comes_back(value: int) -> None:
    assert parse_u32("RST_STREAM", serialize_u32(FrameType.RST_STREAM, 1, value)[9:]) == value


@given(st.integers(0, 2**24 - 1), st.integers(0, 255), st.integers(0, 255), u31)
def test_a_header_holds_length_and_type_as_one_number(
    length: int, frame_type: int, flags: int, stream_id: int
) -> None:
    octets = HEADER.pack(length << 8 | frame_type, flags, stream_id)
    assert octets == length.to_bytes(3) + bytes([frame_type, flags]) + stream_id.to_bytes(4)


@pytest.mark.parametrize("size", [1, 5, 7, 11])
def test_settings_of_an_odd_length_are_refused(size: int) -> None:
    with pytest.raises(RemoteProtocolError, match="multiple of 6") as caught:
        parse_settings(bytes(size))
    assert caught.value.code is ErrorCode.FRAME_SIZE_ERROR


@pytest.mark.parametrize("size", [0, 3, 5])
def test_a_number_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"{size} octets, allowed: 4") as caught:
        parse_u32("WINDOW_UPDATE", bytes(size))
    assert caught.value.code is ErrorCode.FRAME_SIZE_ERROR


def test_a_short_goaway_is_refused() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_goaway(bytes(7))
    assert caught.value.code is ErrorCode.FRAME_SIZE_ERROR


@given(st.binary(max_size=50), st.integers(0, 255))
def test_padding_comes_off(payload: bytes, padding: int) -> None:
    assert strip_padding("HEADERS", bytes([padding]) + payload + bytes(padding)) == payload


@pytest.mark.parametrize("payload", [b"\x01", b"\x05abcd", b"\xff" + bytes(254)])
def test_padding_as_long_as_the_payload_is_refused(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="padding") as caught:
        strip_padding("HEADERS", payload)
    assert caught.value.code is ErrorCode.PROTOCOL_ERROR


def test_a_padded_frame_without_a_pad_length_is_refused() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        strip_padding("HEADERS", b"")
    assert caught.value.code is ErrorCode.FRAME_SIZE_ERROR
