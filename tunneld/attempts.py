"""Limits how often one source may guess: each wrong guess uses up some of what it is allowed."""

from collections import OrderedDict

BURST = 10.0
PER_SECOND = 0.1
"""Wrong guesses that a source has at first, and that it gets back."""
_MAX_SOURCES = 10_000


class Attempts:
    """Of many sources; those that have been silent for longest are forgotten, if there are more
    than it keeps. Times are those of one clock, in seconds."""

    def __init__(self) -> None:
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By source: how much was used up, and when that was so."""

    def begin(self, source: str, now: float) -> float:
        """Count an attempt, as if it were wrong; 0, or the seconds to wait where there may be
        none now. Counted at once, since many may be under way at a time."""
        used = self._now_used(source, now)
        if used > BURST - 1:
            return (used - (BURST - 1)) / PER_SECOND
        self._set(source, used + 1, now)
        return 0.0

    def take_back(self, source: str, now: float) -> None:
        """An attempt was right after all."""
        self._set(source, max(0.0, self._now_used(source, now) - 1), now)

    def _now_used(self, source: str, now: float) -> float:
        used, when = self._used.get(source, (0.0, now))
        return max(0.0, used - (now - when) * PER_SECOND)

    def _set(self, source: str, used: float, now: float) -> None:
        self._used[source] = (used, now)
        self._used.move_to_end(source)
        if len(self._used) > _MAX_SOURCES:
            self._used.popitem(last=False)
