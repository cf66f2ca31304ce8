import pytest

from ctl.address import Address, AddressError, parse_address, parse_listen_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.168.1.2:4001", Address("192.168.1.2", 4001)),
        ("local-server.svc:80", Address("local-server.svc", 80)),
        ("[2001:db8::1]:22", Address("2001:db8::1", 22)),
        ("[local-server.svc]:22", Address("local-server.svc", 22)),
        ("h:65535", Address("h", 65535)),
        ("[fe80::1%eth0]:22", Address("fe80::1%eth0", 22)),
        ("a" * 253 + ":1", Address("a" * 253, 1)),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("192.168.1.2", "no port; expected HOST:PORT, as in 192.168.1.2:4001"),
        ("[2001:db8::1]", "no port"),
        ("", "no port"),
        (":80", "host is empty"),
        ("[]:80", "host is empty"),
        ("2001:db8::1:22", "write an IPv6 address as in"),
        ("h:", "port '' is not a number"),
        ("h:http", "port 'http' is not a number"),
        ("h:-1", "not a number"),
        ("h:٣", "not a number"),
        ("h:0", "port 0 is out of range; expected 1-65535"),
        ("h:65536", "port 65536 is out of range"),
        ("h:70000", "port 70000 is out of range"),
        ("h:000080", "port 000080 is out of range"),
        ("h:²", "not a number"),
        ("a/b:80", "a character that no host name"),
        ("h:" + "9" * 5000, "port 999999999999 is out of range"),
        ("a" * 300 + ":80", "host of 300 characters, limit 253"),
        ("a b:80", "a character that no host name"),
        ("a\x1b[2J:80", "a character that no host name"),
        ("http://h:80", "has colons"),
        ("user@h:80", "a character that no host name"),
    ],
)
def test_what_is_no_address_is_refused_with_what_was_seen(text: str, complaint: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    assert complaint in str(caught.value)


def test_port_0_is_for_listeners() -> None:
    assert parse_address("127.0.0.1:0", lowest_port=0).port == 0


@pytest.mark.parametrize("text", ["192.168.1.2:4001", "[2001:db8::1]:22"])
def test_an_address_prints_as_it_is_read(text: str) -> None:
    assert str(parse_address(text)) == text


def test_a_listener_may_leave_out_its_host() -> None:
    assert parse_listen_address(":80") == Address("", 80)
    assert parse_listen_address("[::1]:0") == Address("::1", 0)
    with pytest.raises(AddressError, match="not a number"):
        parse_listen_address(":x")
