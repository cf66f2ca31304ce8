"""What goes wrong in a stock pair of konnectivity's server and agent, measured on any pair.

    python -m tests.interop.konnectivity.weaknesses [--pair go] [--pair ours] [--only NAME]

A pair is ``go``, ``ours``, or SERVER-AGENT as ``ours-go``. Prints a Markdown table, a column for
each pair. Takes some 10 minutes for each; `dead_path` needs root.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from tests.interop.konnectivity.measures.bench import Bench, Pair, Row
from tests.interop.konnectivity.measures.deadpath import SERVER_ADDRESS, dead_path
from tests.interop.konnectivity.measures.dialing import (
    abandoned_dials,
    target_ends_first,
    target_speaks_first,
)
from tests.interop.konnectivity.measures.ending import graceful_shutdown, silent_server
from tests.interop.konnectivity.measures.flow import queued_then_closed, slow_reader, stuck_target
from tests.interop.konnectivity.measures.twins import twin_agents
from tunneld.pki import Pki

MEASURES: dict[str, Callable[[Bench], Awaitable[list[Row]]]] = {
    measure.__name__: measure
    for measure in (
        target_speaks_first,
        target_ends_first,
        slow_reader,
        stuck_target,
        queued_then_closed,
        abandoned_dials,
        twin_agents,
        graceful_shutdown,
        silent_server,
        dead_path,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pair", action="append", type=Pair.parse, help="default: go and ours")
    parser.add_argument("--only", action="append", choices=MEASURES)
    parser.add_argument("--dials", type=int, default=1000, help="of target_speaks_first")
    options = parser.parse_args()
    pairs = options.pair or [Pair.parse("go"), Pair.parse("ours")]
    names = options.only or list(MEASURES)
    columns = []
    with tempfile.TemporaryDirectory(prefix="interop") as directory:
        pki = Path(directory) / "pki"
        Pki(pki).init(["127.0.0.1", SERVER_ADDRESS], "demo")
        for number, pair in enumerate(pairs):
            bench = Bench(pair, Path(directory) / str(number), pki, options.dials)
            columns.append(run(bench, names))
    print(table(pairs, columns))


def run(bench: Bench, names: list[str]) -> dict[str, str]:
    """The results of one pair."""
    results: dict[str, str] = {}
    for name in names:
        if name == "dead_path" and os.geteuid():
            results[name] = "needs root"
            continue
        print(f"{bench.pair}: {name} …", file=sys.stderr, flush=True)
        for what, came in trio.run(MEASURES[name], bench):
            print(f"  {what}: {came}", file=sys.stderr, flush=True)
            results[what] = came
    return results


def table(pairs: list[Pair], columns: list[dict[str, str]]) -> str:
    """Markdown, a row for each thing measured, in the order in which they were."""
    rows = list(dict.fromkeys(what for column in columns for what in column))
    lines = ["| | " + " | ".join(map(str, pairs)) + " |", "|---" * (len(pairs) + 1) + "|"]
    for what in rows:
        lines.append(f"| {what} | " + " | ".join(column.get(what, "") for column in columns) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
