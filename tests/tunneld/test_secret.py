"""Lines of a file of secrets."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneld.secret import (
    PasswordHash,
    Secret,
    SecretError,
    TokenHash,
    of_password,
    of_token,
    parse_line,
    parse_time,
)
from tunneld.tokenproof import stored_key

END = datetime(2027, 1, 31, 12, tzinfo=UTC)
CHEAP = PasswordHash.of("open sesame", (16, 1, 1))


def test_a_token_s_line_holds_a_hash_of_it() -> None:
    secret = of_token("home", "tnl_token")
    assert secret.line() == f"home:token:{stored_key('tnl_token').hex()}"
    assert parse_line(secret.line()) == secret


def test_a_password_s_line_holds_what_it_takes_to_check_it() -> None:
    secret = Secret("alice", CHEAP, END)
    again = parse_line(secret.line())
    assert again == secret
    assert secret.line().endswith(":expires=2027-01-31T12:00:00Z")
    assert isinstance(again.hash, PasswordHash)
    assert again.hash.matches("open sesame")
    assert not again.hash.matches("open sesam")


def test_the_same_password_twice_gives_two_hashes() -> None:
    assert PasswordHash.of("open sesame", (16, 1, 1)) != CHEAP


def test_a_new_password_is_hashed_at_full_cost() -> None:
    secret = of_password("alice", "open sesame")
    assert secret.line().startswith("alice:scrypt:16384:8:5:")


def test_scrypt_is_that_of_the_rfc() -> None:
    """RFC 7914 section 12, the second vector, cut to 32 octets."""
    key = "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
    assert PasswordHash(1024, 8, 16, b"NaCl", bytes.fromhex(key)).matches("password")


def test_a_secret_ends_when_its_time_has_come() -> None:
    secret = of_token("home", "t", END)
    assert not secret.has_expired(END.timestamp() - 1)
    assert secret.has_expired(END.timestamp())
    assert not of_token("home", "t").has_expired(1e12)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2027-01-31T12:00:00Z", END),
        ("2027-01-31T13:00:00+01:00", END.astimezone(timezone(timedelta(hours=1)))),
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
    ],
)
def test_times_are_those_of_rfc_3339_or_dates(text: str, time: datetime) -> None:
    assert parse_time(text) == time


HASH = "0" * 64


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("home", "'' is no kind of secret, expected token or scrypt"),
        ("home:md5:00", "'md5' is no kind of secret"),
        (f"a b:token:{HASH}", "'a b' is no name of a secret"),
        (f":token:{HASH}", "'' is no name of a secret"),
        (f"{'x' * 254}:token:{HASH}", "is no name of a secret"),
        ("home:token:", "lower-case hexadecimal"),
        ("home:token:" + "0" * 62, "a token's hash has 32 octets, got 31"),
        ("home:token:" + "X" * 64, "lower-case hexadecimal"),
        (f"home:token:{HASH}:ends=x", "unknown option 'ends', expected expires=TIME"),
        (f"home:token:{HASH}:expires=soon", "'soon' is no time"),
        ("home:scrypt:2:1:1:00", "a scrypt secret has 5 fields behind its kind, got 4"),
        (f"home:scrypt:a:1:1:{HASH}:{HASH}", "must be numbers"),
        (f"home:scrypt:3:1:1:{HASH}:{HASH}", "N must be a power of 2"),
        (f"home:scrypt:1048576:8:1:{HASH}:{HASH}", "128*N*R at most 67108864"),
        (f"home:scrypt:16:1:99:{HASH}:{HASH}", "P at most 64"),
        (f"home:scrypt:16:0:1:{HASH}:{HASH}", "N must be a power of 2"),
    ],
)
def test_a_line_that_is_no_secret_is_refused_with_the_reason(line: str, says: str) -> None:
    with pytest.raises(SecretError, match=re.escape(says)):
        parse_line(line)


@given(st.text(max_size=120))
def test_any_line_is_parsed_or_refused(line: str) -> None:
    try:
        secret = parse_line(line)
    except SecretError:
        return
    assert parse_line(secret.line()) == secret


@given(st.binary(min_size=32, max_size=32), st.one_of(st.none(), st.just(END)))
def test_what_is_written_is_read(stored: bytes, expires: datetime | None) -> None:
    secret = Secret("home", TokenHash(stored), expires)
    assert parse_line(secret.line()) == secret
