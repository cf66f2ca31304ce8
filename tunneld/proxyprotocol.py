"""The header of the PROXY protocol, version 2: who a connection comes from, told to a server ahead
of the connection's own octets. Source: HAProxy's doc/proxy-protocol.txt, section 2.2.

    signature (12), version and command (1), family and transport (1), length of the rest (2),
    source address, destination address (4 or 16 each), source port, destination port (2 each),
    TLVs: type (1), length (2), value

Numbers are big-endian.
"""

import ipaddress
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import NamedTuple, TypeAlias

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_HEAD = struct.Struct(">12sBBH")
_PORTS = struct.Struct(">HH")
_TLV = struct.Struct(">BH")
_SSL = struct.Struct(">BI")
_PROXY = 0x21
_LOCAL = 0x20
_UNSPEC = 0x00
_FAMILIES = {0x11: 4, 0x21: 16}
"""TCP over IPv4 and over IPv6: octets of an address."""
_MAX_VALUE = 1024
"""Octets of one TLV's value: the header has to fit into what a server reads at once."""


class ProxyProtocolError(Exception):
    """Octets that are no such header."""


class Tlv(IntEnum):
    """Types, section 2.2.1."""

    ALPN = 0x01
    AUTHORITY = 0x02
    UNIQUE_ID = 0x05
    SSL = 0x20
    SSL_VERSION = 0x21
    SSL_CN = 0x22


class Client(IntFlag):
    """How a client connected, section 2.2.5."""

    SSL = 0x01
    CERT_CONN = 0x02
    """It has shown a certificate on this connection."""
    CERT_SESS = 0x04


class Endpoint(NamedTuple):
    """One side of a TCP connection."""

    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int


Addresses: TypeAlias = tuple[Endpoint, Endpoint]
"""Source and destination."""


@dataclass(frozen=True, slots=True)
class Tls:
    """The client's TLS, section 2.2.5.

    ``common_name`` is that of a certificate it has shown and that was verified; "" for none.
    """

    version: str
    has_certificate: bool
    common_name: str = ""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What a header says. Without addresses the command is LOCAL: the receiver goes by those of the
    connection it has."""

    addresses: Addresses | None = None
    authority: str = ""
    unique_id: str = ""
    """Up to 128 octets."""
    tls: Tls | None = None

    def encode(self) -> bytes:
        """The header's octets."""
        command, family, addresses = _encode_addresses(self.addresses)
        tlvs = [
            _tlv(kind, value.encode("utf-8", "replace"))
            for kind, value in ((Tlv.AUTHORITY, self.authority), (Tlv.UNIQUE_ID, self.unique_id))
            if value
        ]
        if self.tls is not None:
            tlvs.append(_tlv(Tlv.SSL, _encode_tls(self.tls)))
        body = addresses + b"".join(tlvs)
        return _HEAD.pack(SIGNATURE, command, family, len(body)) + body


def _encode_addresses(addresses: Addresses | None) -> tuple[int, int, bytes]:
    """Command, family and address block. Two families become one: IPv4 is mapped into IPv6."""
    if addresses is None:
        return _LOCAL, _UNSPEC, b""
    source, destination = addresses
    if source.address.version == destination.address.version:
        packed = [each.address.packed for each in addresses]
    else:
        packed = [_mapped(each.address) for each in addresses]
    family = 0x11 if len(packed[0]) == 4 else 0x21
    return _PROXY, family, b"".join(packed) + _PORTS.pack(source.port, destination.port)


def _mapped(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    """RFC 4291 section 2.5.5.2."""
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def _encode_tls(tls: Tls) -> bytes:
    """``verify`` is 0 only for a certificate that was shown and verified."""
    client = Client.SSL
    if tls.has_certificate:
        client |= Client.CERT_CONN | Client.CERT_SESS
    octets = _SSL.pack(client, 0 if tls.has_certificate else 1)
    octets += _tlv(Tlv.SSL_VERSION, tls.version.encode())
    if tls.common_name:
        octets += _tlv(Tlv.SSL_CN, tls.common_name.encode("utf-8", "replace"))
    return octets


def _tlv(kind: Tlv, value: bytes) -> bytes:
    value = value[: 128 if kind is Tlv.UNIQUE_ID else _MAX_VALUE]
    return _TLV.pack(kind, len(value)) + value


def parse_header(octets: bytes) -> tuple[ProxyHeader, int] | None:
    """Read a header at the beginning of a connection, as a server of ours would.

    Returns:
      It and its length; None if more octets are needed.
    Raises:
      ProxyProtocolError: it is no header of version 2.
    """
    if not octets.startswith(SIGNATURE[: len(octets)]):
        raise ProxyProtocolError("no signature of the PROXY protocol, version 2")
    if len(octets) < _HEAD.size:
        return None
    _, command, family, length = _HEAD.unpack_from(octets)
    if command not in (_PROXY, _LOCAL):
        raise ProxyProtocolError(f"version and command {command:#04x}, expected 0x20 or 0x21")
    end = _HEAD.size + length
    if len(octets) < end:
        return None
    return _parse_body(command, family, octets[_HEAD.size : end]), end


def _parse_body(command: int, family: int, body: bytes) -> ProxyHeader:
    addresses = None
    size = _FAMILIES.get(family, 0)
    if size and len(body) < 2 * size + _PORTS.size:
        raise ProxyProtocolError(f"address block of {len(body)} octets, expected {2 * size + 4}")
    if size and command == _PROXY:
        source, destination = (ipaddress.ip_address(body[i : i + size]) for i in (0, size))
        ports = _PORTS.unpack_from(body, 2 * size)
        addresses = Endpoint(source, ports[0]), Endpoint(destination, ports[1])
    tlvs = _parse_tlvs(body[2 * size + _PORTS.size if size else 0 :])
    return ProxyHeader(
        addresses,
        tlvs.get(Tlv.AUTHORITY, b"").decode("utf-8", "replace"),
        tlvs.get(Tlv.UNIQUE_ID, b"").decode("utf-8", "replace"),
        _parse_tls(tlvs[Tlv.SSL]) if Tlv.SSL in tlvs else None,
    )


def _parse_tls(octets: bytes) -> Tls:
    if len(octets) < _SSL.size:
        raise ProxyProtocolError(f"TLV of TLS with {len(octets)} octets, expected at least 5")
    client, verify = _SSL.unpack_from(octets)
    tlvs = _parse_tlvs(octets[_SSL.size :])
    return Tls(
        tlvs.get(Tlv.SSL_VERSION, b"").decode("utf-8", "replace"),
        bool(client & Client.CERT_CONN) and not verify,
        tlvs.get(Tlv.SSL_CN, b"").decode("utf-8", "replace"),
    )


def _parse_tlvs(octets: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    start = 0
    while start < len(octets):
        if len(octets) - start < _TLV.size:
            raise ProxyProtocolError("a TLV is cut off")
        kind, length = _TLV.unpack_from(octets, start)
        start += _TLV.size
        if len(octets) - start < length:
            raise ProxyProtocolError(f"a TLV of {length} octets, {len(octets) - start} are left")
        found[kind] = octets[start : start + length]
        start += length
    return found
