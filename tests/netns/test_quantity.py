"""Rates, delays and losses as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns.errors import TopologyError
from netns.quantity import (
    MAX_DELAY,
    MAX_RATE,
    MIN_RATE,
    format_delay,
    format_loss,
    format_rate,
    parse_delay,
    parse_loss,
    parse_rate,
)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("8kbit", 8_000), ("1.5 mbit", 1_500_000), ("10Mbit", 10**7), ("32gbit", 32 * 10**9)],
)
def test_rate_is_bits_a_second(text: str, rate: int) -> None:
    assert parse_rate("rate", text) == rate


@pytest.mark.parametrize(("text", "delay"), [("20ms", 0.02), ("1us", 1e-6), ("1.5s", 1.5)])
def test_delay_is_seconds(text: str, delay: float) -> None:
    assert parse_delay("delay", text) == delay


@pytest.mark.parametrize(
    "text", ["", "100", "mbit", "1 mbyte", "-1mbit", "7kbit", "33gbit", "1e6bit"]
)
def test_rate_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(TopologyError, match=r"^rate: "):
        parse_rate("rate", text)


@pytest.mark.parametrize("text", ["20", "0ms", "61s", "0.1us", "1h"])
def test_delay_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(TopologyError, match=r"^delay: "):
        parse_delay("delay", text)


@pytest.mark.parametrize("text", ["5", "0%", "101%", "-1%"])
def test_loss_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(TopologyError, match=r"^loss: "):
        parse_loss("loss", text)


@given(st.integers(MIN_RATE, MAX_RATE))
def test_rate_round_trips(rate: int) -> None:
    assert parse_rate("", format_rate(rate)) == rate


@given(st.integers(1, int(MAX_DELAY * 1e6)))
def test_delay_round_trips(micros: int) -> None:
    delay = round(micros * 1e-6, 6)
    assert parse_delay("", format_delay(delay)) == delay


@given(st.integers(1, 1000))
def test_loss_round_trips(tenths: int) -> None:
    loss = parse_loss("", f"{tenths / 10}%")
    assert parse_loss("", format_loss(loss)) == loss
