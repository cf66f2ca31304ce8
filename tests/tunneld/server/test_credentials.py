"""What `proxy-authorization` may say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneld.server.credentials import Basic, Bearer, parse_credentials


@pytest.mark.parametrize(
    ("value", "credentials"),
    [
        (b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Basic("Aladdin", "open sesame")),  # RFC 7617
        (b"basic  dGVzdDoxMjPCow== ", Basic("test", "123£")),
        (b"Basic YTpiOmM=", Basic("a", "b:c")),
        (b"Basic Ojo=", Basic("", ":")),
        (b"Bearer mF_9.B5f-4.1JqM", Bearer("mF_9.B5f-4.1JqM")),  # RFC 6750
        (b"BEARER x", Bearer("x")),
        (b"Bearer", None),
        (b"Basic QWxhZGRpbg==", None),
        (b"Basic !", None),
        (b"Basic", None),
        (b"Digest username=x", None),
        (b"", None),
    ],
)
def test_a_value_is_understood_or_nothing(value: bytes, credentials: object) -> None:
    assert parse_credentials([value]) == credentials


def test_two_values_say_nothing() -> None:
    assert parse_credentials([b"Bearer x", b"Bearer x"]) is None
    assert parse_credentials([]) is None


def test_credentials_do_not_show_in_logs() -> None:
    assert "sesame" not in repr([Basic("Aladdin", "sesame"), Bearer("sesame")])


@given(st.binary(max_size=100))
def test_any_octets_are_understood_or_nothing(value: bytes) -> None:
    parse_credentials([value])
    parse_credentials([b"Basic " + value])
