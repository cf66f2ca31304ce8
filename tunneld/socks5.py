"""SOCKS version 5: what its messages say (RFC 1928), and the password exchange (RFC 1929).

Parsers take the octets that there are, and return a message and its length, or None as long as it
is not complete; the longest has 513 octets.
"""

import contextlib
import ipaddress
import struct
from dataclasses import dataclass
from enum import IntEnum

from tunneld.dialing import join_authority

VERSION = 0x05
VERSION_4 = 0x04
PASSWORD_VERSION = 0x01
NO_ACCEPTABLE_METHOD = bytes([VERSION, 0xFF])
PASSWORD_RIGHT = bytes([PASSWORD_VERSION, 0])
PASSWORD_WRONG = bytes([PASSWORD_VERSION, 1])
SOCKS4_REFUSED = bytes([0, 91]) + bytes(6)
"""What a client of SOCKS version 4 understands: request rejected or failed."""

_CONNECT = 1
_NAMES = {2: "BIND", 3: "UDP ASSOCIATE"}
_PORT = struct.Struct(">H")
_IPV4, _NAME, _IPV6 = 1, 3, 4


class Method(IntEnum):
    """How a client shows who it is, RFC 1928 section 3."""

    NONE = 0
    PASSWORD = 2


class Reply(IntEnum):
    """RFC 1928 section 6."""

    SUCCEEDED = 0
    FAILED = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    TTL_EXPIRED = 6
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_NOT_SUPPORTED = 8

    def encode(self, name: str = "") -> bytes:
        """The whole reply. The address in it means nothing, since it is the agent that has one: it
        is 0.0.0.0:0, or a name where there is something to say."""
        if not name:
            return bytes([VERSION, self, 0, _IPV4]) + bytes(6)
        return bytes([VERSION, self, 0, _NAME, len(name)]) + name.encode("ascii") + bytes(2)


class SocksError(Exception):
    """The client cannot be served: ``reply`` says so to it, if there is a word for that."""

    def __init__(self, text: str, reply: bytes = b"") -> None:
        super().__init__(text)
        self.reply = reply


@dataclass(frozen=True, slots=True, repr=False)
class Login:
    """A name and a password, RFC 1929 section 2. Octets that are not UTF-8 are kept as Python does
    it for file names."""

    name: str
    password: str


def parse_greeting(octets: bytes) -> tuple[frozenset[int], int] | None:
    """The methods that a client offers, RFC 1928 section 3.

    Raises:
      SocksError: it is not version 5.
    """
    if octets[:1] == bytes([VERSION_4]):
        raise SocksError("SOCKS version 4, expected 5: have names resolved here", SOCKS4_REFUSED)
    _check_version(octets, VERSION)
    if len(octets) < 2 or len(octets) < (end := 2 + octets[1]):
        return None
    return frozenset(octets[2:end]), end


def parse_login(octets: bytes) -> tuple[Login, int] | None:
    """A name and a password, RFC 1929 section 2.

    Raises:
      SocksError: it is something else.
    """
    _check_version(octets, PASSWORD_VERSION)
    if len(octets) < 2 or len(octets) < (middle := 2 + octets[1]) + 1:
        return None
    end = middle + 1 + octets[middle]
    if len(octets) < end:
        return None
    name, password = octets[2:middle], octets[middle + 1 : end]
    return Login(*(each.decode("utf-8", "surrogateescape") for each in (name, password))), end


def parse_request(octets: bytes) -> tuple[str, int] | None:
    """The authority that a client wants to be connected to, RFC 1928 section 4. Names are not
    resolved here.

    Raises:
      SocksError: it wants something else.
    """
    _check_version(octets, VERSION)
    if len(octets) < 5:
        return None
    length = {_IPV4: 4, _IPV6: 16, _NAME: 1 + octets[4]}.get(octets[3])
    if length is None:
        text = f"address type {octets[3]}, expected IPv4 (1), a name (3) or IPv6 (4)"
        raise SocksError(text, Reply.ADDRESS_NOT_SUPPORTED.encode())
    end = 4 + length + _PORT.size
    if len(octets) < end:
        return None
    if octets[1] != _CONNECT:
        name = _NAMES.get(octets[1], f"command {octets[1]}")
        raise SocksError(
            f"{name} is not served, only CONNECT", Reply.COMMAND_NOT_SUPPORTED.encode()
        )
    (port,) = _PORT.unpack_from(octets, 4 + length)
    return join_authority(_host(octets[3], octets[4 : 4 + length]), port), end


def _host(kind: int, octets: bytes) -> str:
    if kind != _NAME:
        return str(ipaddress.ip_address(octets))
    name = octets[1:]
    if all(0x21 <= octet <= 0x7E and octet not in b"[]/@" for octet in name):
        text = name.decode("ascii")
        if ":" not in text:
            return text
        # Whoever writes an address as a name means the address.
        with contextlib.suppress(ValueError):
            return str(ipaddress.IPv6Address(text))
    raise SocksError(f"{name[:40]!r} is no name of a host", Reply.FAILED.encode())


def _check_version(octets: bytes, version: int) -> None:
    if octets and octets[0] != version:
        raise SocksError(f"version {octets[0]}, expected {version}")
