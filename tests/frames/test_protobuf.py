"""Protobuf's octets. Literal ones follow the examples of the protobuf project's "Encoding"."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frames.protobuf import (
    PacketError,
    parse_fields,
    parse_varint,
    serialize_field,
    serialize_length,
    serialize_varint,
    signed,
)
from tests.frames.packets import field, messages, varint

uint64s = st.integers(0, 2**64 - 1)


def fields_of(octets: str) -> list[tuple[int, int | bytes | None, bytes]]:
    return [
        (number, bytes(value) if isinstance(value, memoryview) else value, bytes(whole))
        for number, value, whole in parse_fields(memoryview(bytes.fromhex(octets)))
    ]


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (150, "9601"),
        (16383, "ff7f"),
        (16384, "808001"),
        (2**64 - 1, "ff" * 9 + "01"),
        (-2, "fe" + "ff" * 8 + "01"),
    ],
)
def test_varints_are_laid_out_as_documented(value: int, octets: str) -> None:
    assert serialize_varint(value).hex() == octets


@given(uint64s, st.integers(1, 10), st.binary(max_size=3))
def test_a_varint_may_be_longer_than_it_need_be(value: int, size: int, rest: bytes) -> None:
    octets = varint(value, size)
    assert parse_varint(memoryview(b"\xff" + octets + rest), 1) == (value, 1 + len(octets))


@given(uint64s)
def test_a_varint_is_serialized_in_as_few_octets_as_it_takes(value: int) -> None:
    assert serialize_varint(value) == varint(value)


BAD_VARINTS: dict[str, tuple[str, str]] = {
    "none": ("", "without an end"),
    "cut off": ("80" * 9, "without an end"),
    "eleven octets": ("80" * 10 + "00", "of more than 10 octets"),
    "65 bits": ("80" * 9 + "02", "of more than 64 bits"),
}


@pytest.mark.parametrize(("octets", "text"), BAD_VARINTS.values(), ids=BAD_VARINTS)
def test_bad_varints_are_refused(octets: str, text: str) -> None:
    with pytest.raises(PacketError, match=text):
        parse_varint(memoryview(bytes.fromhex(octets)), 0)


@pytest.mark.parametrize(
    ("value", "bits", "expected"),
    [
        (0, 64, 0),
        (2**63 - 1, 64, 2**63 - 1),
        (2**63, 64, -(2**63)),
        (2**64 - 1, 64, -1),
        (2**31, 32, -(2**31)),
        (2**32 + 4, 32, 4),
        (2**64 - 1, 32, -1),
    ],
)
def test_signs_are_those_of_the_lowest_bits(value: int, bits: int, expected: int) -> None:
    assert signed(value, bits) == expected


def test_fields_of_every_wire_type_are_found_in_order() -> None:
    assert fields_of("089601 1207 74657374696e67 19 0102030405060708 25 01020304 0800") == [
        (1, 150, bytes.fromhex("089601")),
        (2, b"testing", bytes.fromhex("120774657374696e67")),
        (3, None, bytes.fromhex("190102030405060708")),
        (4, None, bytes.fromhex("2501020304")),
        (1, 0, bytes.fromhex("0800")),
    ]


@given(messages)
def test_fields_are_all_there_is_to_a_message(message: bytes) -> None:
    parsed = list(parse_fields(memoryview(message)))
    assert b"".join(whole for _, _, whole in parsed) == message


BAD_FIELDS: dict[str, tuple[str, str]] = {
    "field number 0": ("0001", "field number 0"),
    "field number 2^29": (field(2**29, 0, b"\x01").hex(), "field number 536870912"),
    "a group": ("0b0c", "field 1 of wire type 3"),
    "the end of a group": ("0c", "field 1 of wire type 4"),
    "wire type 6": ("0e", "field 1 of wire type 6"),
    "wire type 7": ("0f", "field 1 of wire type 7"),
    "a tag without a value": ("08", "varint without an end"),
    "a length without an end": ("0a80", "varint without an end"),
    "a value that is cut off": ("0a056162", "field 1 lacks 3 octets"),
    "a value of any size": (
        "0affffffffffffffffff01",
        f"field 1 lacks {2**64 - 1} octets",
    ),
    "64 bits that are cut off": ("0901020304050607", "field 1 lacks 1 octets"),
    "32 bits that are cut off": ("0d", "field 1 lacks 4 octets"),
}


@pytest.mark.parametrize(("octets", "text"), BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_bad_fields_are_refused(octets: str, text: str) -> None:
    with pytest.raises(PacketError, match=f"^{text}$"):
        fields_of(octets)


@pytest.mark.parametrize(
    ("number", "value", "octets"),
    [
        (1, 150, "089601"),
        (1, -1, "08" + "ff" * 9 + "01"),
        (2, "testing", "120774657374696e67"),
        (100, b"a", "a2060161"),
        (3, memoryview(b"ab"), "1a026162"),
        (1, "\udc80", "0a013f"),
        (1, 0, ""),
        (1, "", ""),
        (1, b"", ""),
    ],
)
def test_fields_are_serialized_but_for_defaults(
    number: int, value: int | str | bytes | memoryview, octets: str
) -> None:
    assert serialize_field(number, value).hex() == octets


def test_a_length_stands_for_the_octets_after_it() -> None:
    assert serialize_length(4, 300).hex() == "22ac02"
