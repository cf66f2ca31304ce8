"""Rates and stalls, by the clock of the test."""

from typing import cast

import pytest

from tunneld.meter import Meter, Rates
from tunneld.relay import Relay


class Side:
    def __init__(self) -> None:
        self.carried = 0
        self.waits = False


class Ends:
    def __init__(self) -> None:
        self.ends = (Side(), Side())


@pytest.fixture
def ends() -> Ends:
    return Ends()


def look(meter: Meter, now: float, octets: tuple[int, int], ends: Ends | None = None) -> None:
    meter.look(now, octets, cast(Relay, ends) if ends else None)


def test_a_young_connection_has_the_rate_of_its_whole_life() -> None:
    meter = Meter(10.0)
    assert meter.rates(10.0, (5, 5)) == Rates(0, 0)
    assert meter.rates(10.5, (50, 100)) == Rates(100, 200)


def test_a_rate_is_that_of_the_last_seconds() -> None:
    meter = Meter(0.0)
    for second in range(1, 11):
        look(meter, second, (second * 1000, 0))
    assert meter.rates(10.0, (10_000, 0)) == Rates(1000, 0)
    for second in range(11, 16):
        look(meter, second, (10_000, second))
    assert meter.rates(15.0, (10_000, 15)) == Rates(0, 1)


def test_an_end_that_takes_nothing_while_octets_wait_is_stalled(ends: Ends) -> None:
    meter = Meter(0.0)
    ends.ends[1].waits = True
    for second in (1, 2, 3):
        look(meter, second, (0, 0), ends)
    stall = meter.stall(3.5)
    assert stall is not None
    assert (stall.end, stall.seconds) == (1, 2.5)
    ends.ends[1].carried += 1
    look(meter, 4, (0, 0), ends)
    assert meter.stall(4.5) is None


def test_an_end_with_nothing_to_take_is_not_stalled(ends: Ends) -> None:
    meter = Meter(0.0)
    for second in (1, 2, 3):
        look(meter, second, (0, 0), ends)
    assert meter.stall(100) is None


def test_of_two_stalls_the_longer_counts(ends: Ends) -> None:
    meter = Meter(0.0)
    ends.ends[0].waits = True
    look(meter, 1, (0, 0), ends)
    ends.ends[1].waits = True
    look(meter, 2, (0, 0), ends)
    stall = meter.stall(9)
    assert stall is not None
    assert (stall.end, stall.seconds) == (0, 8)
