"""IP addresses as rules see them: one address, however it is written."""

import ipaddress
import re
import socket
from typing import Final, TypeAlias

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

METADATA: Final[tuple[IpNetwork, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "169.254.0.0/16",  # link-local; 169.254.169.254 at nearly all clouds
        "fe80::/10",  # link-local
        "fd00:ec2::/32",  # AWS, the credentials of EKS at ::23 among them
        "fd20:ce::254/128",  # Google
        "fd00:c1::a9fe:a9fe/128",  # Oracle
        "fd00:42::42/128",  # Scaleway
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure's host
    )
)
"""Where a cloud tells its machines who they are, credentials included: no destination unless a
rule names it."""

NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052 section 2.1: the last 32 bits are an IPv4 address."""
_OLD_FORM = re.compile(r"[0-9][0-9a-fA-FxX.]*")


def real_address(address: IpAddress) -> IpAddress:
    """What an address leads to: the IPv4 in a mapped (RFC 4291 section 2.5.5.2) or translated one,
    the loopback for 0.0.0.0 and ``::``, which Linux takes for it; no zone."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif address in NAT64:
            address = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        elif address.is_unspecified:
            return ipaddress.IPv6Address("::1")
        elif address.scope_id is not None:
            return ipaddress.IPv6Address(int(address))
    if isinstance(address, ipaddress.IPv4Address) and address.is_unspecified:
        return ipaddress.IPv4Address("127.0.0.1")
    return address


def written_address(host: str) -> IpAddress | None:
    """The address that a host is, None if it is a name. Resolvers take more for an address than is
    one now: ``127.1``, ``0x7f000001`` and ``2130706433`` are 127.0.0.1 (inet_aton(3))."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    if not _OLD_FORM.fullmatch(host):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None
