import pytest

from tunneld.address import Address, AddressError, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("2.2.2.2:8090", Address("2.2.2.2", 8090)),
        ("edge.example.org:1", Address("edge.example.org", 1)),
        ("[::1]:65535", Address("::1", 65535)),
        ("[fe80::1%eth0]:22", Address("fe80::1%eth0", 22)),
    ],
)
def test_an_address_is_read_and_written_back(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("host", "has no port"),
        ("", "has no port"),
        (":80", "has no host"),
        ("[]:80", "has no host"),
        ("::1:80", "too many colons"),
        ("a:b:80", "too many colons"),
        ("host:http", "expected a number"),
        ("host:", "expected a number"),
        ("host:-1", "expected a number"),
        ("host:²", "expected a number"),
        ("host:0", "out of range 1-65535"),
        ("host:70000", "out of range 1-65535"),
        ("host:000080", "out of range"),
        ("a b:80", "space"),
        ("a/b:80", "slash"),
        ("a\n:80", "space"),
        (f"{'x' * 300}:80", "host of 300 characters, limit 255"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(AddressError, match=says):
        parse_address(text)


def test_a_listener_may_leave_the_port_to_the_kernel() -> None:
    assert parse_address("127.0.0.1:0", lowest_port=0) == Address("127.0.0.1", 0)
