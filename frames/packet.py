"""Konnectivity's Packet: what tunnel server and agent say to each other, as protobuf octets.

Hand-written, because nearly every packet is DATA: its payload stays where it was received, as a
view. Accepts what the Go programs accept (section 1 of their proto3 wire format), but for groups,
which nobody sends, and for messages of very many fields.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

from frames.errors import ProtocolError

MAX_DATA_HEADER = 2 + 1 + 4 + 1 + 10 + 1 + 4
"""Longest `data_header` there is, for less than 256 MiB: type, tag and length of the member, tag
and varint of the connection id, tag and length of the payload."""

_MAX_FIELDS = 100
"""Fields of a message, and of each member of it. Some ten are known; each costs time to skip."""

_MAX_VARINT = 10
_MASK_64 = (1 << 64) - 1
_SIGN_64 = 1 << 63
_SIGN_32 = 1 << 31

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
"""Wire types; 3 and 4 begin and end a group."""
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
_MAX_FIELD_NUMBER = (1 << 29) - 1


class PacketType(IntEnum):
    """Values of the field ``type``; a receiver ignores others."""

    DIAL_REQ = 0
    DIAL_RSP = 1
    CLOSE_REQ = 2
    CLOSE_RSP = 3
    DATA = 4
    DIAL_CLS = 5
    DRAIN = 6


class PacketError(ProtocolError):
    """Octets that are no Packet."""


@dataclass(frozen=True, slots=True)
class DialRequest:
    """To the agent: open a connection. ``random`` is any int64 and names the dial."""

    protocol: str
    address: str
    random: int
    unknown: bytes = b""
    """Here and below: fields of the Packet that we don't know, as they came; sent on."""


@dataclass(frozen=True, slots=True)
class DialResponse:
    """From the agent: the dial's connection id, or why there is none."""

    error: str
    connect_id: int
    random: int
    unknown: bytes = b""


@dataclass(frozen=True, slots=True)
class CloseRequest:
    """To the agent: close a connection."""

    connect_id: int
    unknown: bytes = b""


@dataclass(frozen=True, slots=True)
class CloseResponse:
    """From the agent: a connection is over, asked for or not."""

    error: str
    connect_id: int
    unknown: bytes = b""


@dataclass(frozen=True, slots=True)
class CloseDial:
    """To the agent: nobody waits for this dial any more."""

    random: int
    unknown: bytes = b""


@dataclass(frozen=True, slots=True)
class Drain:
    """From the agent: prefer others for new dials."""

    unknown: bytes = b""


@dataclass(frozen=True, slots=True)
class Data:
    """Octets of a connection, either way. No program sets ``error``."""

    connect_id: int
    data: bytes | memoryview
    error: str
    unknown: bytes = b""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A packet of another type: ``raw`` is all of it."""

    type: int
    raw: bytes


Packet: TypeAlias = (
    DialRequest | DialResponse | CloseRequest | CloseResponse | CloseDial | Drain | Data | Unknown
)


class _Member(NamedTuple):
    """One member of the Packet's oneof."""

    packet_type: PacketType
    number: int
    packet: type[Any]
    fields: tuple[tuple[str, Any], ...]
    """Names and defaults of its fields 1, 2, …; the default's type is the field's."""


_MEMBERS = (
    _Member(
        PacketType.DIAL_REQ, 2, DialRequest, (("protocol", ""), ("address", ""), ("random", 0))
    ),
    _Member(
        PacketType.DIAL_RSP, 3, DialResponse, (("error", ""), ("connect_id", 0), ("random", 0))
    ),
    _Member(PacketType.DATA, 4, Data, (("connect_id", 0), ("error", ""), ("data", b""))),
    _Member(PacketType.CLOSE_REQ, 5, CloseRequest, (("connect_id", 0),)),
    _Member(PacketType.CLOSE_RSP, 6, CloseResponse, (("error", ""), ("connect_id", 0))),
    _Member(PacketType.DIAL_CLS, 7, CloseDial, (("random", 0),)),
    _Member(PacketType.DRAIN, 8, Drain, ()),
)
_BY_NUMBER = {member.number: member for member in _MEMBERS}
_BY_TYPE: dict[int, _Member] = {member.packet_type: member for member in _MEMBERS}
_BY_CLASS: dict[type[Any], _Member] = {member.packet: member for member in _MEMBERS}


# -- parsing --------------------------------------------------------------------------------------


def parse(message: memoryview) -> Packet:
    """Parse a bare Packet.

    Returns:
      The packet that its type says. `Data.data` is a view of ``message``, all else is copied. A
      payload of another type than the packet's counts as absent, an absent one as all defaults.
    Raises:
      PacketError: malformed octets, a string that is not UTF-8, a group, too many fields.
    """
    data = _parse_ordinary_data(message)
    return _parse_any(message) if data is None else data


def _parse_ordinary_data(message: memoryview) -> Data | None:
    """The form in which DATA always comes; None for any other packet."""
    size = len(message)
    if size < 8 or message[0] != 0x08 or message[1] != 0x04 or message[2] != 0x22:
        return None
    length = message[3]
    pos = 4
    if length >= 0x80:
        length, pos = _parse_varint(message, 3)
    if pos + length != size or length < 2 or message[pos] != 0x08:
        return None
    connect_id = message[pos + 1]
    pos += 2
    if connect_id >= 0x80:
        connect_id, pos = _parse_varint(message, pos - 1)
    if size - pos < 2 or message[pos] != 0x1A:
        return None
    length, pos = _parse_varint(message, pos + 1)
    if pos + length != size:
        return None
    return Data(_signed(connect_id, _SIGN_64), message[pos:], "")


