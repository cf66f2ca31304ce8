"""Addresses as konnectivity's servers send them; the errors are those of Go's dialer."""

import socket

import pytest

from tests.conftest import need
from tunneld.agent.target import Target, parse_target
from tunneld.dialing import DialError


@pytest.mark.parametrize(
    ("network", "address", "host", "port"),
    [
        ("tcp", "127.0.0.1:8080", "127.0.0.1", 8080),
        ("tcp", "db.example:5432", "db.example", 5432),
        ("tcp6", "[::1]:80", "::1", 80),
        ("tcp", "[fe80::1%eth0]:80", "fe80::1%eth0", 80),
        ("tcp", ":80", "127.0.0.1", 80),
        ("tcp4", ":80", "127.0.0.1", 80),
        ("tcp6", ":80", "::1", 80),
        ("tcp", "host:", "host", 0),
        ("tcp", "host:+80", "host", 80),
        ("tcp", "host:0080", "host", 80),
    ],
)
def test_an_address_is_taken_apart(network: str, address: str, host: str, port: int) -> None:
    assert parse_target(network, address) == Target(network, host, port)


def test_a_port_may_be_the_name_of_a_service() -> None:
    try:
        port = socket.getservbyname("https", "tcp")
    except OSError:
        need(False, "/etc/services")
    assert parse_target("tcp", "host:https").port == port


@pytest.mark.parametrize(
    ("network", "address", "text"),
    [
        ("udp", "h:1", "dial udp: unknown network udp"),
        ("unix", "/run/x.sock", "dial unix: unknown network unix"),
        ("", "h:1", "dial: unknown network "),
        ("tcp", "", "dial tcp: missing address"),
        ("tcp", "127.0.0.1", "dial tcp: address 127.0.0.1: missing port in address"),
        ("tcp4", "::1:1", "dial tcp4: address ::1:1: too many colons in address"),
        ("tcp", "[::1]:1:2", "dial tcp: address [::1]:1:2: too many colons in address"),
        ("tcp", "[::1]", "dial tcp: address [::1]: missing port in address"),
        ("tcp", "[::1]x:1", "dial tcp: address [::1]x:1: missing port in address"),
        ("tcp", "[::1:1", "dial tcp: address [::1:1: missing ']' in address"),
        ("tcp", "a[b:1", "dial tcp: address a[b:1: unexpected '[' in address"),
        ("tcp", "a]b:1", "dial tcp: address a]b:1: unexpected ']' in address"),
        ("tcp", "h:99999", "dial tcp: address 99999: invalid port"),
        ("tcp", "h:-1", "dial tcp: address -1: invalid port"),
        ("tcp", "h:" + "9" * 30, f"dial tcp: address {'9' * 30}: invalid port"),
        ("tcp", "h:nosuch", "dial tcp: lookup tcp/nosuch: unknown port"),
        ("tcp", "h:a\0b", "dial tcp: lookup tcp/a\0b: unknown port"),
        ("tcp", "a b:1", "dial tcp: lookup a b: no such host"),
        ("tcp", r"\115ecret:1", r"dial tcp: lookup \115ecret: no such host"),
        ("tcp", "a\0b:1", "dial tcp: lookup a\0b: no such host"),
        ("tcp", "x" * 400 + ":1", f"dial tcp: lookup {'x' * 300}: no such host"),
        ("tcp", "x" * 400, f"dial tcp: address {'x' * 300}…: missing port in address"),
    ],
)
def test_what_is_no_address_is_said_as_go_says_it(network: str, address: str, text: str) -> None:
    with pytest.raises(DialError) as caught:
        parse_target(network, address)
    assert str(caught.value) == text
