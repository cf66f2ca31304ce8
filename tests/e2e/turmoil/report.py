"""A run as Markdown, and as JSON."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from tests.e2e.turmoil.trial import Event, Result


def to_map(result: Result) -> dict[str, Any]:
    """For JSON."""
    found: dict[str, Any] = msgspec.to_builtins(result)  # `asdict` has no idea of counters
    return found


def render(result: Result) -> str:
    """The report."""
    minutes, slots = f"{result.seconds / 60:.1f} minutes", f"{result.slots} live connections"
    return "\n".join(
        [
            f"# Turmoil: {minutes}, seed {result.seed}, {slots}",
            "",
            *_events(result),
            "",
            *_totals(result),
            "",
            *_resources(result),
            "",
            *_reasons(result),
            *_violations(result),
        ]
    )


def _events(result: Result) -> Iterator[str]:
    kinds: dict[str, list[Event]] = defaultdict(list)
    for event in result.events:
        kinds[event.fault].append(event)
    yield (
        "Seconds from when nothing stood in the way any more until (a) newcomers got in, (b) each "
        "surviving connection had completed a round begun since then: p50 / p90 / p99 / max."
    )
    yield ""
    yield "| event | times | (a) newcomers | (b) survivors | broken | newcomers failed |"
    yield "| --- | ---: | --- | --- | ---: | ---: |"
    for kind in sorted(kinds):
        events = kinds[kind]
        yield (
            f"| {kind} | {len(events)} | {percentiles(each.newcomers for each in events)} "
            f"| {percentiles(gap for each in events for gap in each.rounds)} "
            f"| {sum(each.broken for each in events)} "
            f"| {sum(each.failed_newcomers for each in events)} |"
        )


def percentiles(values: Iterable[float]) -> str:
    """p50 / p90 / p99 / max, by nearest rank."""
    found = sorted(values)
    if not found:
        return "-"
    return " / ".join(f"{_rank(found, part):.2f}" for part in (0.5, 0.9, 0.99, 1.0))


def _rank(values: Sequence[float], part: float) -> float:
    return values[max(0, math.ceil(part * len(values)) - 1)]


def _totals(result: Result) -> Iterator[str]:
    wrong = result.outcomes["wrong"] + result.at_endpoint["wrong"]
    truncated = result.outcomes["truncated"] + result.at_endpoint["truncated"]
    yield "| in all | |"
    yield "| --- | ---: |"
    rows = {
        "events": len(result.events),
        "connections complete and right": result.outcomes["complete"],
        "connections broken, with an error for the client": result.outcomes["broken"],
        "connections broken, with an error for the endpoint": result.at_endpoint["broken"],
        "connections without any octet for too long": result.outcomes["hung"],
        "newcomers": result.newcomers,
        "newcomers that failed": sum(result.failures.values()),
        "octets verified, both ways": result.octets,
        "connections with wrong octets": wrong,
        "truncated, but ended cleanly": truncated,
        "violations": len(result.violations),
    }
    for name, value in rows.items():
        yield f"| {name} | {value:,} |"


def _resources(result: Result) -> Iterator[str]:
    yield "| processes, without connections | descriptors before, after | MiB before, after |"
    yield "| --- | --- | --- |"
    for name, before in result.before.items():
        after = result.after.get(name, before)
        yield (
            f"| {name} | {before.descriptors}, {after.descriptors} "
            f"| {before.memory / 2**20:.1f}, {after.memory / 2**20:.1f} |"
        )


def _reasons(result: Result) -> Iterator[str]:
    for title, counted in (
        ("What clients of broken connections saw", result.errors),
        ("What newcomers that failed saw", result.failures),
    ):
        yield f"{title}:"
        yield ""
        yield from (f"- {number} x {text}" for text, number in counted.most_common(12))
        yield ""


def _violations(result: Result) -> Iterator[str]:
    yield "Violations:" if result.violations else "No violations."
    yield ""
    yield from (f"- {each}" for each in result.violations)
