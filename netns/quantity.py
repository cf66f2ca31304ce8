"""Rates, delays and losses as people write them: ``100mbit``, ``20ms``, ``0.5%``."""

import re
from collections.abc import Iterable

from netns.errors import TopologyError
from netns.table import text

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zµ%]+)")

RATE_UNITS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
DELAY_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}

MIN_RATE = 8_000
"""Below a kilooctet a second one full packet takes seconds, and tbf's arithmetic loses its use."""
MAX_RATE = 32 * 10**9
"""tbf as pyroute2 sets it up counts octets a second in 32 bits."""
MAX_DELAY = 60.0


def parse_rate(path: str, value: object) -> int:
    """Bits a second.

    Raises:
      TopologyError: no number with a unit, or outside `MIN_RATE` to `MAX_RATE`.
    """
    number, unit = _split(path, value, RATE_UNITS, "100mbit")
    rate = round(number * RATE_UNITS[unit])
    if not MIN_RATE <= rate <= MAX_RATE:
        raise TopologyError(path, f"{value!r} is not between 8kbit and 32gbit")
    return rate


def parse_delay(path: str, value: object) -> float:
    """Seconds, whole microseconds.

    Raises:
      TopologyError: no number with a unit, below 1us or above `MAX_DELAY`.
    """
    number, unit = _split(path, value, DELAY_UNITS, "20ms")
    delay = round(number * DELAY_UNITS[unit], 6)
    if not 1e-6 <= delay <= MAX_DELAY:
        raise TopologyError(path, f"{value!r} is not between 1us and 60s")
    return delay


def parse_loss(path: str, value: object) -> float:
    """A fraction of 1.

    Raises:
      TopologyError: no percentage above 0% and up to 100%.
    """
    number, _ = _split(path, value, {"%": 1}, "0.5%")
    if not 0 < number <= 100:
        raise TopologyError(path, f"{value!r} is not above 0% and up to 100%")
    return number / 100


def format_rate(rate: int) -> str:
    """As `parse_rate` reads it, in the largest unit that keeps it whole."""
    unit = next(unit for unit in reversed(RATE_UNITS) if rate % RATE_UNITS[unit] == 0)
    return f"{rate // RATE_UNITS[unit]}{unit}"


def format_delay(delay: float) -> str:
    """As `parse_delay` reads it."""
    micros = round(delay * 1e6)
    return f"{micros}us" if micros % 1000 else f"{micros // 1000}ms"


def format_loss(loss: float) -> str:
    """As `parse_loss` reads it."""
    return f"{round(loss * 100, 9):.9f}".rstrip("0").rstrip(".") + "%"


def _split(path: str, value: object, units: Iterable[str], example: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text(path, value).strip().lower())
    if match is None or match[2] not in units:
        raise TopologyError(
            path, f"{value!r} is not a quantity in {', '.join(units)}", f'write "{example}"'
        )
    return float(match[1]), match[2]
