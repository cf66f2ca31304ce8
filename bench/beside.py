"""`sh dev bench`: ours beside its peers."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict

from bench import table
from bench.conditions import busy_elsewhere, conditions
from bench.errors import BenchError
from bench.goals import OURS, verdicts
from bench.plan import GROUPS, QUICK_GROUPS, Step, make_steps, select
from bench.records import Record, add_record_options, keep
from bench.results import Result, targets_of
from bench.runner import run_steps, show
from bench.targets import TARGETS, make_target
from bench.targets.base import Target
from bench.world import open_world

DEFAULT_TARGETS = tuple(name for name in TARGETS if name != "chisel-tls")
"""chisel in TLS encrypts twice, which is more than the others do."""

QUICK_TARGETS = ("ours", "konnectivity", "ssh")
_ONCE = ("idle", "stall-down", "stall-up", "stall-memory")
"""Groups that a quick run measures in one round only."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sh dev bench", description=__doc__)
    add_plan_options(parser)
    parser.add_argument("--targets", type=names, help=f"of: {','.join(TARGETS)}")
    return parser.parse_args(arguments)


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="under three minutes")
    parser.add_argument("--measures", type=names, help=f"of: {','.join(GROUPS)}, or single runs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--secs", type=float, help="of each test; default 2, quick 0.7")
    add_record_options(parser)


def names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def plan(options: argparse.Namespace, targets: Sequence[str]) -> list[Step]:
    """
    Raises:
      BenchError: a measure that does not exist.
    """
    groups = QUICK_GROUPS if options.quick else GROUPS
    if options.measures:
        groups = select(groups, options.measures)
    once = _ONCE if options.quick else ()
    rounds = {group: 1 if group in once else options.rounds for group in groups}
    return list(make_steps(groups, targets, rounds))


def seconds(options: argparse.Namespace) -> float:
    return float(options.secs or (0.7 if options.quick else 2))


def present(wanted: Sequence[str]) -> tuple[dict[str, Target], dict[str, str]]:
    """The targets that this machine has, and why it has not the others."""
    made = {name: make_target(name) for name in wanted}
    reasons = {name: target.missing() for name, target in made.items()}
    absent = {name: reason for name, reason in reasons.items() if reason}
    return {name: made[name] for name in wanted if name not in absent}, absent


def run(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    wanted = options.targets or (QUICK_TARGETS if options.quick else DEFAULT_TARGETS)
    targets, absent = present(wanted)
    for name, reason in absent.items():
        print(f"{name} is left out: {reason}", file=sys.stderr)
    if not targets:
        raise BenchError("nothing to measure")
    results = run_plan(targets, plan(options, list(targets)), seconds(options))
    facts = {**conditions(targets), "absent": absent, "seconds": seconds(options)}
    facts["elsewhere"] = busy_elsewhere(results)
    print(report(results))
    print(f"\nBusy with other things meanwhile: {facts['elsewhere']} processors", file=sys.stderr)
    keep(Record("peers", facts, [asdict(each) for each in results]), options, arguments)
    return 0


def run_plan(targets: dict[str, Target], steps: Sequence[Step], seconds: float) -> list[Result]:
    """Measure, with a line of progress for each result."""
    results: list[Result] = []
    with open_world() as world:
        for result in run_steps(world, targets, steps, seconds):
            show(result)
            results.append(result)
    return results


def report(results: Sequence[Result]) -> str:
    """What the terminal shows."""
    targets = targets_of(results)
    parts = [table.figures(results, targets)]
    others = [name for name in targets if name != OURS]
    if OURS in targets and others:
        parts.append(table.ratios(results, OURS, others))
        parts += [table.goals(found)] if (found := list(verdicts(results))) else []
    return "\n\n".join(parts)
