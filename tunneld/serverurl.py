"""Where an agent finds its servers: ``host:port``, or the URL of a WebSocket that carries the
tunnel."""

from typing import NamedTuple

from ctl.address import Address, AddressError, parse_address, parse_host, parse_port

_PORTS = {"ws": 80, "wss": 443}
"""RFC 6455 section 3."""
MAX_PATH = 1024
"""Characters of the path in a URL."""


class ServerUrl(NamedTuple):
    """One server's address, or several servers' behind it."""

    scheme: str
    """``ws``, ``wss``, or "" for a tunnel listener reached directly."""
    address: Address
    path: str = ""
    """Of the WebSocket, its query included; "" without one."""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}" if self.scheme else str(self.address)

    @property
    def authority(self) -> str:
        """What the Host header says: without the port where it is the scheme's own."""
        host, port = self.address
        if port != _PORTS.get(self.scheme):
            return str(self.address)
        return f"[{host}]" if ":" in host else host


def parse_server(text: str) -> ServerUrl:
    """Read ``host:port``, ``wss://host[:port]/path`` or ``ws://host[:port]/path``.

    Raises:
      AddressError: it is none of them.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return ServerUrl("", parse_address(text))
    if scheme not in _PORTS:
        raise AddressError(
            f"{text!r}: {scheme!r} is no way to a server; expected HOST:PORT, wss://HOST/PATH,"
            " or ws://HOST/PATH"
        )
    authority, slash, path = rest.partition("/")
    path = slash + path or "/"
    if not is_request_path(path):
        raise AddressError(
            f"{text[:80]!r}: the path may have visible ASCII characters, but no '#',"
            f" {MAX_PATH} at most"
        )
    return ServerUrl(scheme, parse_authority(authority, _PORTS[scheme]), path)


def parse_authority(text: str, default_port: int) -> Address:
    """Read ``host[:port]`` of a URL, an IPv6 address in brackets.

    Raises:
      AddressError: as `ctl.address.parse_address`.
    """
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return Address(parse_host(text), default_port)
    return Address(parse_host(host), parse_port(port))


def is_request_path(text: str) -> bool:
    """Whether a request line may have it, as path and query."""
    visible = all("!" <= char <= "~" and char != "#" for char in text)
    return text.startswith("/") and visible and len(text) <= MAX_PATH
