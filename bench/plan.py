"""What is run, in which order, how often."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.errors import BenchError
from bench.measuring import Run

GROUPS: dict[str, tuple[Run, ...]] = {
    "down": tuple(Run(f"down-{n}", "down", n) for n in (1, 4, 32)),
    "up": tuple(Run(f"up-{n}", "up", n) for n in (1, 4, 32)),
    "echo": tuple(Run(f"echo-{n}", "echo", n) for n in (1, 64)),
    "connect": (Run("connect-16", "connect", 16),),
    "slow": (Run("slow-down", "beside"), Run("slow-up", "beside", push=True)),
    "idle": (Run("idle", "idle", 1000),),
    "stall-down": (Run("stall-down", "stall", seconds=4),),
    "stall-up": (Run("stall-up", "stall", push=True, seconds=4),),
    "stall-memory": (Run("stall-memory", "stall", victims=0, seconds=10),),
}
"""Runs of a group share one start of the target; some do not recover from a stall."""

QUICK_GROUPS: dict[str, tuple[Run, ...]] = {
    "traffic": (
        *(Run(f"{way}-{n}", way, n) for way in ("down", "up") for n in (1, 32)),
        *(Run(f"echo-{n}", "echo", n) for n in (1, 64)),
        Run("connect-16", "connect", 16),
    ),
    "idle": (Run("idle", "idle", 500),),
    "stall-down": (Run("stall-down", "stall", seconds=2),),
    "stall-up": (Run("stall-up", "stall", push=True, seconds=2),),
    "stall-memory": (Run("stall-memory", "stall", victims=0, seconds=3),),
}

_OF_TUNNELS = ("idle", "stall-down", "stall-up", "stall-memory")
"""What says nothing about a way without a tunnel."""


@dataclass(frozen=True)
class Step:
    """One start of one target, and what is measured on it."""

    round: int
    group: str
    target: str
    runs: tuple[Run, ...]


def make_steps(
    groups: dict[str, tuple[Run, ...]], targets: Sequence[str], rounds: dict[str, int]
) -> Iterable[Step]:
    """Targets take turns within each round, and another one begins each round."""
    for group, runs in groups.items():
        for number in range(rounds[group]):
            first = number % len(targets)
            for target in (*targets[first:], *targets[:first]):
                if target != "direct" or group not in _OF_TUNNELS:
                    yield Step(number, group, target, runs)


def select(groups: dict[str, tuple[Run, ...]], names: Sequence[str]) -> dict[str, tuple[Run, ...]]:
    """The groups of those names, or with those of the runs of those names.

    Raises:
      BenchError: nothing has that name.
    """
    selected: dict[str, tuple[Run, ...]] = {}
    for name in names:
        found = {
            group: tuple(run for run in runs if name in (group, run.name))
            for group, runs in groups.items()
        }
        found = {group: runs for group, runs in found.items() if runs}
        if not found:
            known = [*groups, *(run.name for runs in groups.values() for run in runs)]
            raise BenchError(f"no measure {name!r}; there are: {', '.join(dict.fromkeys(known))}")
        for group, runs in found.items():
            selected[group] = tuple(dict.fromkeys((*selected.get(group, ()), *runs)))
    return selected
