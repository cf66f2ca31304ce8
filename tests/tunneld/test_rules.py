import ipaddress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneld.addresses import METADATA, IpAddress
from tunneld.config import DestinationRule
from tunneld.config import Rule as RuleConfig
from tunneld.rules import (
    METADATA_CLAUSE,
    NO_RULE,
    Clause,
    Patterns,
    Rule,
    RuleError,
    clauses_of,
    deciding,
    from_text,
    to_text,
)


def rule(action: str = "allow", **keys: Any) -> Rule:
    return Rule(msgspec.convert({"action": action, **keys}, RuleConfig), 1)


def allowed(rules: list[Rule], name: str | None, address: str, port: int = 443) -> bool:
    fitting = [each for each in rules if each.takes(name, port)]
    return deciding(clauses_of(fitting), ipaddress.ip_address(address)).allow


def test_the_first_rule_that_fits_decides() -> None:
    rules = [rule("deny", cidr=("10.9.0.0/16",)), rule(cidr=("10.0.0.0/8",)), rule("deny")]
    assert allowed(rules, None, "10.1.0.1")
    assert not allowed(rules, None, "10.9.0.1")
    assert not allowed(rules, None, "11.0.0.1")


def test_what_no_rule_allows_is_denied() -> None:
    assert clauses_of([]) == (NO_RULE,)
    assert not allowed([rule(host=("a.example",))], "b.example", "10.0.0.1")


def test_all_that_a_rule_says_must_be_true() -> None:
    rules = [rule(host=("*.corp.example",), cidr=("10.0.0.0/8",), port=(443, "8000-8099"))]
    assert allowed(rules, "db.corp.example", "10.0.0.1")
    assert allowed(rules, "DB.Corp.Example", "10.0.0.1", 8050)
    assert not allowed(rules, "db.corp.example", "11.0.0.1")
    assert not allowed(rules, "db.other.example", "10.0.0.1")
    assert not allowed(rules, "db.corp.example", "10.0.0.1", 8100)
    assert not allowed(rules, None, "10.0.0.1"), "an address has no name to fit"


@pytest.mark.parametrize("address", ["10.9.0.1", "::ffff:10.9.0.1", "64:ff9b::a09:1"])
def test_a_network_is_denied_however_the_address_is_written(address: str) -> None:
    rules = [rule("deny", cidr=("10.9.0.0/16",)), rule()]
    assert not allowed(rules, None, address)
    assert not allowed(rules, "innocent.example", address)


@pytest.mark.parametrize("name", [None, "metadata.example"])
def test_metadata_addresses_are_no_destination_by_default(name: str | None) -> None:
    for rules in ([rule()], [rule(cidr=("0.0.0.0/0", "::/0"))], [rule(cidr=("169.0.0.0/8",))]):
        assert not allowed(rules, name, "169.254.169.254")
        assert not allowed(rules, name, "::ffff:169.254.169.254")
    assert not allowed([rule()], name, "fe80::1%eth0")
    assert allowed([rule()], name, "10.0.0.1")


def test_a_rule_that_names_metadata_addresses_allows_them() -> None:
    rules = [rule(cidr=("169.254.20.10",)), rule()]
    assert allowed(rules, None, "169.254.20.10")
    assert not allowed(rules, None, "169.254.169.254")
    assert allowed([Rule(DestinationRule(action="allow"), 1, metadata=True)], None, "169.254.1.1")


def test_clauses_that_change_nothing_are_left_out() -> None:
    assert clauses_of([rule("deny", cidr=("10.0.0.0/8",))]) == (NO_RULE,)
    assert clauses_of([rule()])[0] is METADATA_CLAUSE


def test_a_label_is_the_rule_s_name_or_its_number() -> None:
    assert Rule(DestinationRule(action="deny", name="no mail", port=(25,)), 3).label == "no mail"
    assert Rule(DestinationRule(action="deny"), 3).label == "rule 3"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("cidr", "10.0.0.1/8", "has host bits set"),
        ("cidr", "corp", "expected 10.0.0.0/8"),
        ("cidr", "::ffff:10.0.0.0/104", "write the IPv4 network"),
        ("host", "10.0.0.1", "put it under cidr"),
        ("host", "a b", "is no host name"),
        ("host", "", "is no host name"),
        ("port", 0, "is no port"),
        ("port", "http", "is no port"),
        ("port", "9-8", "is no port"),
        ("port", 65536, "is no port"),
    ],
)
def test_a_rule_without_sense_is_refused(key: str, value: int | str, message: str) -> None:
    with pytest.raises(RuleError, match=message) as caught:
        rule("allow", **{key: (value,)})
    assert caught.value.key == key


def test_patterns_know_the_star_alone() -> None:
    patterns = Patterns(["cert:a*", "user:[x]?"])
    assert patterns.match("cert:alice")
    assert patterns.match("user:[x]?")
    assert not patterns.match("user:xy")
    assert not patterns.match("xcert:a")
    assert Patterns([]).match("anything")


NETWORKS = st.one_of(
    st.builds(
        lambda number, length: ipaddress.ip_network((number, length), strict=False),
        st.integers(0, 2**32 - 1),
        st.integers(0, 32),
    ),
    st.sampled_from(METADATA),
)
CLAUSES = st.lists(
    st.builds(
        Clause, st.booleans(), st.lists(NETWORKS, min_size=1, max_size=3).map(tuple), st.just("x")
    ),
    max_size=5,
).flatmap(lambda some: st.booleans().map(lambda last: (*some, Clause(last, (), "x"))))
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(CLAUSES, ADDRESSES)
def test_the_agent_decides_as_the_server_would(
    clauses: tuple[Clause, ...], address: IpAddress
) -> None:
    told = from_text(to_text(clauses))
    assert deciding(told, address).allow == deciding(clauses, address).allow


RULES = st.lists(
    st.builds(
        lambda action, cidr: Rule(DestinationRule(action=action, cidr=tuple(cidr)), 1),
        st.sampled_from(["allow", "deny"]),
        st.lists(NETWORKS.map(str), max_size=2),
    ),
    max_size=6,
)


@given(RULES, ADDRESSES)
def test_clauses_say_what_the_rules_say_one_by_one(rules: list[Rule], address: IpAddress) -> None:
    def by_hand() -> bool:
        for each in rules:
            if each.opens_metadata and METADATA_CLAUSE.takes(address):
                return False
            if not each.networks or any(address in network for network in each.networks):
                return each.allow
        return False

    if address == ipaddress.ip_address("0.0.0.0") or address.version == 6:
        return  # `real_address` has tests of its own
    assert deciding(clauses_of(rules), address).allow == by_hand()


@pytest.mark.parametrize(
    "text", ["", "allow", "permit *", "deny 10.0.0.0/99", "allow *;", "deny " + "1.1.1.1," * 5000]
)
def test_what_is_no_rules_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        from_text(text)


def test_a_text_without_a_last_word_denies_the_rest() -> None:
    assert not deciding(from_text("allow 10.0.0.0/8"), ipaddress.ip_address("11.0.0.1")).allow
