"""Parameters of tbf and netem."""

import pytest

from netns.quantity import MAX_RATE, MIN_RATE
from netns.shaping import netem_parameters, tbf_parameters
from netns.topology import Shape


@pytest.mark.parametrize("rate", [MIN_RATE, 10**6, 10**8, MAX_RATE])
def test_bucket_holds_a_full_packet_and_the_queue_more_than_the_bucket(rate: int) -> None:
    parameters = tbf_parameters(rate)
    assert parameters["rate"] == rate // 8
    assert parameters["burst"] >= 1514
    assert parameters["limit"] >= 2 * parameters["burst"]
    assert max(parameters.values()) < 2**32


def test_netem_counts_in_microseconds_and_percent() -> None:
    parameters = netem_parameters(Shape(delay=0.02, loss=0.005))
    assert (parameters["delay"], parameters["loss"]) == (20_000, 0.5)
