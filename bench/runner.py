"""Runs a plan: starts each target, measures, stops it, whatever happens."""

import sys
import time
from collections.abc import Iterable, Iterator

from bench.errors import BenchError
from bench.load_client import wait_ready
from bench.measuring import Run, measure
from bench.plan import Step
from bench.results import Result
from bench.targets.base import Target
from bench.world import World

_SHOWN = (
    *("MBps", "jain", "cpu_s_per_gb", "ms.p50", "rt_per_s", "conn_per_s", "kb_each", "kept"),
    "growth_mb",
)
_NOISE = 0.2
"""Processors that others use; with more, throughput says little."""


def run_steps(
    world: World, targets: dict[str, Target], steps: Iterable[Step], seconds: float
) -> Iterator[Result]:
    """A target that fails yields that as a result and hinders no other."""
    for step in steps:
        target = targets[step.target]
        try:
            target.start(world)
            wait_ready(world, target)
            for run in step.runs:
                yield _measured(world, target, step, run, seconds)
        except BenchError as exc:
            for run in step.runs:
                yield Result(step.round, step.target, run.name, {}, str(exc))
        finally:
            target.stop()


def _measured(world: World, target: Target, step: Step, run: Run, seconds: float) -> Result:
    try:
        values = measure(world, target, run, seconds)
    except BenchError as exc:
        return Result(step.round, step.target, run.name, {}, str(exc))
    dead = [role for role, process in target.processes.items() if not process.alive]
    error = f"ended meanwhile: {', '.join(dead)}" if dead else ""
    return Result(step.round, step.target, run.name, values, error)


def show(result: Result) -> None:
    """One line of progress."""
    found = (f"{name} {result.values[name]:.4g}" for name in _SHOWN if name in result.values)
    clock = time.strftime("%H:%M:%S")
    words = ", ".join(found) or "nothing"
    error = f" ({result.error})" if result.error else ""
    if result.values.get("elsewhere", 0) > _NOISE:
        error += f" (others: {result.values['elsewhere']:.1f} processors)"
    line = f"{clock} {result.round + 1} {result.target:17} {result.run:12} {words}{error}"
    print(line, file=sys.stderr, flush=True)
