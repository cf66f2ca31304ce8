"""The octets of protobuf messages: fields, varints. Knows no message type.

Accepts what Go's protobuf accepts, but for groups, which nobody sends, and for messages of very
many fields. Never more than Go does: fields that we don't know go on to Go programs as they came.

Source: the protobuf project's "Encoding".
"""

from collections.abc import Iterator
from typing import TypeAlias

from frames.errors import ProtocolError

Value: TypeAlias = int | memoryview | None
"""A varint as 64 bits without a sign; what has a length; None for a number of fixed size."""

_MAX_FIELDS = 100
"""Fields of one message. Konnectivity has three; each unknown one costs time to skip."""

_MAX_FIELD_NUMBER = 2**29 - 1

_VARINT, _LENGTH = 0, 2
_FIXED_SIZES = {1: 8, 5: 4}
"""Wire types; 3 and 4 begin and end a group."""

_SHIFTS = range(0, 70, 7)
"""Where the octets of a varint belong, ten at most."""

_MAX_UINT64 = 2**64 - 1
_ONE_OCTET = [bytes([value]) for value in range(0x80)]


class PacketError(ProtocolError):
    """Octets that are no message of their type."""


def parse_fields(message: memoryview) -> Iterator[tuple[int, Value, memoryview]]:
    """The fields of a message in wire order: number, value, all octets.

    Raises:
      PacketError: malformed octets, a group, too many fields; when it comes to that field.
    """
    pos, end = 0, len(message)
    left = _MAX_FIELDS
    while pos < end:
        if not left:
            raise PacketError(f"more than {_MAX_FIELDS} fields")
        left -= 1
        start = pos
        tag, pos = parse_varint(message, pos)
        number, wire_type = tag >> 3, tag & 7
        if not 1 <= number <= _MAX_FIELD_NUMBER:
            raise PacketError(f"field number {number}")
        value: Value = None
        if wire_type == _VARINT:
            value, pos = parse_varint(message, pos)
        elif wire_type == _LENGTH:
            length, pos = parse_varint(message, pos)
            value = message[pos : pos + length]
            pos += length
        elif wire_type in _FIXED_SIZES:
            pos += _FIXED_SIZES[wire_type]
        else:
            raise PacketError(f"field {number} of wire type {wire_type}")
        if pos > end:
            raise PacketError(f"field {number} lacks {pos - end} octets")
        yield number, value, message[start:pos]


def parse_varint(message: memoryview, pos: int) -> tuple[int, int]:
    """A number of up to 64 bits without a sign, and the position after it.

    Layout: 7 bits in each octet, the lowest first; all but the last have the highest bit set. It
    need not be as short as it could.
    Raises:
      PacketError: more than 64 bits or 10 octets, or the message ends before it does.
    """
    value = 0
    try:
        for shift in _SHIFTS:
            octet = message[pos]
            pos += 1
            value |= (octet & 0x7F) << shift
            if octet < 0x80:
                break
        else:
            raise PacketError(f"varint of more than {len(_SHIFTS)} octets")
    except IndexError as exc:
        raise PacketError("varint without an end") from exc
    if value > _MAX_UINT64:
        raise PacketError("varint of more than 64 bits")
    return value, pos


def serialize_varint(value: int) -> bytes:
    """A number in as few octets as it takes; a negative one as its 64 bits."""
    if 0 <= value < 0x80:
        return _ONE_OCTET[value]
    if 0 <= value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    value &= _MAX_UINT64
    octets = bytearray()
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def serialize_field(number: int, value: int | str | bytes | memoryview) -> bytes:
    """A whole field; nothing for a default value. What UTF-8 does not have becomes a "?"."""
    if not value:
        return b""
    if isinstance(value, int):
        return serialize_varint(number << 3 | _VARINT) + serialize_varint(value)
    octets = value.encode("utf-8", "replace") if isinstance(value, str) else value
    return b"".join((serialize_length(number, len(octets)), octets))


def serialize_length(number: int, length: int) -> bytes:
    """What stands before the ``length`` octets of a field's value."""
    return serialize_varint(number << 3 | _LENGTH) + serialize_varint(length)


def signed(value: int, bits: int) -> int:
    """The lowest ``bits`` bits of a varint, as two's complement."""
    sign = 1 << (bits - 1)
    return ((value & (2 * sign - 1)) ^ sign) - sign
