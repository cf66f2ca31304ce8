"""No check harms another: not one that hangs, not one that crashes."""

import threading
from collections.abc import Iterator

import pytest

from tunneld.doctor.finding import Finding, passed
from tunneld.doctor.running import Check, in_time, run_checks


def good() -> Iterator[Finding]:
    yield passed("good", "fine")


def test_findings_come_in_the_order_of_the_checks_with_their_subjects() -> None:
    first_may_end = threading.Event()

    def first() -> Iterator[Finding]:
        assert first_may_end.wait(10)
        yield passed("first", "")

    def second() -> Iterator[Finding]:
        first_may_end.set()
        yield passed("second", "")

    found = list(run_checks([Check("first", "a", first), Check("second", "b", second)]))
    assert [(each.check, each.subject) for each in found] == [("first", "a"), ("second", "b")]


def test_a_check_that_crashes_is_a_failure_after_what_it_had_found() -> None:
    def crashes() -> Iterator[Finding]:
        yield passed("one", "")
        raise ZeroDivisionError("nought")

    found = list(run_checks([Check("bad", "x", crashes), Check("good", "x", good)]))
    assert [(each.check, str(each.verdict)) for each in found] == [
        ("one", "pass"),
        ("bad", "fail"),
        ("good", "pass"),
    ]
    assert "ZeroDivisionError: nought" in found[1].detail


def test_a_check_that_hangs_is_given_up() -> None:
    release = threading.Event()

    def hangs() -> Iterator[Finding]:
        yield passed("one", "")
        release.wait()

    found = list(run_checks([Check("slow", "x", hangs), Check("good", "x", good)], patience=0.05))
    release.set()
    assert [(each.check, str(each.verdict)) for each in found] == [
        ("one", "pass"),
        ("slow", "fail"),
        ("good", "pass"),
    ]


def test_what_comes_in_time_is_returned_or_raised() -> None:
    assert in_time(lambda: 7, 10) == 7
    with pytest.raises(ZeroDivisionError):
        in_time(lambda: 1 // 0, 10)


def test_what_does_not_come_in_time_is_left_to_itself() -> None:
    release = threading.Event()
    with pytest.raises(TimeoutError, match=r"no answer in 0\.05 s"):
        in_time(release.wait, 0.05)
    release.set()
