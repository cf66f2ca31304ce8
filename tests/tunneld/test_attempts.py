"""Guesses of many sources."""

import pytest

from tunneld.attempts import _MAX_SOURCES, BURST, PER_SECOND, Attempts


def test_a_source_has_a_burst_and_gets_some_back() -> None:
    attempts = Attempts()
    assert [attempts.begin("a", 0.0) for _ in range(int(BURST))] == [0.0] * int(BURST)
    assert attempts.begin("a", 0.0) == pytest.approx(1 / PER_SECOND)
    assert attempts.begin("a", 4.0) == pytest.approx(1 / PER_SECOND - 4)
    assert attempts.begin("a", 1 / PER_SECOND) == 0.0
    assert attempts.begin("a", 1 / PER_SECOND) > 0


def test_one_source_takes_nothing_from_another() -> None:
    attempts = Attempts()
    while not attempts.begin("a", 0.0):
        pass
    assert attempts.begin("b", 0.0) == 0.0


def test_right_guesses_cost_nothing() -> None:
    attempts = Attempts()
    for _ in range(1000):
        assert attempts.begin("a", 0.0) == 0.0
        attempts.take_back("a", 0.0)


def test_no_more_than_the_burst_is_kept_for_later() -> None:
    attempts = Attempts()
    attempts.begin("a", 0.0)
    attempts.take_back("a", 0.0)
    allowed = 0
    while not attempts.begin("a", 1e9):
        allowed += 1
    assert allowed == BURST


def test_the_sources_that_are_remembered_are_bounded() -> None:
    attempts = Attempts()
    for number in range(_MAX_SOURCES + 10):
        attempts.begin(str(number), 0.0)
    assert len(attempts._used) == _MAX_SOURCES
    assert "0" not in attempts._used
