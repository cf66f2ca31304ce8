import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frames.grpcstatus import GrpcError, Status
from frames.grpctimeout import format_timeout, parse_timeout


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"2H", 7200),
        (b"3M", 180),
        (b"10S", 10),
        (b"1500m", 1.5),
        (b"250u", 0.00025),
        (b"7n", 7e-9),
        (b"0n", 0),
        (b"00000010S", 10),
        (b"99999999H", 99_999_999 * 3600),
    ],
)
def test_every_unit_is_understood(value: bytes, seconds: float) -> None:
    assert parse_timeout(value) == seconds


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"", 'timeout string is too short: ""'),
        (b"S", 'timeout string is too short: "S"'),
        (b"123456789S", 'timeout string is too long: "123456789S"'),
        (b"10s", 'timeout unit is not recognized: "10s"'),
        (b"10", 'timeout unit is not recognized: "10"'),
        (b"-1S", 'timeout is not a number: "-1S"'),
        (b"1.5S", 'timeout is not a number: "1.5S"'),
        (b" 1S", 'timeout is not a number: " 1S"'),
        (b"\xb2S", r'timeout is not a number: "\\xb2S"'),
    ],
)
def test_what_is_no_timeout_is_a_bad_request(value: bytes, text: str) -> None:
    with pytest.raises(GrpcError) as caught:
        parse_timeout(value)
    assert caught.value.message == f"malformed grpc-timeout: transport: {text}"
    assert (caught.value.status, caught.value.http_status) == (Status.INTERNAL, 400)


@pytest.mark.parametrize(
    ("seconds", "value"),
    [
        (-1, b"0n"),
        (0, b"0n"),
        (1e-12, b"1n"),
        (0.05, b"50000000n"),
        (0.1, b"100000u"),
        (30, b"30000000u"),
        (100, b"100000m"),
        (100_000, b"100000S"),
        (100_000_000, b"1666667M"),
        (6_000_000_000, b"1666667H"),
        (1e300, b"99999999H"),
        (math.inf, b"99999999H"),
    ],
)
def test_the_finest_unit_that_holds_is_taken(seconds: float, value: bytes) -> None:
    assert format_timeout(seconds) == value


@given(st.floats(1e-9, 3.5e11))
def test_a_timeout_arrives_as_it_was_but_for_its_rounding(seconds: float) -> None:
    value = format_timeout(seconds)
    assert len(value) <= 9
    parsed = parse_timeout(value)
    assert parsed >= seconds - 5e-10 or parsed == pytest.approx(seconds, rel=1e-15)
    assert parsed <= seconds * (1 + 1e-5) + 1e-9


@given(st.binary(max_size=12))
def test_any_octets_are_a_timeout_or_an_error(value: bytes) -> None:
    try:
        assert parse_timeout(value) >= 0
    except GrpcError:
        pass
