"""ICMP echo, bytes only."""

from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from netns.icmp import EchoError, EchoReply, checksum, parse_packet, serialize_request


def ip_packet(body: bytes, sender: str = "10.0.0.1", options: bytes = b"") -> bytes:
    first = 0x40 | (20 + len(options)) // 4
    fixed = bytes([first, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0])
    return fixed + IPv4Address(sender).packed + bytes(4) + options + body


def icmp(kind: int, code: int, rest: bytes) -> bytes:
    plain = bytes([kind, code, 0, 0]) + rest
    return plain[:2] + checksum(plain).to_bytes(2, "big") + plain[4:]


def reply(identifier: int, sequence: int) -> bytes:
    request = serialize_request(identifier, sequence, b"x")
    return icmp(0, 0, request[4:])


def test_checksum_of_the_example_in_rfc_1071() -> None:
    # Section 3: the sum of these octets is ddf2; the checksum is its complement.
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


@given(st.binary(max_size=64), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_request_carries_a_checksum_that_sums_to_zero(
    payload: bytes, identifier: int, sequence: int
) -> None:
    assert checksum(serialize_request(identifier, sequence, payload)) == 0


def test_reply_is_read_with_its_sender() -> None:
    packet = ip_packet(reply(7, 9), "192.0.2.1")
    assert parse_packet(packet) == EchoReply(IPv4Address("192.0.2.1"), 7, 9)


def test_header_options_are_skipped() -> None:
    packet = ip_packet(reply(7, 9), options=bytes(8))
    assert parse_packet(packet) == EchoReply(IPv4Address("10.0.0.1"), 7, 9)


def test_error_tells_whose_request_it_is_about_and_why() -> None:
    cause = ip_packet(serialize_request(7, 9))
    packet = ip_packet(icmp(3, 13, bytes(4) + cause), "10.0.0.254")
    assert parse_packet(packet) == EchoError(
        IPv4Address("10.0.0.254"), 7, 9, "prohibited by a filter"
    )


def test_error_about_something_else_is_ignored() -> None:
    cause = ip_packet(reply(7, 9))
    assert parse_packet(ip_packet(icmp(3, 1, bytes(4) + cause))) is None


def test_wrong_checksum_is_ignored() -> None:
    body = bytearray(reply(7, 9))
    body[-1] ^= 1
    assert parse_packet(ip_packet(bytes(body))) is None


def test_request_of_somebody_else_is_ignored() -> None:
    assert parse_packet(ip_packet(serialize_request(7, 9))) is None


@given(st.binary(max_size=80))
def test_garbage_is_ignored(data: bytes) -> None:
    assert parse_packet(data) is None or checksum(data[(data[0] & 0xF) * 4 :]) == 0


@given(st.integers(0, 60))
def test_cut_packet_is_ignored(size: int) -> None:
    whole = ip_packet(icmp(3, 1, bytes(4) + ip_packet(serialize_request(7, 9))))
    assert parse_packet(whole[:size]) is None or size >= len(whole)
