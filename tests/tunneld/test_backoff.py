import pytest

from tunneld.backoff import Backoff


def highest(low: float, high: float) -> float:
    assert low == 0
    return high


def test_the_ceiling_doubles_up_to_the_maximum() -> None:
    backoff = Backoff(0.5, 3, highest)
    assert [backoff.next_delay() for _ in range(5)] == [0.5, 1, 2, 3, 3]


def test_reset_starts_over() -> None:
    backoff = Backoff(1, 60, highest)
    assert [backoff.next_delay(), backoff.next_delay()] == [1, 2]
    backoff.reset()
    assert backoff.next_delay() == 1


def test_each_delay_is_drawn_from_the_whole_range() -> None:
    backoff = Backoff(8, 8)
    delays = [backoff.next_delay() for _ in range(2000)]
    assert all(0 <= delay <= 8 for delay in delays)
    assert sum(delays) / len(delays) == pytest.approx(4, abs=0.5)
