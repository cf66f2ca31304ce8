"""Durations as Go's package time writes them (``1h0m0s``, ``1.5s``, ``100ms``), in nanoseconds."""

import re
from typing import NoReturn, TypeAlias

from tunneld.dropin.govalues import BadValueError

Nanoseconds: TypeAlias = int
"""As Go's `time.Duration`: a signed integer of 64 bits."""

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

_UNITS = {
    "ns": 1,
    "us": MICROSECOND,
    "\N{MICRO SIGN}s": MICROSECOND,
    "\N{GREEK SMALL LETTER MU}s": MICROSECOND,
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
}
_LIMIT = 1 << 63
_DIGITS = 19
"""Of `_LIMIT`; and more than the hour, the largest unit, has nanoseconds."""
_SCALE: int = 10**_DIGITS
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)")


def seconds(duration: Nanoseconds) -> float:
    """In seconds, as the rest of the program counts time."""
    return duration / SECOND


def parse_duration(text: str) -> Nanoseconds:
    """Read a duration: a sign, then numbers with a unit each; ``0`` alone needs none.

    Raises:
      BadValueError: with Go's text.
    Source: Go's `time.ParseDuration`.
    """
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    total, position = 0, 0
    while position < len(rest) or not rest:
        match = _PART.match(rest, position)
        assert match is not None  # it matches nothing at least
        total += _part(match, text)
        position = match.end()
    if text.startswith("-"):
        total = -total
    if not -_LIMIT <= total < _LIMIT:
        _refuse("invalid duration", text)
    return total


def _part(match: re.Match[str], text: str) -> Nanoseconds:
    whole, fraction, name = match[1], match[2] or "", match[3]
    if not whole and not fraction:
        _refuse("invalid duration", text)
    if not name:
        _refuse("missing unit in duration", text)
    unit = _UNITS.get(name)
    if unit is None:
        _refuse(f"unknown unit {_quote(name)} in duration", text)
    whole = whole.lstrip("0") or "0"
    if len(whole) > _DIGITS or int(whole) * unit > _LIMIT:
        _refuse("invalid duration", text)
    numerator = f"{fraction[:_DIGITS]:0<{_DIGITS}}"
    return int(whole) * unit + int(numerator) * unit // _SCALE


def format_duration(duration: Nanoseconds) -> str:
    """As Go's `Duration.String`: ``1h0m0s``, ``1.5s``, ``100ms``, ``0s``."""
    sign, size = ("-", -duration) if duration < 0 else ("", duration)
    if size < SECOND:
        return sign + _below_second(size)
    minutes, rest = divmod(size, MINUTE)
    hours, minutes = divmod(minutes, 60)
    text = _decimal(rest, SECOND) + "s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else sign + text


def _below_second(size: Nanoseconds) -> str:
    if size == 0:
        return "0s"
    if size < MICROSECOND:
        return f"{size}ns"
    if size < MILLISECOND:
        return _decimal(size, MICROSECOND) + "\N{MICRO SIGN}s"
    return _decimal(size, MILLISECOND) + "ms"


def _decimal(size: Nanoseconds, unit: int) -> str:
    """``size`` in ``unit``s, without trailing zeros."""
    whole, rest = divmod(size, unit)
    fraction = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0")
    return f"{whole}.{fraction}" if fraction else str(whole)


def _refuse(problem: str, text: str) -> NoReturn:
    raise BadValueError(f"time: {problem} {_quote(text)}")


def _quote(text: str) -> str:
    """In double quotes, as package time does it: ASCII only."""
    octets = text.encode("utf-8", "surrogateescape")
    return '"' + "".join(map(_quoted, octets)) + '"'


def _quoted(octet: int) -> str:
    if not 0x20 <= octet < 0x80:
        return f"\\x{octet:02x}"
    return f"\\{octet:c}" if octet in b'"\\' else chr(octet)
