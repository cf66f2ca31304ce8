"""Headers of the PROXY protocol, version 2, as HAProxy's text has them."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneld.proxyprotocol import (
    SIGNATURE,
    Endpoint,
    ProxyHeader,
    ProxyProtocolError,
    Tls,
    parse_header,
)

FOUR = (
    Endpoint(ipaddress.ip_address("203.0.113.7"), 40000),
    Endpoint(ipaddress.ip_address("198.51.100.1"), 443),
)
SIX = (
    Endpoint(ipaddress.ip_address("2001:db8::7"), 40000),
    Endpoint(ipaddress.ip_address("2001:db8::1"), 443),
)

headers = st.builds(
    ProxyHeader,
    addresses=st.sampled_from([None, FOUR, SIX]),
    authority=st.text("abc.", max_size=253),
    unique_id=st.text("abc-1", max_size=32),
    tls=st.one_of(
        st.none(),
        st.builds(Tls, st.sampled_from(["TLSv1.3", ""]), st.booleans(), st.text("ab ", max_size=9)),
    ),
)


def test_ipv4_is_as_in_the_specification() -> None:
    octets = ProxyHeader(FOUR).encode()
    assert octets == bytes.fromhex(
        "0d0a0d0a000d0a515549540a"  # signature
        "21"  # version 2, PROXY
        "11"  # AF_INET, STREAM
        "000c"
        "cb007107 c6336401 9c40 01bb"
    )


def test_ipv6_is_as_in_the_specification() -> None:
    octets = ProxyHeader(SIX).encode()
    assert octets[12:16] == bytes([0x21, 0x21, 0, 36])
    assert octets[16:48] == SIX[0].address.packed + SIX[1].address.packed


def test_ipv4_beside_ipv6_is_mapped() -> None:
    found = parse_header(ProxyHeader((FOUR[0], SIX[1])).encode())
    assert found is not None
    assert found[0].addresses == (
        Endpoint(ipaddress.ip_address("::ffff:203.0.113.7"), 40000),
        SIX[1],
    )


def test_without_addresses_it_is_local() -> None:
    assert ProxyHeader().encode() == SIGNATURE + bytes([0x20, 0x00, 0, 0])


def test_tls_says_whether_a_certificate_was_verified_and_whose() -> None:
    octets = ProxyHeader(tls=Tls("TLSv1.3", True, "alice")).encode()
    assert octets[16:] == bytes.fromhex(
        "20 0017"  # PP2_TYPE_SSL
        "07 00000000"  # over TLS, with a certificate on this connection; verified
        "21 0007 544c5376312e33"
        "22 0005 616c696365"
    )
    without = ProxyHeader(tls=Tls("TLSv1.3", False)).encode()
    assert without[19:24] == bytes.fromhex("01 00000001")


def test_values_are_cut_to_what_the_specification_allows() -> None:
    found = parse_header(ProxyHeader(authority="a" * 5000, unique_id="b" * 200).encode())
    assert found is not None
    assert (len(found[0].authority), len(found[0].unique_id)) == (1024, 128)


@given(headers)
def test_what_is_written_is_read(header: ProxyHeader) -> None:
    octets = header.encode()
    found = parse_header(octets + b"more")
    assert found is not None
    assert found[1] == len(octets)
    assert found[0].encode() == octets


@given(headers, st.data())
def test_half_a_header_wants_the_rest(header: ProxyHeader, data: st.DataObject) -> None:
    octets = header.encode()
    assert parse_header(octets[: data.draw(st.integers(0, len(octets) - 1))]) is None


@pytest.mark.parametrize(
    "octets",
    [
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        SIGNATURE + b"\x11\x11\x00\x00",
        SIGNATURE + b"\x21\x11\x00\x04abcd",
        SIGNATURE + b"\x20\x00\x00\x02\x01\x00",
        SIGNATURE + b"\x20\x00\x00\x04\x01\x00\x09x",
        SIGNATURE + b"\x20\x00\x00\x04\x20\x00\x01x",
    ],
)
def test_what_is_no_header_is_refused(octets: bytes) -> None:
    with pytest.raises(ProxyProtocolError):
        parse_header(octets)


@given(st.binary(max_size=64))
def test_any_octets_are_parsed_or_refused(body: bytes) -> None:
    octets = SIGNATURE + b"\x21\x11" + len(body).to_bytes(2, "big") + body
    try:
        found = parse_header(octets)
    except ProxyProtocolError:
        return
    assert found is not None
    assert found[1] == len(octets)
