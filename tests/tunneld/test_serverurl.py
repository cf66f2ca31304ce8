"""Where an agent finds its servers."""

import pytest

from ctl.address import Address, AddressError
from tunneld.serverurl import MAX_PATH, ServerUrl, is_request_path, parse_server


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("edge.example:8091", ServerUrl("", Address("edge.example", 8091))),
        ("[2001:db8::1]:8091", ServerUrl("", Address("2001:db8::1", 8091))),
        ("wss://edge.example", ServerUrl("wss", Address("edge.example", 443), "/")),
        ("wss://edge.example/tunnel", ServerUrl("wss", Address("edge.example", 443), "/tunnel")),
        ("ws://edge.example/", ServerUrl("ws", Address("edge.example", 80), "/")),
        ("wss://10.0.0.1:8443/a/b?c=d", ServerUrl("wss", Address("10.0.0.1", 8443), "/a/b?c=d")),
        ("wss://[2001:db8::1]/t", ServerUrl("wss", Address("2001:db8::1", 443), "/t")),
        ("wss://[2001:db8::1]:444/t", ServerUrl("wss", Address("2001:db8::1", 444), "/t")),
    ],
)
def test_an_address_or_url_is_read(text: str, expected: ServerUrl) -> None:
    assert parse_server(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("edge.example", "no port"),
        ("https://edge.example/tunnel", "'https' is no way to a server"),
        ("WSS://edge.example/", "'WSS' is no way to a server"),
        ("wss://", "host is empty"),
        ("wss:///tunnel", "host is empty"),
        ("wss://edge:0/", "port 0 is out of range"),
        ("wss://edge:x/", "not a number"),
        ("wss://user@edge/", "a character that no host"),
        ("wss://edge/a b", "visible ASCII"),
        ("wss://edge/a#b", "visible ASCII"),
        ("wss://edge/ä", "visible ASCII"),
        ("wss://edge/" + "a" * MAX_PATH, "1024 at most"),
        ("wss://2001:db8::1/", "has colons"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        parse_server(text)


@pytest.mark.parametrize(
    "text", ["edge:8091", "wss://edge:443/tunnel", "ws://[::1]:80/", "wss://edge:8443/a?b"]
)
def test_a_url_is_written_as_it_is_read(text: str) -> None:
    assert parse_server(str(parse_server(text))) == parse_server(text)


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("wss://edge/", "edge"),
        ("wss://edge:80/", "edge:80"),
        ("ws://edge/", "edge"),
        ("ws://[::1]/", "[::1]"),
        ("wss://[::1]:8443/", "[::1]:8443"),
    ],
)
def test_the_host_field_has_the_port_unless_it_is_the_schemes_own(
    text: str, authority: str
) -> None:
    assert parse_server(text).authority == authority


def test_a_path_begins_with_a_slash() -> None:
    assert is_request_path("/tunnel?x")
    assert not is_request_path("tunnel")
    assert not is_request_path("")
