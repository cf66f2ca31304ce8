"""Firewalls as chains of nftables, before any kernel sees them."""

from ipaddress import IPv4Network

from netns.firewall import chains
from netns.topology import Accept, Firewall, Masquerade, Policy


def expressions(firewall: Firewall) -> dict[str, list[list[str]]]:
    """Names of the expressions, by chain and rule."""
    return {
        chain.name: [
            [dict(part["attrs"])["NFTA_EXPR_NAME"] for part in rule] for rule in chain.rules
        ]
        for chain in chains(firewall)
    }


def test_firewall_that_accepts_all_needs_no_chain() -> None:
    assert list(chains(Firewall())) == []


def test_drop_is_the_policy_of_the_chain() -> None:
    (chain,) = chains(Firewall(input=Policy.DROP))
    assert (chain.name, chain.kind, chain.policy, chain.rules) == ("input", "filter", 0, ())


def test_reject_is_the_last_rule() -> None:
    rules = expressions(Firewall(forward=Policy.REJECT, accept=(Accept(incoming="a"),)))
    assert rules == {"forward": [["meta", "cmp", "immediate"], ["reject"]]}


def test_all_conditions_of_a_rule_are_there() -> None:
    network = IPv4Network("10.0.0.0/8")
    rule = Accept("a", "b", source=network, destination=network, established=True)
    (forward,) = expressions(Firewall(forward=Policy.DROP, accept=(rule,))).values()
    address = ["meta", "cmp", "payload", "bitwise", "cmp"]
    assert forward == [[*["meta", "cmp"] * 2, *address * 2, "ct", "bitwise", "cmp", "immediate"]]


def test_masquerade_is_a_chain_of_type_nat_after_routing() -> None:
    (chain,) = chains(Firewall(masquerade=(Masquerade(IPv4Network("10.0.0.0/8"), "a"),)))
    assert (chain.name, chain.kind, chain.policy) == ("postrouting", "nat", 1)
    assert dict(chain.rules[0][-1]["attrs"])["NFTA_EXPR_NAME"] == "masq"
