"""What a konnectivity server asks to dial: a network and an address, as Go's dialer takes them."""

import re
import socket
from dataclasses import dataclass

from tunneld.dialing import BAD_ADDRESS, UNKNOWN_NAME, DialError, Kind, is_host

NETWORKS = ("tcp", "tcp4", "tcp6")
"""Go's agent takes all that its dialer knows, UNIX sockets of its host among them; we do not."""

_SHOWN = 300
"""Characters of a bad address that an error repeats."""
_NUMBER = re.compile(r"[+-]?[0-9]*")
_LOOPBACK = {"tcp": "127.0.0.1", "tcp4": "127.0.0.1", "tcp6": "::1"}


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint to connect to. ``network`` is one of `NETWORKS`, ``host`` not empty."""

    network: str
    host: str
    port: int


def parse_target(network: str, address: str) -> Target:
    """Take ``host:port``, ``[v6]:port``, or ``:port`` on the loopback; the port may be a name.

    Raises:
      DialError: in the wording of Go's dialer, which clients match.
    """
    if network not in NETWORKS:
        raise _error(network, f"unknown network {network[:_SHOWN]}")
    if not address:
        raise _error(network, "missing address")
    host, port = _split(network, address)
    number = _port(network, port)
    host = host or _LOOPBACK[network]
    if not is_host(host):
        raise _error(network, f"lookup {host[:_SHOWN]}: no such host", UNKNOWN_NAME)
    return Target(network, host, number)


def _split(network: str, address: str) -> tuple[str, str]:
    head, colon, port = address.rpartition(":")
    if not colon:
        raise _bad(network, address, "missing port in address")
    if not address.startswith("["):
        host = head
        if ":" in host:
            raise _bad(network, address, "too many colons in address")
    else:
        host, bracket, rest = address[1:].partition("]")
        if not bracket:
            raise _bad(network, address, "missing ']' in address")
        if rest != f":{port}":
            many = rest.startswith(":")
            why = "too many colons in address" if many else "missing port in address"
            raise _bad(network, address, why)
    for bracket in "[]":
        if bracket in host + port:
            raise _bad(network, address, f"unexpected '{bracket}' in address")
    return host, port


def _port(network: str, text: str) -> int:
    if _NUMBER.fullmatch(text):
        number = int(text[:20]) if text.strip("+-") else 0
        if 0 <= number < 65536:
            return number
        raise _bad(network, text, "invalid port")
    try:
        return socket.getservbyname(text, "tcp")
    except (OSError, ValueError):
        name = f"{network}/{text[:_SHOWN]}"
        raise _error(network, f"lookup {name}: unknown port", BAD_ADDRESS) from None


def _bad(network: str, address: str, why: str) -> DialError:
    shown = address if len(address) <= _SHOWN else address[:_SHOWN] + "…"
    return _error(network, f"address {shown}: {why}")


def _error(network: str, text: str, kind: Kind = BAD_ADDRESS) -> DialError:
    where = f" {network[:_SHOWN]}" if network else ""
    return DialError(kind, f"dial{where}: {text}")
