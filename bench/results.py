"""Results of single tests, and what several rounds of them say together."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.metrics import Metric


@dataclass(frozen=True)
class Result:
    """What one test of one target gave, or why it gave nothing."""

    round: int
    target: str
    run: str
    values: dict[str, float]
    error: str = ""


@dataclass(frozen=True)
class Spread:
    median: float
    least: float
    most: float
    count: int

    def text(self, digits: int) -> str:
        """As in ``1.25 [1.20-1.31]``."""
        middle = f"{self.median:.{digits}f}"
        least, most = f"{self.least:.{digits}f}", f"{self.most:.{digits}f}"
        return middle if least == most else f"{middle} [{least}-{most}]"


def spread_of(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values), len(values))


def spread(results: Iterable[Result], metric: Metric, target: str) -> Spread | None:
    """Over the rounds; None without a value."""
    return spread_of(list(_by_round(results, metric, target).values()))


def ratio(results: Sequence[Result], metric: Metric, target: str, other: str) -> Spread | None:
    """``target`` ÷ ``other``, formed within each round, since neighbours in time are alike.

    None without a round that has both, and a divisor that is not 0.
    """
    above, below = _by_round(results, metric, target), _by_round(results, metric, other)
    return spread_of([above[r] / below[r] for r in sorted(above) if below.get(r)])


def _by_round(results: Iterable[Result], metric: Metric, target: str) -> dict[int, float]:
    return {
        result.round: result.values[metric.field]
        for result in results
        if result.target == target and result.run == metric.run and metric.field in result.values
    }


def targets_of(results: Iterable[Result]) -> list[str]:
    """In the order of their first result."""
    return list(dict.fromkeys(result.target for result in results))
