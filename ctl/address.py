"""``HOST:PORT`` texts of command line, configuration and control requests. Nothing is resolved."""

from typing import NamedTuple

MAX_PORT = 65535
MAX_HOST = 253
"""Characters of a name in text form: 255 octets on the wire (RFC 1035 section 2.3.4) are the
length octets of its labels, the root's and these."""


class AddressError(ValueError):
    """Not an address: the message says what was seen and gives an example of what is expected."""


class Address(NamedTuple):
    """A host (name or IP address, IPv6 without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, lowest_port: int = 1) -> Address:
    """Read ``host:port`` or ``[v6]:port``.

    Args:
      lowest_port: 0 where port 0 lets the kernel choose.
    Raises:
      AddressError: no port, empty or too long host, IPv6 without brackets, port out of range.
    """
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        raise AddressError(f"{text!r} has no port; expected HOST:PORT, as in 192.168.1.2:4001")
    return Address(parse_host(host), parse_port(port, lowest_port))


def parse_listen_address(text: str) -> Address:
    """Read ``host:port`` or ``[v6]:port`` of a listener: port 0 lets the kernel choose, and an
    empty host stands for all addresses of the machine.

    Raises:
      AddressError: as `parse_address`.
    """
    if text.startswith(":"):
        return Address("", parse_port(text[1:], 0))
    return parse_address(text, lowest_port=0)


def parse_host(host: str) -> str:
    """Check a host, and take the brackets off.

    Only IPv6 addresses need them, but names may have them too, so that ``[%h]:%p`` in a
    configuration of ssh fits both.

    Raises:
      AddressError: empty, too long, IPv6 without brackets, or with characters that no host has.
    """
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise AddressError(f"{host!r} has colons; write an IPv6 address as in [2001:db8::1]:4001")
    if not host:
        raise AddressError("the host is empty; expected HOST:PORT, as in 192.168.1.2:4001")
    if len(host) > MAX_HOST:
        raise AddressError(f"host of {len(host)} characters, limit {MAX_HOST}: {host[:24]}…")
    if any(char.isspace() or not char.isprintable() or char in "[]/@" for char in host):
        raise AddressError(f"host {host!r} has a character that no host name or address has")
    return host


def parse_port(port: str, lowest: int = 1) -> int:
    """Read a port number.

    Raises:
      AddressError: not a number, or out of range.
    """
    if not (port.isascii() and port.isdigit()):
        raise AddressError(f"port {port!r} is not a number; expected {lowest}-{MAX_PORT}")
    if len(port) > len(str(MAX_PORT)) or not lowest <= int(port) <= MAX_PORT:
        raise AddressError(f"port {port[:12]} is out of range; expected {lowest}-{MAX_PORT}")
    return int(port)
