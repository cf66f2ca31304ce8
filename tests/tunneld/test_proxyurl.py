"""Which HTTP proxy leads to an address."""

import pytest

from ctl.address import Address, AddressError
from tunneld.proxyurl import (
    ENVIRONMENT,
    Proxy,
    is_exempt,
    parse_credentials,
    parse_proxy,
    proxy_for,
)

TARGET = Address("edge.example", 443)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://proxy:3128", Proxy("http", Address("proxy", 3128))),
        ("http://proxy", Proxy("http", Address("proxy", 80))),
        ("https://proxy/", Proxy("https", Address("proxy", 443))),
        ("proxy:3128", Proxy("http", Address("proxy", 3128))),
        ("http://[::1]:3128", Proxy("http", Address("::1", 3128))),
        ("http://me:se%40cret@proxy:1", Proxy("http", Address("proxy", 1), b"me:se@cret")),
        ("http://me:a@b@proxy:1", Proxy("http", Address("proxy", 1), b"me:a@b")),
    ],
)
def test_a_url_is_read(text: str, expected: Proxy) -> None:
    assert parse_proxy(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("socks5://proxy:1080", "a proxy of kind 'socks5'"),
        ("http://", "host is empty"),
        ("http://proxy:70000", "out of range"),
        ("http://proxy/path", "a path"),
        ("http://me@proxy", "no ':'"),
        ("http://me:a%0d%0ab@proxy", "control character"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        parse_proxy(text)


def test_credentials_are_in_no_text() -> None:
    assert str(parse_proxy("http://me:secret@proxy:3128")) == "http://proxy:3128"
    for wrong in ("http://me:secret@proxy:x", "http://me:secret@", "http://secret@proxy"):
        with pytest.raises(AddressError) as caught:
            parse_proxy(wrong)
        assert "secret" not in str(caught.value)


def test_basic_authorization_is_as_in_rfc_7617() -> None:
    # RFC 7617 section 2, the example.
    proxy = Proxy("http", Address("proxy", 80), parse_credentials(b"Aladdin:open sesame"))
    assert proxy.authorization == b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"HTTP_PROXY": "http://plain:1"}, None),
        ({"HTTPS_PROXY": "http://upper:1"}, "http://upper:1"),
        ({"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:1"}, "http://lower:1"),
        ({"ALL_PROXY": "http://all:1"}, "http://all:1"),
        ({"ALL_PROXY": "http://all:1", "HTTPS_PROXY": "http://https:1"}, "http://https:1"),
        ({"HTTPS_PROXY": "", "all_proxy": "http://all:1"}, "http://all:1"),
        ({"HTTPS_PROXY": "http://a:1", "NO_PROXY": "other,edge.example"}, None),
        ({"HTTPS_PROXY": "http://a:1", "no_proxy": "*"}, None),
        ({"HTTPS_PROXY": "http://a:1", "NO_PROXY": "other"}, "http://a:1"),
    ],
)
def test_the_environment_is_read_as_others_read_it(
    environ: dict[str, str], expected: str | None
) -> None:
    proxy = proxy_for(ENVIRONMENT, TARGET, environ)
    assert (str(proxy) if proxy else None) == expected


def test_only_the_setting_environment_reads_the_environment() -> None:
    environ = {"HTTPS_PROXY": "http://env:1", "NO_PROXY": "*"}
    assert proxy_for("", TARGET, environ) is None
    assert proxy_for("http://set:1", TARGET, environ) == parse_proxy("http://set:1")


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(AddressError, match=r"ALL_PROXY of the environment: .*'socks5'"):
        proxy_for(ENVIRONMENT, TARGET, {"ALL_PROXY": "socks5://x:1080"})


@pytest.mark.parametrize(
    ("no_proxy", "host", "exempt"),
    [
        ("example", "edge.example", True),
        (".example", "edge.example", True),
        ("EXAMPLE", "Edge.Example.", True),
        ("edge.example", "edge.example", True),
        ("ample", "edge.example", False),
        ("edge.example:443", "edge.example", True),
        ("edge.example:80", "edge.example", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3:443", "10.1.2.3", True),
        ("2001:db8::1", "2001:db8::1", True),
        ("[2001:db8::1]", "2001:db8::1", True),
        ("[2001:db8::1]:443", "2001:db8::1", True),
        ("[2001:db8::1]:80", "2001:db8::1", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("a b,edge.example c", "edge.example", True),
        ("", "edge.example", False),
        (", ,.", "edge.example", False),
        ("*", "10.1.2.3", True),
    ],
)
def test_hosts_may_be_exempt(no_proxy: str, host: str, exempt: bool) -> None:
    assert is_exempt(Address(host, 443), no_proxy) is exempt
