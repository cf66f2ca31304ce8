"""Clocks: whether this host's is kept right, and how far another's is away."""

import ctypes
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from tunneld.doctor.finding import Finding, failed, noted, passed, warned

_UNSYNCHRONISED = 0x40
"""STA_UNSYNC of adjtimex(2)."""
_ADVICE = "keep the clock right: timedatectl set-ntp true, or chrony"

SLIGHT = timedelta(seconds=10)
GRAVE = timedelta(minutes=5)
"""From which on certificates and tokens that are new somewhere are not valid yet elsewhere."""


class _Timex(ctypes.Structure):
    """The beginning of ``struct timex``, and more room than the rest takes."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def synchronised() -> bool:
    """Whether the kernel has been told lately that its clock is right; changes nothing.

    Raises:
      OSError: it does not say.
    """
    state = _Timex()
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return not state.status & _UNSYNCHRONISED


def check_clock() -> Iterator[Finding]:
    """Whether something keeps this host's clock right."""
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    try:
        kept = synchronised()
    except (OSError, AttributeError) as exc:  # AttributeError: a C library without it
        yield noted("clock", f"{now}; the kernel does not say whether it is kept right: {exc}")
        return
    if kept:
        yield passed("clock", f"{now}, synchronised")
    else:
        yield warned("clock", f"{now}, not synchronised by NTP", _ADVICE)


def skew(check: str, whose: str, date: str, now: float | None = None) -> Finding:
    """How far another clock is away.

    Args:
      date: as an HTTP header has it, to the second; what it took to come here counts as nothing.
      now: Unix time when it came; None is now.
    """
    try:
        there = parsedate_to_datetime(date)
    except ValueError:
        return noted(check, f"{whose} says its time as {date[:40]!r}, which cannot be read")
    here = datetime.fromtimestamp(time.time() if now is None else now, UTC)
    if there.tzinfo is None:
        there = there.replace(tzinfo=UTC)
    away = here - there
    seconds = round(abs(away).total_seconds())
    if abs(away) <= SLIGHT:
        return passed(check, f"{whose} has the same time, within {max(1, seconds)} s")
    text = f"this clock is {seconds} s {'ahead of' if away > timedelta() else 'behind'} {whose}'s"
    if abs(away) < GRAVE:
        return warned(check, text, _ADVICE)
    return failed(
        check, text, f"{_ADVICE}: certificates and tokens fail before or after their time"
    )
