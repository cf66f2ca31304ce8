import itertools
import struct
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctl.messages import (
    EXIT_CODES,
    MAX_FRAME,
    ControlError,
    Decoder,
    FrameError,
    Message,
    encode,
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
messages = st.dictionaries(st.text(), values, max_size=4)


def pack(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def drain(decoder: Decoder) -> list[Message]:
    return list(iter(decoder.next_message, None))


@given(st.lists(messages, max_size=4))
def test_what_is_encoded_is_decoded(sent: list[Message]) -> None:
    decoder = Decoder()
    decoder.feed(b"".join(map(encode, sent)))
    assert drain(decoder) == sent
    assert decoder.take_rest() == b""


@given(st.lists(messages, max_size=4), st.data())
def test_where_the_bytes_are_cut_does_not_matter(sent: list[Message], data: st.DataObject) -> None:
    wire = b"".join(map(encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)))))
    decoder = Decoder()
    got = []
    for start, end in itertools.pairwise([0, *cuts, len(wire)]):
        decoder.feed(wire[start:end])
        got += drain(decoder)
    assert got == sent


@given(st.lists(messages, min_size=1, max_size=4), st.binary())
def test_reading_only_what_is_missing_leaves_the_octets_behind_a_message(
    sent: list[Message], behind: bytes
) -> None:
    wire = memoryview(b"".join(map(encode, sent)) + behind)
    decoder = Decoder()
    got: list[Message] = []
    while len(got) < len(sent):
        message = decoder.next_message()
        if message is not None:
            got.append(message)
            continue
        wanted = decoder.missing()
        decoder.feed(bytes(wire[:wanted]))
        wire = wire[wanted:]
    assert got == sent
    assert bytes(wire) == behind
    assert decoder.take_rest() == b""


@given(st.binary())
def test_garbage_raises_a_frame_error_and_nothing_else(garbage: bytes) -> None:
    decoder = Decoder()
    decoder.feed(garbage)
    try:
        drain(decoder)
    except FrameError:
        pass
    assert decoder.missing() >= 1


@given(st.binary(max_size=200))
def test_a_garbage_body_is_a_message_or_a_frame_error(body: bytes) -> None:
    decoder = Decoder()
    decoder.feed(framed(body))
    try:
        message = decoder.next_message()
    except FrameError:
        return
    assert isinstance(message, dict)
    assert all(isinstance(key, str) for key in message)


def test_an_oversize_frame_is_refused_by_its_head_before_its_body_comes() -> None:
    decoder = Decoder()
    decoder.feed(struct.pack(">I", MAX_FRAME + 1))
    with pytest.raises(FrameError, match=f"frame of {MAX_FRAME + 1} octets, limit {MAX_FRAME}"):
        decoder.next_message()


def test_the_largest_frame_passes() -> None:
    message = {"k": b"\0" * (MAX_FRAME - 8)}
    wire = encode(message)
    assert len(wire) <= 4 + MAX_FRAME
    decoder = Decoder()
    decoder.feed(wire)
    assert decoder.next_message() == message


def test_a_message_that_is_too_large_is_not_encoded() -> None:
    with pytest.raises(FrameError, match=f"limit {MAX_FRAME}"):
        encode({"k": b"\0" * MAX_FRAME})


@pytest.mark.parametrize(
    "value",
    [None, 1, "text", [], [{"id": 1}], {1: "integer key"}, {b"bytes": "key"}],
)
def test_a_body_that_is_no_map_with_string_keys_is_refused(value: Any) -> None:
    decoder = Decoder()
    decoder.feed(framed(pack(value)))
    with pytest.raises(FrameError):
        decoder.next_message()


@pytest.mark.parametrize(
    "body",
    [b"", b"\xc1", b"\x81", pack({"a": 1}) + b"\0", b"\x81\xa1a\xa1\xff", b"\x91" * 2000 + b"\0"],
    ids=["empty", "unused code", "cut off", "trailing octet", "bad utf-8", "deeply nested"],
)
def test_a_body_that_is_not_one_msgpack_value_is_refused(body: bytes) -> None:
    decoder = Decoder()
    decoder.feed(framed(body))
    with pytest.raises(FrameError):
        decoder.next_message()


def test_an_error_crosses_the_wire_whole() -> None:
    error = ControlError("no_agent", "no agent for 10.0.0.1:80", "start one")
    again = ControlError.from_map(error.to_map())
    assert (again.code, again.message, again.hint) == (error.code, error.message, error.hint)


@pytest.mark.parametrize("value", [None, "text", [1]])
def test_an_error_that_is_no_map_becomes_an_internal_one(value: object) -> None:
    assert ControlError.from_map(value).code == "internal"


def test_exit_codes_are_those_of_the_design() -> None:
    assert EXIT_CODES["no_daemon"] == 3
    assert EXIT_CODES["not_found"] == 4
    assert EXIT_CODES["denied"] == 5
    assert EXIT_CODES["timeout"] == 6
    assert EXIT_CODES["no_agent"] == 7
    assert EXIT_CODES["usage"] == EXIT_CODES["bad_request"] == 2
