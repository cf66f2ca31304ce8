"""What ours shall reach beside whom, and what it does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.metrics import BY_KEY
from bench.results import Result, Spread, ratio, spread

OURS = "ours"


@dataclass(frozen=True)
class Goal:
    metric: str
    """By `Metric.key`."""
    peer: str
    """Whose figure ours is divided by; empty if the figure is meant as it is."""
    limit: float
    at_least: bool = True

    def met_by(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    @property
    def text(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


def _pair(metric: str, konnectivity: float, ssh: float = 0, *, at_least: bool = True) -> list[Goal]:
    goals = [Goal(metric, "konnectivity", konnectivity, at_least)]
    return [*goals, Goal(metric, "ssh", ssh, at_least)] if ssh else goals


GOALS: tuple[Goal, ...] = (
    *_pair("down-1.MBps", 3.0, 1.15),
    *_pair("down-32.MBps", 2.8, 1.1),
    *_pair("up-1.MBps", 2.0, 1.0),
    *_pair("up-32.MBps", 1.8, 1.0),
    Goal("down-32.jain", "", 0.98),
    Goal("up-32.jain", "", 0.98),
    *_pair("down-1.cpu_s_per_gb", 0.35, 0.9, at_least=False),
    *_pair("up-1.cpu_s_per_gb", 0.55, 0.9, at_least=False),
    *_pair("echo-1.ms.p50", 0.4, 0.6, at_least=False),
    *_pair("echo-64.rt_per_s", 1.7, 0.9),
    *_pair("connect-16.conn_per_s", 1.2),
    *_pair("idle.kb_each", 0.6, 1.0, at_least=False),
    Goal("stall-down.kept", "", 0.9),
    Goal("stall-up.kept", "", 0.9),
    Goal("stall-memory.growth_mb", "", 8, at_least=False),
)


@dataclass(frozen=True)
class Verdict:
    goal: Goal
    reached: Spread

    @property
    def met(self) -> bool:
        return self.goal.met_by(self.reached.median)

    @property
    def distance(self) -> float:
        """From the limit, as a share of it."""
        return abs(self.reached.median / self.goal.limit - 1)

    @property
    def row(self) -> tuple[str, ...]:
        digits = BY_KEY[self.goal.metric].digits if not self.goal.peer else 2
        return (
            BY_KEY[self.goal.metric].title,
            f"÷ {self.goal.peer}" if self.goal.peer else "absolute",
            self.goal.text,
            self.reached.text(digits),
            "met" if self.met else f"missed by {self.distance:.0%}",
        )


def verdicts(results: Sequence[Result]) -> Iterator[Verdict]:
    """Of the goals about which the results say something."""
    for goal in GOALS:
        metric = BY_KEY[goal.metric]
        if goal.peer:
            reached = ratio(results, metric, OURS, goal.peer)
        else:
            reached = spread(results, metric, OURS)
        if reached:
            yield Verdict(goal, reached)
