"""Durations as Go's package time has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneld.dropin.duration import HOUR, MINUTE, SECOND, format_duration, parse_duration, seconds
from tunneld.dropin.govalues import BadValueError

LIMIT = (1 << 63) - 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-0", 0),
        ("0s", 0),
        ("5s", 5 * SECOND),
        ("+5s", 5 * SECOND),
        ("-5s", -5 * SECOND),
        ("1h0m0s", HOUR),
        ("1.5h", HOUR + 30 * MINUTE),
        ("1h30m", HOUR + 30 * MINUTE),
        ("100ms", SECOND // 10),
        ("1us", 1000),
        ("1\u00b5s", 1000),
        ("1\u03bcs", 1000),
        ("7ns", 7),
        (".5s", SECOND // 2),
        ("5.s", 5 * SECOND),
        ("3m2s1m", 4 * MINUTE + 2 * SECOND),
        ("0.333333333333333333333h", 1_199_999_999_999),
        ("00000000000000000000000001s", SECOND),
        ("2562047h47m16.854775807s", LIMIT),
        ("-2562047h47m16.854775808s", -LIMIT - 1),
    ],
)
def test_a_duration_is_a_sum_of_numbers_with_units(text: str, value: int) -> None:
    assert parse_duration(text) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        (".s", 'time: invalid duration ".s"'),
        ("s", 'time: invalid duration "s"'),
        ("1h s", 'time: unknown unit "h s" in duration "1h s"'),
        ("5", 'time: missing unit in duration "5"'),
        ("1h5", 'time: missing unit in duration "1h5"'),
        ("1x", 'time: unknown unit "x" in duration "1x"'),
        ("1H", 'time: unknown unit "H" in duration "1H"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("1é", 'time: unknown unit "\\xc3\\xa9" in duration "1\\xc3\\xa9"'),
        ('1"\\', 'time: unknown unit "\\"\\\\" in duration "1\\"\\\\"'),
        ("2562047h47m16.854775808s", 'time: invalid duration "2562047h47m16.854775808s"'),
        ("9" * 30 + "s", f'time: invalid duration "{"9" * 30}s"'),
        ("9" * 9000 + "h", f'time: invalid duration "{"9" * 9000}h"'),
    ],
)
def test_other_texts_are_refused_with_the_words_of_go(text: str, problem: str) -> None:
    with pytest.raises(BadValueError) as caught:
        parse_duration(text)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_100, "1.1\u00b5s"),
        (2_200_000, "2.2ms"),
        (SECOND, "1s"),
        (3_300_000_000, "3.3s"),
        (4 * MINUTE + 5 * SECOND, "4m5s"),
        (HOUR, "1h0m0s"),
        (100 * HOUR + 1, "100h0m0.000000001s"),
        (-SECOND // 2, "-500ms"),
        (LIMIT, "2562047h47m16.854775807s"),
        (-LIMIT - 1, "-2562047h47m16.854775808s"),
    ],
)
def test_a_duration_is_written_as_go_writes_it(value: int, text: str) -> None:
    assert format_duration(value) == text


@given(st.integers(-LIMIT - 1, LIMIT))
def test_a_duration_reads_as_it_is_written(value: int) -> None:
    assert parse_duration(format_duration(value)) == value


def test_seconds_are_what_the_rest_of_the_program_counts_in() -> None:
    assert seconds(1_500_000_000) == 1.5
