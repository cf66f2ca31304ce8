"""NAT and packet filter of a router: one nftables table.

The family is inet, so that the policies also hold for IPv6's link-local addresses. The table is
what these lines of nft(8) would make for the demo's `rtr-priv`:

    table inet tunneld {
        chain input { type filter hook input priority filter; policy drop; }
        chain forward {
            type filter hook forward priority filter; policy drop;
            iifname "private" oifname "rtr-pub" accept
            iifname "rtr-pub" oifname "private" ct state established,related accept
            reject with icmpx admin-prohibited
        }
        chain postrouting {
            type nat hook postrouting priority srcnat; policy accept;
            ip saddr 192.168.1.0/27 oifname "rtr-pub" masquerade
        }
    }
"""

import errno
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from netns.netlink import open_nftables, told
from netns.topology import Accept, Firewall, Masquerade, Policy

TABLE = "tunneld"

Expression = dict[str, Any]

# Values of linux/netfilter.h and linux/netfilter/nf_tables.h.
_NF_DROP, _NF_ACCEPT = 0, 1
_REGISTER_VERDICT, _REGISTER_1 = 0, 1
_META_IIFNAME, _META_OIFNAME, _META_NFPROTO = 6, 7, 15
_CT_STATE = 0
_CT_ESTABLISHED_OR_RELATED = 0b0110
_NETWORK_HEADER = 1
_CMP_EQ, _CMP_NEQ = 0, 1
_REJECT_ICMPX_UNREACH = 2
_ICMPX_ADMIN_PROHIBITED = 3
_NFPROTO_IPV4 = 2
_IFNAMSIZ = 16
_IP_SOURCE, _IP_DESTINATION = 12, 16
"""Offsets in the IPv4 header, RFC 791 section 3.1."""
_PRIORITY_SRCNAT = 100


@dataclass(frozen=True, slots=True)
class Chain:
    """A base chain with its rules."""

    name: str
    kind: str
    priority: int
    policy: int
    rules: tuple[tuple[Expression, ...], ...]


def install_firewall(full_name: str, firewall: Firewall) -> None:
    """Install it in the calling thread's namespace.

    Raises:
      NetnsError: the kernel refuses, or lacks nftables.
    """
    missing = (
        "the kernel has no nftables, or not all of it (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET, "
        "CONFIG_NFT_CT, CONFIG_NFT_MASQ, CONFIG_NFT_REJECT_INET)"
    )
    hints = dict.fromkeys((errno.ENOENT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT), missing)
    with told(f"set up the firewall of {full_name}", hints), open_nftables() as nft:
        nft.table("add", name=TABLE)
        for chain in chains(firewall):
            nft.chain(
                "add",
                table=TABLE,
                name=chain.name,
                hook=chain.name,
                type=chain.kind,
                priority=chain.priority,
                policy=chain.policy,
            )
            for rule in chain.rules:
                nft.rule("add", table=TABLE, chain=chain.name, expressions=[rule])


def chains(firewall: Firewall) -> Iterator[Chain]:
    """The chains of a firewall; those that would do nothing are left out."""
    if firewall.input is not Policy.ACCEPT:
        yield _filter("input", firewall.input, ())
    if firewall.forward is not Policy.ACCEPT:
        yield _filter("forward", firewall.forward, firewall.accept)
    if firewall.masquerade:
        rules = tuple(_masquerade(rule) for rule in firewall.masquerade)
        yield Chain("postrouting", "nat", _PRIORITY_SRCNAT, _NF_ACCEPT, rules)


def _filter(name: str, policy: Policy, accept: tuple[Accept, ...]) -> Chain:
    rules = [_accept(rule) for rule in accept]
    if policy is Policy.REJECT:
        rules.append((_reject(),))
    # A packet that ICMP cannot answer runs through the reject rule: drop it then.
    return Chain(name, "filter", 0, _NF_DROP, tuple(rules))


def _accept(rule: Accept) -> tuple[Expression, ...]:
    return (
        *(_device(_META_IIFNAME, rule.incoming) if rule.incoming else ()),
        *(_device(_META_OIFNAME, rule.outgoing) if rule.outgoing else ()),
        *(_address(_IP_SOURCE, rule.source) if rule.source else ()),
        *(_address(_IP_DESTINATION, rule.destination) if rule.destination else ()),
        *(_established() if rule.established else ()),
        _verdict(_NF_ACCEPT),
    )


def _masquerade(rule: Masquerade) -> tuple[Expression, ...]:
    return (
        *_address(_IP_SOURCE, rule.source),
        *_device(_META_OIFNAME, rule.outgoing),
        _expression("masq"),
    )


def _device(key: int, name: str) -> tuple[Expression, ...]:
    return (
        _expression("meta", KEY=key, DREG=_REGISTER_1),
        _compare(name.encode().ljust(_IFNAMSIZ, b"\0")),
    )


def _address(offset: int, network: IPv4Network) -> tuple[Expression, ...]:
    return (
        _expression("meta", KEY=_META_NFPROTO, DREG=_REGISTER_1),
        _compare(bytes([_NFPROTO_IPV4])),
        _expression("payload", DREG=_REGISTER_1, BASE=_NETWORK_HEADER, OFFSET=offset, LEN=4),
        _mask(network.netmask.packed),
        _compare(network.network_address.packed),
    )


def _established() -> tuple[Expression, ...]:
    return (
        _expression("ct", KEY=_CT_STATE, DREG=_REGISTER_1),
        _mask(_host_order(_CT_ESTABLISHED_OR_RELATED)),
        _compare(_host_order(0), _CMP_NEQ),
    )


def _reject() -> Expression:
    return _expression("reject", TYPE=_REJECT_ICMPX_UNREACH, ICMP_CODE=_ICMPX_ADMIN_PROHIBITED)


def _verdict(code: int) -> Expression:
    data = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": [("NFTA_VERDICT_CODE", code)]})]}
    return _expression("immediate", DREG=_REGISTER_VERDICT, DATA=data)


def _mask(mask: bytes) -> Expression:
    return _expression(
        "bitwise",
        SREG=_REGISTER_1,
        DREG=_REGISTER_1,
        LEN=len(mask),
        MASK=_value(mask),
        XOR=_value(bytes(len(mask))),
    )


def _compare(value: bytes, operation: int = _CMP_EQ) -> Expression:
    return _expression("cmp", SREG=_REGISTER_1, OP=operation, DATA=_value(value))


def _value(value: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", value)]}


def _expression(name: str, **attributes: Any) -> Expression:
    data = [(f"NFTA_{name.upper()}_{key}", value) for key, value in attributes.items()]
    return {"attrs": [("NFTA_EXPR_NAME", name), ("NFTA_EXPR_DATA", {"attrs": data})]}


def _host_order(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)
