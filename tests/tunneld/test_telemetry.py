"""Histograms, seconds of stalls, and what telemetry objects start with."""

import subprocess
import sys
from collections import Counter
from dataclasses import fields

import pytest

from tunneld.telemetry import (
    CONNECT,
    PROXY,
    AgentTelemetry,
    Histogram,
    Histograms,
    ServerTelemetry,
    Stalls,
)


class Clock:
    """Time that tests set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_histogram_counts_each_value_in_one_bucket_whose_bound_is_inclusive() -> None:
    histogram = Histogram([1, 5])
    for value in (0, 0.5, 1, 1.01, 5, 5.01, 1000):
        histogram.observe(value)
    assert histogram.counts == [3, 2, 2]
    assert histogram.sum == pytest.approx(1012.52)


def test_histogram_of_a_label_is_made_when_it_is_first_asked_for() -> None:
    histograms = Histograms([1.0])
    histograms["200"].observe(0.5)
    histograms["200"].observe(2)
    histograms["404"].observe(2)
    assert {code: each.counts for code, each in histograms.items()} == {
        "200": [1, 1],
        "404": [0, 1],
    }


def test_stalls_count_seconds_while_they_last_and_each_on_its_own() -> None:
    clock = Clock()
    stalls = Stalls(clock)
    clock.now += 10
    stalls.begin()
    clock.now += 2
    assert (stalls.count, stalls.seconds()) == (1, 2)
    stalls.begin()
    clock.now += 3
    assert (stalls.count, stalls.seconds()) == (2, 8)
    stalls.end()
    clock.now += 1
    stalls.end()
    clock.now += 50
    assert (stalls.count, stalls.seconds()) == (0, 9)


@pytest.mark.parametrize("kind", [ServerTelemetry, AgentTelemetry])
def test_everything_starts_at_zero(kind: type[ServerTelemetry | AgentTelemetry]) -> None:
    telemetry = kind()
    for field in fields(telemetry):
        match getattr(telemetry, field.name):
            case int() as number:
                assert number == 0
            case dict() as numbers:
                assert not any(numbers.values())
            case Histogram() as histogram:
                assert (sum(histogram.counts), histogram.sum) == (0, 0)
            case Stalls() as stalls:
                assert (stalls.count, stalls.seconds()) == (0, 0)
            case backends:
                assert backends() == {}


@pytest.mark.parametrize("kind", [ServerTelemetry, AgentTelemetry])
def test_two_telemetry_objects_share_nothing_that_changes(
    kind: type[ServerTelemetry | AgentTelemetry],
) -> None:
    one, other = kind(), kind()
    for field in fields(one):
        value = getattr(one, field.name)
        if isinstance(value, (Counter, dict, Histogram, Stalls)):
            assert value is not getattr(other, field.name)


def test_attributes_that_do_not_exist_are_refused() -> None:
    """A misspelt name would count for nothing."""
    with pytest.raises(AttributeError):
        ServerTelemetry().http_connection = 1  # type: ignore[attr-defined]


def test_both_service_methods_are_known_from_the_start() -> None:
    telemetry = ServerTelemetry()
    telemetry.grpc_connections[PROXY] += 1
    telemetry.full_receive_channels[CONNECT] += 1
    assert telemetry.grpc_connections == {"Proxy": 1, "Connect": 0}
    assert telemetry.full_receive_channels == {"Proxy": 0, "Connect": 1}


def test_counting_does_not_need_prometheus() -> None:
    script = "import sys, tunneld.telemetry; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
