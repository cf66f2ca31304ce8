"""ICMP echo, and the errors about it: bytes only (RFC 792)."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

_HEADER = struct.Struct("!BBHHH")
"""Type, code, checksum, identifier, sequence number."""

_ECHO_REPLY, _UNREACHABLE, _ECHO_REQUEST, _TIME_EXCEEDED = 0, 3, 8, 11

_REASONS = {
    (_UNREACHABLE, 0): "network unreachable",
    (_UNREACHABLE, 1): "host unreachable",
    (_UNREACHABLE, 3): "port unreachable",
    (_UNREACHABLE, 9): "network prohibited",
    (_UNREACHABLE, 10): "host prohibited",
    (_UNREACHABLE, 13): "prohibited by a filter",
    (_TIME_EXCEEDED, 0): "time to live exceeded",
}


@dataclass(frozen=True, slots=True)
class EchoReply:
    """The target has answered."""

    sender: IPv4Address
    identifier: int
    sequence: int


@dataclass(frozen=True, slots=True)
class EchoError:
    """Somebody on the way says that the request went no further."""

    sender: IPv4Address
    identifier: int
    sequence: int
    reason: str


def checksum(data: bytes) -> int:
    """The Internet checksum, RFC 1071: 0 over data that carries its own."""
    if len(data) % 2:
        data += b"\0"
    total = sum(int(word) for (word,) in struct.iter_unpack("!H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def serialize_request(identifier: int, sequence: int, payload: bytes = b"") -> bytes:
    """An echo request.

    Args:
      identifier: 16 bits.
      sequence: 16 bits.
    """
    plain = _HEADER.pack(_ECHO_REQUEST, 0, 0, identifier, sequence) + payload
    return _HEADER.pack(_ECHO_REQUEST, 0, checksum(plain), identifier, sequence) + payload


def parse_packet(packet: bytes) -> EchoReply | EchoError | None:
    """What a raw ICMP socket received, with its IPv4 header; None for anything else."""
    body = _body(packet)
    if body is None or len(body) < _HEADER.size or checksum(body):
        return None
    sender = IPv4Address(packet[12:16])
    kind, code, _, identifier, sequence = _HEADER.unpack_from(body)
    if kind == _ECHO_REPLY:
        return EchoReply(sender, identifier, sequence)
    if kind not in (_UNREACHABLE, _TIME_EXCEEDED):
        return None
    # RFC 792: the packet that could not go on follows, its IPv4 header and 8 octets at least.
    cause = _body(body[_HEADER.size :])
    if cause is None or len(cause) < _HEADER.size:
        return None
    kind_of_cause, _, _, identifier, sequence = _HEADER.unpack_from(cause)
    if kind_of_cause != _ECHO_REQUEST:
        return None
    reason = _REASONS.get((kind, code), f"unreachable, type {kind} code {code}")
    return EchoError(sender, identifier, sequence, reason)


def _body(packet: bytes) -> bytes | None:
    """What follows an IPv4 header, RFC 791 section 3.1."""
    if not packet or packet[0] >> 4 != 4:
        return None
    length = (packet[0] & 0xF) * 4
    return packet[length:] if 20 <= length <= len(packet) else None
