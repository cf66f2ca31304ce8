"""A rate with bursts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneld.tokenbucket import TokenBucket


def test_there_are_as_many_as_the_burst_at_once_and_the_rate_after_that() -> None:
    bucket = TokenBucket(10, 3, now=5.0)
    assert [bucket.take(5.0) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(5.0) == pytest.approx(0.1)
    assert bucket.take(5.05) == pytest.approx(0.05)
    assert bucket.take(5.1001) == 0
    assert bucket.take(5.1001) > 0


def test_quiet_time_fills_it_up_to_the_burst() -> None:
    bucket = TokenBucket(10, 3, now=0.0)
    for _ in range(3):
        bucket.take(0.0)
    assert not bucket.is_full(0.1)
    assert bucket.is_full(1000.0)
    assert bucket.left(1000.0) == 3


def test_a_debt_is_paid_before_anything_else() -> None:
    bucket = TokenBucket(10, 3, now=0.0)
    bucket.spend(13)
    assert bucket.left(0.5) == pytest.approx(-5)
    assert bucket.take(0.5) == pytest.approx(0.6)


def test_another_rate_counts_from_when_it_is_said() -> None:
    bucket = TokenBucket(1, 10, now=0.0)
    bucket.spend(10)
    bucket.change(100, 5, now=2.0)
    assert bucket.left(2.0) == pytest.approx(2)
    assert bucket.left(10.0) == 5


def test_a_clock_that_goes_back_takes_nothing_away() -> None:
    bucket = TokenBucket(1, 2, now=10.0)
    assert bucket.take(9.0) == 0
    assert bucket.take(8.0) == 0
    assert bucket.take(10.0) == 1


@given(st.floats(0.1, 1000), st.integers(1, 50), st.lists(st.floats(0, 2), max_size=200))
def test_never_more_than_the_burst_and_the_rate_over_the_time(
    rate: float, burst: int, gaps: list[float]
) -> None:
    bucket, now, taken = TokenBucket(rate, burst, now=0.0), 0.0, 0
    for gap in gaps:
        now += gap
        taken += bucket.take(now) == 0
    assert taken <= burst + rate * now + 1e-6
