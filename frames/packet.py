"""Konnectivity's Packet: what tunnel server and agent say to each other, as protobuf octets.

Hand-written, because nearly every packet is DATA: its payload stays where it was received, as a
view. What the octets of a message may be at all is `protobuf`'s matter.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple, TypeAlias

from frames.protobuf import (
    PacketError,
    parse_fields,
    parse_varint,
    serialize_field,
    serialize_length,
    serialize_varint,
    signed,
)

__all__ = [
    "MAX_DATA_HEADER",
    "CloseDial",
    "CloseRequest",
    "CloseResponse",
    "Data",
    "DialRequest",
    "DialResponse",
    "Drain",
    "Packet",
    "PacketError",
    "PacketType",
    "Unknown",
    "data_header",
    "parse",
    "serialize",
]

MAX_DATA_HEADER = 2 + 1 + 4 + 1 + 10 + 1 + 4
"""Longest `data_header` there is, for less than 256 MiB: type, tag and length of the member, tag
and varint of the connection id, tag and length of the payload."""


class PacketType(IntEnum):
    """Values of the field ``type``; a receiver ignores others."""

    DIAL_REQ = 0
    DIAL_RSP = 1
    CLOSE_REQ = 2
    CLOSE_RSP = 3
    DATA = 4
    DIAL_CLS = 5
    DRAIN = 6


@dataclass(frozen=True, slots=True)
class DialRequest:
    """To the agent: open a connection. ``random`` is any int64 and names the dial."""

    type: ClassVar = PacketType.DIAL_REQ
    protocol: str
    address: str
    random: int
    unknown: bytes = b""
    """Here and below: fields of the Packet that we don't know, as they came; sent on."""


@dataclass(frozen=True, slots=True)
class DialResponse:
    """From the agent: the dial's connection id, or why there is none."""

    type: ClassVar = PacketType.DIAL_RSP
    error: str
    connect_id: int
    random: int
    unknown: bytes = b""


@dataclass(frozen=True, slots=True)
class CloseRequest:
    """To the agent: close a connection."""

    type: ClassVar = PacketType.CLOSE_REQ
    connect_id: int
    unknown: bytes = b""


@dataclass(frozen=True, slots=True)
class CloseResponse:
    """From the agent: a connection is over, asked for or not."""

    type: ClassVar = PacketType.CLOSE_RSP
    error: str
    connect_id: int
    unknown: bytes = b""


@dataclass(frozen=True, slots=True)
class CloseDial:
    """To the agent: nobody waits for this dial any more."""

    type: ClassVar = PacketType.DIAL_CLS
    random: int
    unknown: bytes = b""


@dataclass(frozen=True, slots=True)
class Drain:
    """From the agent: prefer others for new dials."""

    type: ClassVar = PacketType.DRAIN
    unknown: bytes = b""


@dataclass(frozen=True, slots=True)
class Data:
    """Octets of a connection, either way. No program sets ``error``."""

    type: ClassVar = PacketType.DATA
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
    """One member of the Packet's oneof: the payload of one type."""

    number: int
    packet: type[Any]
    fields: tuple[tuple[str, Any], ...]
    """Names and defaults of its fields 1, 2, …; the default's type is the field's."""


_MEMBERS = (
    _Member(2, DialRequest, (("protocol", ""), ("address", ""), ("random", 0))),
    _Member(3, DialResponse, (("error", ""), ("connect_id", 0), ("random", 0))),
    _Member(4, Data, (("connect_id", 0), ("error", ""), ("data", b""))),
    _Member(5, CloseRequest, (("connect_id", 0),)),
    _Member(6, CloseResponse, (("error", ""), ("connect_id", 0))),
    _Member(7, CloseDial, (("random", 0),)),
    _Member(8, Drain, ()),
)
_BY_NUMBER = {member.number: member for member in _MEMBERS}
_BY_TYPE: dict[int, _Member] = {member.packet.type: member for member in _MEMBERS}
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
        length, pos = parse_varint(message, 3)
    if pos + length != size or length < 2 or message[pos] != 0x08:
        return None
    connect_id = message[pos + 1]
    pos += 2
    if connect_id >= 0x80:
        connect_id, pos = parse_varint(message, pos - 1)
        connect_id = signed(connect_id, 64)
    if size - pos < 2 or message[pos] != 0x1A:
        return None
    length, pos = parse_varint(message, pos + 1)
    if pos + length != size:
        return None
    return Data(connect_id, message[pos:], "")


def _parse_any(message: memoryview) -> Packet:
    packet_type = 0
    last: _Member | None = None
    values: dict[str, Any] = {}
    unknown = bytearray()
    for number, value, octets in parse_fields(message):
        member = _BY_NUMBER.get(number)
        if number == 1 and isinstance(value, int):
            packet_type = signed(value, 32)
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
    for number, value, _ in parse_fields(message):
        if number > len(member.fields):
            continue
        name, default = member.fields[number - 1]
        if isinstance(value, int) and isinstance(default, int):
            values[name] = signed(value, 64)
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


# -- serializing ----------------------------------------------------------------------------------


def serialize(packet: Packet) -> bytes:
    """The bare Packet, as Go writes it: fields in ascending order, defaults left out.

    Characters that UTF-8 does not have become question marks.
    """
    if isinstance(packet, Unknown):
        return packet.raw
    member = _BY_CLASS[type(packet)]
    body = b"".join(
        serialize_field(number, getattr(packet, name))
        for number, (name, _) in enumerate(member.fields, 1)
    )
    header = serialize_field(1, packet.type) + serialize_length(member.number, len(body))
    return header + body + packet.unknown


def data_header(connect_id: int, size: int) -> bytes:
    """Everything of a DATA packet that stands before its ``size`` octets of payload."""
    inner = b"\x08" + serialize_varint(connect_id) if connect_id else b""
    if size:
        inner += b"\x1a" + serialize_varint(size)
    return b"\x08\x04\x22" + serialize_varint(len(inner) + size) + inner
