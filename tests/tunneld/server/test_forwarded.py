"""Whose connection a web server passes on."""

import ipaddress

import pytest

from tunneld.server.forwarded import client_address

TRUSTED = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "127.0.0.1", "fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "values", "client"),
    [
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", [b"203.0.113.7"], "203.0.113.7"),
        ("127.0.0.1", [b"1.1.1.1, 203.0.113.7"], "203.0.113.7"),  # the left one may be invented
        ("127.0.0.1", [b"203.0.113.7, 10.2.3.4"], "203.0.113.7"),  # two proxies
        ("127.0.0.1", [b"1.1.1.1", b"203.0.113.7,10.2.3.4"], "203.0.113.7"),
        ("127.0.0.1", [b"10.9.9.9"], "10.9.9.9"),
        ("127.0.0.1", [b"203.0.113.7:4711"], "203.0.113.7"),
        ("127.0.0.1", [b"[2001:db8::1]:4711"], "2001:db8::1"),
        ("127.0.0.1", [b"2001:db8::1"], "2001:db8::1"),
        ("fd00::1", [b"203.0.113.7"], "203.0.113.7"),
        ("::ffff:127.0.0.1", [b"203.0.113.7"], "203.0.113.7"),
        ("127.0.0.1", [b"::ffff:203.0.113.7"], "203.0.113.7"),
        ("127.0.0.1", [b"nonsense"], "127.0.0.1"),
        ("127.0.0.1", [b"203.0.113.7, "], "127.0.0.1"),
        ("127.0.0.1", [b"\xff\n, unknown"], "127.0.0.1"),
        ("127.0.0.1", [b"203.0.113.7, unknown, 10.1.1.1"], "10.1.1.1"),
        ("198.51.100.1", [b"203.0.113.7"], "198.51.100.1"),  # nobody trusts it
        ("gone", [b"203.0.113.7"], "gone"),
    ],
)
def test_what_trusted_proxies_say_is_believed_and_no_more(
    peer: str, values: list[bytes], client: str
) -> None:
    assert client_address(peer, values, TRUSTED) == client


def test_without_trusted_proxies_the_field_counts_for_nothing() -> None:
    assert client_address("127.0.0.1", [b"203.0.113.7"], []) == "127.0.0.1"
