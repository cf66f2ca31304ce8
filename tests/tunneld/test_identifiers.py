import pytest

from tunneld.identifiers import (
    IdentifiersError,
    is_default_route,
    parse_foreign_identifiers,
    parse_identifiers,
)


def test_values_are_gathered_by_kind_in_order() -> None:
    text = "host=localhost&host=node1.example&cidr=127.0.0.1/16&ipv4=1.2.3.4&ipv6=100::1"
    assert parse_identifiers(text) == {
        "host": ["localhost", "node1.example"],
        "cidr": ["127.0.0.1/16"],
        "ipv4": ["1.2.3.4"],
        "ipv6": ["100::1"],
    }


def test_no_text_claims_nothing() -> None:
    assert parse_identifiers("") == {}


def test_escapes_are_decoded() -> None:
    assert parse_identifiers("ipv6=fd00%3A%3A1&host=a+b") == {"ipv6": ["fd00::1"], "host": ["a b"]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("host=a;host=b", "no separator"),
        ("host=%zz", "bad %-escape"),
        ("hots=a", "unknown kind 'hots'"),
        ("host", "no value"),
        ("host=", "no value"),
        ("ipv4=1.2.3", "ipv4=1.2.3"),
        ("ipv4=::1", "ipv4=::1"),
        ("ipv6=1.2.3.4", "ipv6=1.2.3.4"),
        ("cidr=10.0.0.0/33", "cidr=10.0.0.0/33"),
        ("default-route=yes", "expected true or false"),
        ("default-route=true&default-route=false", "given twice"),
    ],
)
def test_what_can_never_match_is_refused(text: str, says: str) -> None:
    with pytest.raises(IdentifiersError, match=says):
        parse_identifiers(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ("default-route=true", True),
        ("default-route=1", True),
        ("default-route=f", False),
    ],
)
def test_the_default_route_is_a_go_boolean(text: str, expected: bool) -> None:
    assert is_default_route(parse_identifiers(text)) is expected


# -- of other makes ---------------------------------------------------------------------------


def test_what_is_not_known_or_of_no_use_is_left_out() -> None:
    text = "uid=7&colour=red&host=a&host=&ipv4=1.2.3&ipv4=1.2.3.4&cidr=x&&ipv6=%3A%3A1&host"
    assert parse_foreign_identifiers(text) == {
        "host": ["a"],
        "ipv4": ["1.2.3.4"],
        "ipv6": ["::1"],
    }


def test_what_is_known_is_read_alike() -> None:
    text = "host=localhost&host=a+b&cidr=127.0.0.1/16&ipv6=100::1&default-route=true"
    assert parse_foreign_identifiers(text) == parse_identifiers(text)


@pytest.mark.parametrize("text", ["host=%zz", "a;b", "host=a&b;c=1", "host=a&%", "%4=x"])
def test_what_is_no_query_text_is_refused_in_upstream_s_words(text: str) -> None:
    with pytest.raises(IdentifiersError, match=r"^fail to parse url encoded string: "):
        parse_foreign_identifiers(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("default-route=true", True),
        ("default-route=t&default-route=false", True),
        ("default-route=false&default-route=true", False),
        ("default-route=perhaps", False),
        ("default-route=perhaps&default-route=true", False),
        ("default-route=&default-route=true", False),
        ("default-route", False),
    ],
)
def test_the_first_word_on_the_default_route_counts(text: str, expected: bool) -> None:
    assert is_default_route(parse_foreign_identifiers(text)) is expected
