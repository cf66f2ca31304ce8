"""How fast a connection goes, and whether it is stuck: looked at now and then from outside, so that
no read or write pays for it."""

from dataclasses import dataclass
from typing import NamedTuple

from tunneld.relay import Relay

_WINDOW = 2.0
"""Seconds that a rate is taken over at least; twice that at most, if `Meter.look` is called each
second."""


class Rates(NamedTuple):
    """Octets per second: towards the endpoint, and back."""

    sent: float
    received: float


@dataclass(frozen=True, slots=True)
class Stall:
    """One end of a relay takes nothing though octets wait."""

    end: int
    """Index in `Relay.ends`."""
    seconds: float


class Meter:
    """What is remembered of one connection between looks.

    Args:
      now: monotonic seconds, as everywhere here; when it began.
    """

    __slots__ = ("_carried", "_mark", "_older", "_stuck_since")

    def __init__(self, now: float) -> None:
        self._older = self._mark = (now, 0, 0)
        self._carried = [-1, -1]
        self._stuck_since: list[float | None] = [None, None]

    def look(self, now: float, octets: tuple[int, int], relay: Relay | None) -> None:
        """Take note of how things stand."""
        if now - self._mark[0] >= _WINDOW:
            self._older, self._mark = self._mark, (now, *octets)
        if relay is not None:
            for index, end in enumerate(relay.ends):
                carried, waits = end.carried, end.waits
                if not waits:
                    self._stuck_since[index] = None
                elif carried != self._carried[index] or self._stuck_since[index] is None:
                    self._stuck_since[index] = now
                self._carried[index] = carried

    def rates(self, now: float, octets: tuple[int, int]) -> Rates:
        """Over the last seconds."""
        then, sent, received = self._older
        passed = now - then
        if passed <= 0:
            return Rates(0.0, 0.0)
        return Rates((octets[0] - sent) / passed, (octets[1] - received) / passed)

    def stall(self, now: float, least: float = 1.0) -> Stall | None:
        """The longer of the stalls that last ``least`` seconds or more by now."""
        since = [(began, end) for end, began in enumerate(self._stuck_since) if began is not None]
        if not since:
            return None
        began, end = min(since)
        return Stall(end, now - began) if now - began >= least else None
