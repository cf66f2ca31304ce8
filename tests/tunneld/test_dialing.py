"""Dials that fail: each kind in each protocol's words, and the addresses that cannot be dialled."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneld.dialing import (
    AGENT_TIMEOUT,
    BAD_ADDRESS,
    FAILED,
    NAME_TIMEOUT,
    NO_AGENT,
    OVERLOADED,
    PROHIBITED,
    REFUSED,
    TIMEOUT,
    TUNNEL_LOST,
    UNKNOWN_NAME,
    UNREACHABLE,
    DialError,
    Kind,
    host_of,
    join_authority,
    split_authority,
)

KINDS = (
    REFUSED,
    TIMEOUT,
    AGENT_TIMEOUT,
    UNKNOWN_NAME,
    NAME_TIMEOUT,
    UNREACHABLE,
    PROHIBITED,
    NO_AGENT,
    TUNNEL_LOST,
    OVERLOADED,
    BAD_ADDRESS,
    FAILED,
)


@pytest.mark.parametrize(
    ("authority", "host", "port"),
    [
        ("a.example:80", "a.example", 80),
        ("10.0.0.1:65535", "10.0.0.1", 65535),
        ("[fd00::1]:1", "fd00::1", 1),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
    ],
)
def test_authorities_are_split_and_joined(authority: str, host: str, port: int) -> None:
    assert split_authority(authority) == (host, port)
    assert join_authority(host, port) == authority


@pytest.mark.parametrize(
    ("authority", "text"),
    [
        ("127.0.0.1", "dial tcp: address 127.0.0.1: missing port in address"),
        ("[::1]", "dial tcp: address [::1]: missing port in address"),
        ("[::1", "dial tcp: address [::1: missing port in address"),
        ("::1:80", "dial tcp: address ::1:80: too many colons in address"),
        ("a:0", "dial tcp: address 0: invalid port"),
        ("a:65536", "dial tcp: address 65536: invalid port"),
        ("a:", "dial tcp: address : invalid port"),
        ("a:-1", "dial tcp: address -1: invalid port"),
        ("a:٣", "dial tcp: address ٣: invalid port"),
        ("a:" + "9" * 5000, f"dial tcp: address {'9' * 5000}: invalid port"),
        (":80", "dial tcp: host '': 1 to 253 visible ASCII characters"),
        ("a b:80", "dial tcp: host 'a b': 1 to 253 visible ASCII characters"),
        ("a\x00:80", "dial tcp: host 'a\\x00': 1 to 253 visible ASCII characters"),
    ],
)
def test_what_cannot_be_dialled_is_said_in_go_s_words(authority: str, text: str) -> None:
    with pytest.raises(DialError) as caught:
        split_authority(authority)
    assert caught.value.kind is BAD_ADDRESS
    assert str(caught.value) == text


@pytest.mark.parametrize(
    "host", [r"\115ecret.example", r"se\cret.example", "a%lo", "@a", r"[\115ecret:]", "a~b", "[:;]"]
)
def test_a_name_that_a_resolver_might_take_for_another_is_none(host: str) -> None:
    """glibc's reads ``\\115`` as ``s``: no rule about ``secret.example`` would fit it."""
    with pytest.raises(DialError, match=r"dial tcp: lookup .*: no such host") as caught:
        split_authority(f"{host}:80")
    assert caught.value.kind is UNKNOWN_NAME


