"""Messages of SOCKS5, octet by octet as the RFCs have them."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneld.socks5 import (
    SOCKS4_REFUSED,
    Login,
    Reply,
    SocksError,
    parse_greeting,
    parse_login,
    parse_request,
)

Parser = Callable[[bytes], tuple[Any, int] | None]


def name_request(name: bytes, command: int = 1, port: int = 80) -> bytes:
    return bytes([5, command, 0, 3, len(name)]) + name + port.to_bytes(2, "big")


@pytest.mark.parametrize(
    ("parse", "octets", "message"),
    [
        (parse_greeting, b"\x05\x01\x00", frozenset({0})),
        (parse_greeting, b"\x05\x02\x00\x02", frozenset({0, 2})),
        (parse_greeting, b"\x05\x00", frozenset()),
        (parse_login, b"\x01\x05alice\x06sesame", Login("alice", "sesame")),
        (parse_login, b"\x01\x00\x00", Login("", "")),
        (parse_login, b"\x01\x02\xc3\xa9\x01\xff", Login("é", "\udcff")),
        (parse_request, b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50", "127.0.0.1:80"),
        (parse_request, b"\x05\x01\x00\x04" + bytes(15) + b"\x01\x01\xbb", "[::1]:443"),
        (parse_request, name_request(b"db.internal"), "db.internal:80"),
        (parse_request, name_request(b"x" * 255), f"{'x' * 255}:80"),
        (parse_request, name_request(b"::1"), "[::1]:80"),
        (parse_request, name_request(b"127.0.0.1"), "127.0.0.1:80"),
    ],
)
def test_a_message_is_read_however_it_is_cut(parse: Parser, octets: bytes, message: object) -> None:
    assert parse(octets + b"behind") == (message, len(octets))
    assert [parse(octets[:size]) for size in range(len(octets))] == [None] * len(octets)


@pytest.mark.parametrize(
    ("parse", "octets", "reply", "says"),
    [
        (parse_greeting, b"\x04\x01\x00\x50", SOCKS4_REFUSED, "SOCKS version 4, expected 5"),
        (parse_greeting, b"\x06", b"", "version 6, expected 5"),
        (parse_login, b"\x05\x01", b"", "version 5, expected 1"),
        (parse_request, b"\x04", b"", "version 4, expected 5"),
        (parse_request, name_request(b"a", 2), Reply.COMMAND_NOT_SUPPORTED.encode(), "BIND is not"),
        (
            parse_request,
            name_request(b"a", 3),
            Reply.COMMAND_NOT_SUPPORTED.encode(),
            "UDP ASSOCIATE is not served",
        ),
        (parse_request, name_request(b"a", 9), Reply.COMMAND_NOT_SUPPORTED.encode(), "command 9"),
        (parse_request, b"\x05\x01\x00\x02x", Reply.ADDRESS_NOT_SUPPORTED.encode(), "address type"),
        (parse_request, name_request(b"a b"), Reply.FAILED.encode(), "b'a b' is no name"),
        (parse_request, name_request(b"a:80"), Reply.FAILED.encode(), "b'a:80' is no name"),
        (parse_request, name_request(b"[::1]"), Reply.FAILED.encode(), "is no name"),
        (parse_request, name_request(b"\xff"), Reply.FAILED.encode(), "is no name"),
        (parse_request, name_request(b"u@a"), Reply.FAILED.encode(), "is no name"),
        (parse_request, name_request(b"fe80::1%\x01\n"), Reply.FAILED.encode(), "is no name"),
    ],
)
def test_what_cannot_be_served_is_told(
    parse: Parser, octets: bytes, reply: bytes, says: str
) -> None:
    with pytest.raises(SocksError) as caught:
        parse(octets)
    assert caught.value.reply == reply
    assert says in str(caught.value)


def test_a_reply_has_an_address_of_zeros() -> None:
    assert Reply.SUCCEEDED.encode() == b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
    assert Reply.REFUSED.encode()[1] == 5


@pytest.mark.parametrize("parse", [parse_greeting, parse_login, parse_request])
@given(octets=st.binary(max_size=600))
def test_any_octets_are_a_message_half_of_one_or_refused(parse: Parser, octets: bytes) -> None:
    try:
        found = parse(octets)
    except SocksError:
        return
    if found is None:
        assert len(octets) < 513
    else:
        assert found[1] <= len(octets)
