"""What an agent claims to reach, and how exactly."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneld.identifiers import parse_identifiers
from tunneld.server.claims import DEFAULT_ROUTE, EXACT, NOTHING, Claims, as_address, normal_name


def rank(identifiers: str, host: str) -> int:
    return Claims(parse_identifiers(identifiers)).rank(normal_name(host), as_address(host))


@pytest.mark.parametrize(
    ("identifiers", "host", "expected"),
    [
        ("", "a.example", NOTHING),
        ("host=a.example", "a.example", EXACT),
        ("host=A.Example.", "a.EXAMPLE", EXACT),
        ("host=a.example", "b.a.example", NOTHING),
        ("host=10.0.0.1", "10.0.0.1", EXACT),
        ("ipv4=10.0.0.1", "10.0.0.1", EXACT),
        ("ipv4=10.0.0.1", "::ffff:10.0.0.1", EXACT),
        ("ipv6=fd00::1", "fd00:0:0::1", EXACT),
        ("cidr=10.0.0.0/8", "10.1.2.3", 8),
        ("cidr=10.0.0.0/8&cidr=10.1.0.0/16", "10.1.2.3", 16),
        ("cidr=fd00::/64", "fd00::5", 64),
        ("cidr=10.0.0.0/8", "fd00::5", NOTHING),
        ("cidr=0.0.0.0/0", "a.example", NOTHING),
        ("default-route=true", "a.example", DEFAULT_ROUTE),
        ("default-route=true&cidr=10.0.0.0/8", "11.0.0.1", DEFAULT_ROUTE),
        ("default-route=false", "a.example", NOTHING),
    ],
)
def test_the_most_exact_claim_counts(identifiers: str, host: str, expected: int) -> None:
    assert rank(identifiers, host) == expected


@given(
    st.lists(st.tuples(st.ip_addresses(), st.integers(0, 128)), max_size=20),
    st.data(),
)
def test_the_longest_prefix_is_found_among_many(
    networks: list[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]], data: st.DataObject
) -> None:
    texts = [f"{address}/{min(length, address.max_prefixlen)}" for address, length in networks]
    near = st.sampled_from([address for address, _ in networks]) if networks else st.nothing()
    address = as_address(str(data.draw(near | st.ip_addresses())))
    assert address is not None
    parsed = [ipaddress.ip_network(text, strict=False) for text in texts]
    expected = max((each.prefixlen for each in parsed if address in each), default=NOTHING)
    assert Claims({"cidr": texts}).rank("", address) == expected


def test_an_exact_address_goes_before_any_prefix() -> None:
    assert rank("ipv6=fd00::1", "fd00::1") > rank("cidr=fd00::1/128", "fd00::1")