def _parse_any(message: memoryview) -> Packet:
    packet_type = 0
    last: _Member | None = None
    values: dict[str, Any] = {}
    unknown = bytearray()
    for number, value, octets in _fields(message):
        member = _BY_NUMBER.get(number)
        if number == 1 and isinstance(value, int):
            packet_type = _signed(value & 0xFFFFFFFF, _SIGN_32)
        elif member is not None and isinstance(value, memoryview):
            if member is not last:
                last, values = member, {}
            values |= _parse_member(member, value)
        else:
            unknown += octets
    wanted = _BY_TYPE.get(packet_type)
    if wanted is None:
        return Unknown(packet_type, bytes(message))
    if wanted is not last:
        values = {}
    packet: Packet = wanted.packet(**{**dict(wanted.fields), **values}, unknown=bytes(unknown))
    return packet


def _parse_member(member: _Member, message: memoryview) -> dict[str, Any]:
    """Values of the fields that are there."""
    values: dict[str, Any] = {}
    for number, value, _ in _fields(message):
        if number > len(member.fields):
            continue
        name, default = member.fields[number - 1]
        if isinstance(value, int) and isinstance(default, int):
            values[name] = _signed(value, _SIGN_64)
        elif isinstance(value, memoryview) and isinstance(default, str):
            values[name] = _parse_string(name, value)
        elif isinstance(value, memoryview) and isinstance(default, bytes):
            values[name] = value
    return values


def _parse_string(name: str, octets: memoryview) -> str:
    try:
        return str(octets, "utf-8")
    except UnicodeDecodeError as exc:
        raise PacketError(f"{name} is not UTF-8") from exc


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview | None, memoryview]]:
    """The fields of a message: number; value, None for a number of fixed size; all its octets."""
    pos, end = 0, len(message)
    count = 0
    while pos < end:
        count += 1
        if count > _MAX_FIELDS:
            raise PacketError(f"more than {_MAX_FIELDS} fields")
        start = pos
        tag, pos = _parse_varint(message, pos)
        number, wire_type = tag >> 3, tag & 7
        if not 1 <= number <= _MAX_FIELD_NUMBER:
            raise PacketError(f"field number {number}")
        value: int | memoryview | None = None
        if wire_type == _VARINT:
            value, pos = _parse_varint(message, pos)
        elif wire_type == _LENGTH:
            length, pos = _parse_varint(message, pos)
            value = message[pos : pos + length]
            pos += length
        elif wire_type in _FIXED_SIZES:
            pos += _FIXED_SIZES[wire_type]
        else:
            raise PacketError(f"field {number} of wire type {wire_type}")
        if pos > end:
            raise PacketError(f"field {number} ends after {end - start} octets, expected more")
        yield number, value, message[start:pos]


def _parse_varint(message: memoryview, pos: int) -> tuple[int, int]:
    """An unsigned number of at most 64 bits, 7 in each octet, the lowest first; the position
    after it."""
    value = shift = 0
    for octet in message[pos : pos + _MAX_VARINT]:
        value |= (octet & 0x7F) << shift
        shift += 7
        if octet < 0x80:
            if value > _MASK_64:
                raise PacketError("varint of more than 64 bits")
            return value, pos + shift // 7
    raise PacketError("varint without an end")


def _signed(value: int, sign: int) -> int:
    """Two's complement, ``sign`` being the value of the sign bit."""
    return (value ^ sign) - sign


# -- serializing ----------------------------------------------------------------------------------


def serialize(packet: Packet) -> bytes:
    """The bare Packet, as Go writes it: fields in ascending order, defaults left out.

    Characters that UTF-8 does not have become question marks.
    """
    if isinstance(packet, Unknown):
        return packet.raw
    member = _BY_CLASS[type(packet)]
    body = b"".join(
        _serialize_field(number, getattr(packet, name))
        for number, (name, _) in enumerate(member.fields, 1)
    )
    header = _serialize_field(1, member.packet_type) + _tagged_length(member.number, len(body))
    return header + body + packet.unknown


def data_header(connect_id: int, size: int) -> bytes:
    """Everything of a DATA packet that stands before its ``size`` octets of payload."""
    inner = b"\x08" + _varint(connect_id & _MASK_64) if connect_id else b""
    if size:
        inner += b"\x1a" + _varint(size)
    return b"\x08\x04\x22" + _varint(len(inner) + size) + inner


def _serialize_field(number: int, value: str | int | bytes | memoryview) -> bytes:
    if not value:
        return b""
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value & _MASK_64)
    octets = value.encode("utf-8", "replace") if isinstance(value, str) else value
    return b"".join((_tagged_length(number, len(octets)), octets))


def _tagged_length(number: int, length: int) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(length)


def _varint(value: int) -> bytes:
    if value < 0x80:
        return _SHORT[value]
    octets = bytearray()
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


_SHORT = [bytes([value]) for value in range(0x80)]
