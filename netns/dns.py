"""As much DNS as it takes to ask for the addresses of a name: bytes only (RFC 1035)."""

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

_HEADER = struct.Struct("!HHHHHH")
"""Id, flags, and the counts of questions, answers, authorities and additional records."""
_RECORD = struct.Struct("!HHIH")
"""Type, class, time to live, length of the data."""

_RECURSION_DESIRED = 0x0100
_RESPONSE = 0x8000
_INTERNET = 1
_POINTER = 0xC0
_MAX_LABEL = 63
_MAX_NAME = 255


class RecordType(IntEnum):
    """What we ask for."""

    A = 1
    AAAA = 28


class DnsError(ValueError):
    """Not a response to our query, or a name that cannot be asked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: ``code`` is RCODE (0 no error, 3 no such name)."""

    code: int
    addresses: tuple[IPv4Address | IPv6Address, ...]


def serialize_query(identifier: int, name: str, record_type: RecordType) -> bytes:
    """A query for one name, recursion desired.

    Args:
      identifier: 16 bits.
    Raises:
      DnsError: the name has an empty or long label, or is too long.
    """
    header = _HEADER.pack(identifier, _RECURSION_DESIRED, 1, 0, 0, 0)
    return header + _serialize_name(name) + struct.pack("!HH", record_type, _INTERNET)


def parse_response(message: bytes, identifier: int, record_type: RecordType) -> Answer:
    """The addresses in a response.

    Raises:
      DnsError: malformed, cut short, or a response to something else.
    """
    try:
        return _parse_response(message, identifier, record_type)
    except (struct.error, IndexError) as exc:
        raise DnsError(f"response of {len(message)} octets is cut short") from exc


def _parse_response(message: bytes, identifier: int, record_type: RecordType) -> Answer:
    found, flags, questions, answers, _, _ = _HEADER.unpack_from(message)
    if found != identifier or not flags & _RESPONSE:
        raise DnsError(f"not the response to query {identifier}")
    offset = _HEADER.size
    for _ in range(questions):
        offset = _skip_name(message, offset) + 4
    addresses = []
    for _ in range(answers):
        offset = _skip_name(message, offset)
        kind, _, _, length = _RECORD.unpack_from(message, offset)
        offset += _RECORD.size
        data = message[offset : offset + length]
        if len(data) < length:
            raise DnsError("a record's data is cut short")
        offset += length
        if kind == record_type:
            addresses.append(_address(data, record_type))
    return Answer(flags & 0xF, tuple(addresses))


def _address(data: bytes, record_type: RecordType) -> IPv4Address | IPv6Address:
    size, make = (4, IPv4Address) if record_type is RecordType.A else (16, IPv6Address)
    if len(data) != size:
        raise DnsError(f"{record_type.name} record of {len(data)} octets, {size} expected")
    return make(data)


def _serialize_name(name: str) -> bytes:
    labels = name.rstrip(".").encode("ascii", "replace").split(b".")
    if any(not 0 < len(label) <= _MAX_LABEL for label in labels):
        raise DnsError(f"{name!r} has an empty label, or one of more than {_MAX_LABEL} octets")
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    if len(wire) > _MAX_NAME:
        raise DnsError(f"name of {len(wire)} octets, limit {_MAX_NAME}")
    return wire


def _skip_name(message: bytes, offset: int) -> int:
    """The offset after a name; pointers (section 4.1.4) end it, and need not be followed."""
    while length := message[offset]:
        if length & _POINTER == _POINTER:
            return offset + 2
        offset += 1 + length
    return offset + 1