def test_a_long_host_is_shown_in_part() -> None:
    with pytest.raises(DialError, match=r"dial tcp: host 'x{40}… \(300 characters\)'"):
        split_authority("x" * 300 + ":80")


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_survives_proxy_status(kind: Kind) -> None:
    error = DialError(kind, 'dial tcp: "quoted\\" text')
    read = DialError.from_proxy_status(kind.status, error.proxy_status("tunneld-edge"))
    assert read.kind == kind
    assert str(read) == str(error)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (504, TIMEOUT),
        (503, NO_AGENT),
        (403, PROHIBITED),
        (407, PROHIBITED),
        (429, OVERLOADED),
        (500, FAILED),
    ],
)
def test_without_proxy_status_the_status_decides(status: int, kind: Kind) -> None:
    error = DialError.from_proxy_status(status, "")
    assert error.kind is kind
    assert str(error) == f"status {status}"


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_a_code_that_clients_know(kind: Kind) -> None:
    error = DialError(kind, "text").to_control()
    assert (error.code, error.message) == (kind.code, "text")
    assert 400 <= kind.status < 600


@given(st.text(max_size=200))
def test_proxy_status_is_one_line_of_ascii(text: str) -> None:
    value = DialError(FAILED, text).proxy_status("tunneld")
    assert value.isascii()
    assert value.isprintable()
    assert len(str(DialError.from_proxy_status(502, value))) == len(text)


def test_proxy_status_is_no_longer_than_a_header_may_be() -> None:
    """An agent's text may have 4 MiB."""
    value = DialError(FAILED, "x" * 4_000_000).proxy_status("tunneld")
    assert len(value) < 1_100
    assert str(DialError.from_proxy_status(502, value)) == "x" * 1_000 + "..."


@given(st.text(max_size=300))
def test_any_text_is_an_authority_or_an_error(text: str) -> None:
    try:
        host, port = split_authority(text)
    except DialError:
        return
    assert split_authority(join_authority(host, port)) == (host, port)


# -- konnectivity's ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("dial tcp 192.0.2.1:80: i/o timeout", TIMEOUT),
        (
            "dial tcp: lookup x on 10.0.0.10:53: read udp 10.0.0.1:1->10.0.0.10:53: i/o timeout",
            TIMEOUT,
        ),
        ("context deadline exceeded", TIMEOUT),
        ("TIMEOUT", TIMEOUT),
        ("dial tcp 10.0.0.1:80: socket: too many open files", OVERLOADED),
        ("dial tcp 127.0.0.1:1: connect: connection refused", REFUSED),
        ("dial tcp: lookup nosuch on 10.0.0.10:53: no such host", UNKNOWN_NAME),
        ("dial tcp: lookup nosuch on 10.0.0.10:53: server misbehaving", NAME_TIMEOUT),
        ("dial tcp 10.0.0.1:80: connect: network is unreachable", UNREACHABLE),
        ("dial tcp 10.0.0.1:80: connect: no route to host", UNREACHABLE),
        ("dial tcp: address 127.0.0.1: missing port in address", BAD_ADDRESS),
        ("dial tcp: address 99999: invalid port", BAD_ADDRESS),
        ("dial tcp: address ::1:1: too many colons in address", BAD_ADDRESS),
        ("dial: unknown network udp9", BAD_ADDRESS),
        ("", FAILED),
        ("something else", FAILED),
    ],
)
def test_go_s_errors_are_told_apart_by_their_texts(text: str, kind: Kind) -> None:
    error = DialError.from_text(text)
    assert error.kind is kind
    assert str(error) == text


@given(st.text(max_size=200))
def test_any_text_is_an_error_with_the_status_that_upstream_gives_it(text: str) -> None:
    lower = text.lower()
    status = 502
    if "timeout" in lower or "deadline exceeded" in lower:
        status = 504
    elif "too many open files" in lower:
        status = 503
    assert DialError.from_text(text).kind.status == status


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("a.example:80", "a.example"),
        ("a.example", "a.example"),
        ("10.0.0.1:80", "10.0.0.1"),
        (":80", ""),
        ("", ""),
        ("[fd00::1]:80", "fd00::1"),
        ("::1", "::1"),
        ("fd00::1:80", "fd00::1:80"),
        ("a:b:c", "a:b:c"),
    ],
)
def test_the_host_of_an_address_is_what_upstream_takes_for_it(address: str, host: str) -> None:
    assert host_of(address) == host
