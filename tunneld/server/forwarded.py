"""Whose connection it is that a web server passes on: ``X-Forwarded-For``, as far as it can be
trusted.

Each proxy appends the address that it was connected from. What stands left of the first address
that is no trusted proxy's may be anybody's invention. It is for people to read; no rule goes by it.
"""

import ipaddress
from collections.abc import Sequence
from typing import TypeAlias

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

FIELD = b"x-forwarded-for"


def client_address(peer: str, values: Sequence[bytes], trusted: Sequence[Network]) -> str:
    """The address of who connected first, as far as trusted proxies say it.

    Args:
      peer: address of the TCP connection.
      values: of all `FIELD` lines, in order.
    """
    client = _parse(peer)
    if client is None:
        return peer
    for hop in reversed(b",".join(values).decode("latin-1").split(",")):
        if not any(client in network for network in trusted):
            break
        parsed = _parse(hop.strip())
        if parsed is None:
            break
        client = parsed
    return str(client)


def _parse(text: str) -> _Address | None:
    """An address as it is, or with a port, as some proxies write it."""
    for candidate in (text, text.rpartition(":")[0]):
        try:
            address = ipaddress.ip_address(candidate.strip("[]").partition("%")[0])
        except ValueError:
            continue
        mapped = getattr(address, "ipv4_mapped", None)
        return address if mapped is None else mapped
    return None
