"""``host:port`` texts, as configuration and control requests have them. Nothing is resolved."""

from typing import NamedTuple

MAX_PORT = 65535
MAX_HOST = 255
"""Octets; RFC 1035 section 2.3.4 allows no longer name."""


class AddressError(ValueError):
    """Not an address: the message says what was seen and what was expected."""


class Address(NamedTuple):
    """A host (name or IP address, IPv6 without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, *, lowest_port: int = 1) -> Address:
    """Read ``host:port`` or ``[v6]:port``.

    Args:
      lowest_port: 0 for listeners, where port 0 lets the kernel choose.
    Raises:
      AddressError: no port, empty or too long host, IPv6 without brackets, port out of range.
    """
    host, colon, port = text.rpartition(":")
    if not colon:
        raise AddressError(f"{text!r} has no port, expected host:port")
    return Address(_host(text, host), _port(text, port, lowest_port))


def _host(text: str, host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise AddressError(f"{text!r} has too many colons, an IPv6 address is written [v6]:port")
    if not host:
        raise AddressError(f"{text!r} has no host, expected host:port")
    if len(host.encode("utf-8", "surrogateescape")) > MAX_HOST:
        raise AddressError(f"host of {len(host)} characters, limit {MAX_HOST}")
    if any(char.isspace() or not char.isprintable() or char in "[]/" for char in host):
        raise AddressError(f"{text!r} has a host with a space, bracket or slash in it")
    return host


def _port(text: str, port: str, lowest: int) -> int:
    if not (port.isascii() and port.isdigit()):
        raise AddressError(f"{text!r} has port {port!r}, expected a number")
    if len(port) > 5 or not lowest <= int(port) <= MAX_PORT:
        raise AddressError(f"port {port} is out of range {lowest}-{MAX_PORT}")
    return int(port)
