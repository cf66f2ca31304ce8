"""Clocks that agree, and that do not."""

from email.utils import formatdate

import pytest

from tests.tunneld.doctor.samples import only
from tunneld.doctor.clock import check_clock, skew, synchronised

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("away", "verdict", "words"),
    [
        (0, "pass", "same time"),
        (-9, "pass", "same time"),
        (60, "warn", "60 s behind the server's"),
        (-60, "warn", "60 s ahead of the server's"),
        (3600, "fail", "3600 s behind"),
        (-3600, "fail", "3600 s ahead"),
    ],
)
def test_clocks_are_compared(away: float, verdict: str, words: str) -> None:
    found = skew("clock skew", "the server", formatdate(NOW + away, usegmt=True), NOW)
    assert (str(found.verdict), words in found.detail) == (verdict, True)


@pytest.mark.parametrize("date", ["", "yesterday", "Fri, 99 Nov 2026 09:00:00 GMT"])
def test_a_date_that_is_none_is_noted(date: str) -> None:
    assert str(skew("clock skew", "the server", date, NOW).verdict) == "info"


def test_the_kernel_says_whether_this_clock_is_kept_right() -> None:
    found = only(check_clock())
    assert str(found.verdict) == ("pass" if synchronised() else "warn")
