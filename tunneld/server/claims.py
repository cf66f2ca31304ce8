"""What an agent claims to reach, in a form that answers quickly."""

import ipaddress
from functools import lru_cache
from typing import TypeAlias

from tunneld.identifiers import is_default_route

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_Prefixes: TypeAlias = dict[tuple[int, int], tuple[int, set[int]]]
"""The first bits of networks, by their number and the version of IP, the longest first; and how far
an address is shifted to get at them. There may be thousands, which no dial has to look through."""

_KEPT = 4096
"""Hosts that are remembered: clients come again for the same."""
NOTHING = -2
DEFAULT_ROUTE = -1
EXACT = 129
"""Above the longest prefix there is."""


class Claims:
    """An agent's identifiers: ``host=…&ipv4=…&ipv6=…&cidr=…&default-route=true``, parsed."""

    def __init__(self, identifiers: dict[str, list[str]]) -> None:
        self.identifiers = identifiers
        get = self.identifiers.get
        named = get("host", []) + get("ipv4", []) + get("ipv6", [])
        self._hosts = {normal_name(name) for name in named if as_address(name) is None}
        addresses = (as_address(name) for name in named)
        self._addresses = {address for address in addresses if address is not None}
        self._prefixes = _by_length(get("cidr", []))
        self.takes_unclaimed = True
        """Whether it may be asked for what nobody claims."""
        self._otherwise = DEFAULT_ROUTE if is_default_route(self.identifiers) else NOTHING

    @property
    def is_default_route(self) -> bool:
        """Whether it takes destinations that nobody claims."""
        return self._otherwise == DEFAULT_ROUTE

    @property
    def names_any(self) -> bool:
        """Whether it claims any destination in particular."""
        return bool(self._hosts or self._addresses or self._prefixes)

    @property
    def destinations(self) -> set[str]:
        """Hosts and addresses that are claimed one by one."""
        return self._hosts | {str(address) for address in self._addresses}

    def rank(self, host: str, address: IpAddress | None) -> int:
        """How exactly ``host`` is claimed: `EXACT`, the longest prefix length it falls under,
        `DEFAULT_ROUTE`, or `NOTHING`.

        Args:
          host: a name as `normal_name` gives it; looked at only without ``address``.
        """
        if address is None:
            return EXACT if host in self._hosts else self._otherwise
        if address in self._addresses:
            return EXACT
        number, version = int(address), address.version
        for (length, of_version), (shift, prefixes) in self._prefixes.items():
            if of_version == version and number >> shift in prefixes:
                return length
        return self._otherwise


def _by_length(networks: list[str]) -> _Prefixes:
    found: _Prefixes = {}
    for text in networks:
        network = ipaddress.ip_network(text, strict=False)
        length, shift = network.prefixlen, network.max_prefixlen - network.prefixlen
        _, prefixes = found.setdefault((length, network.version), (shift, set()))
        prefixes.add(int(network.network_address) >> shift)
    return dict(sorted(found.items(), reverse=True))


def normal_name(name: str) -> str:
    """A host name as names are compared: lower case, no dot at the end."""
    return name.rstrip(".").lower()


@lru_cache(_KEPT)
def as_address(host: str) -> IpAddress | None:
    """The address that ``host`` is, None if it is a name. An IPv4-mapped one is its IPv4."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
