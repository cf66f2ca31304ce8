"""`sh dev bench growth`: what more connections and more agents cost."""

import argparse
import resource
import sys
from collections.abc import Iterable, Sequence

from bench.conditions import conditions
from bench.crowds import agents_held, connections_held
from bench.errors import BenchError
from bench.measuring import Values
from bench.records import Record, add_record_options, keep
from bench.table import markdown
from bench.world import World, open_world

CONNECTIONS = (10, 100, 1000, 10_000)
AGENTS = (1, 10, 100, 1000)
_SPARE_FILES = 100
"""Descriptors of a process beside one for each connection."""

Columns = Sequence[tuple[str, str, int]]
"""Heading, field, digits."""

CONNECTION_COLUMNS: Columns = (
    ("connections", "count", 0),
    ("opened per s", "opened_per_s", 0),
    ("server, kB each", "server_kb_each", 1),
    ("agent, kB each", "agent_kb_each", 1),
    ("both, MB", "mb", 0),
    ("CPU idle, ms/s", "cpu_ms_per_s", 1),
    ("new connections/s beside", "connects_per_s", 0),
    ("echo p50 beside, ms", "echo_p50_ms", 3),
    ("echo p99 beside, ms", "echo_p99_ms", 3),
)
AGENT_COLUMNS: Columns = (
    ("agents", "count", 0),
    ("all connected, s", "up_s", 2),
    ("server, kB each", "server_kb_each", 1),
    ("agent's side, kB each", "agent_kb_each", 1),
    ("CPU idle, server, ms/s", "server_cpu_ms_per_s", 1),
    ("CPU idle, agents, ms/s", "agent_cpu_ms_per_s", 1),
    ("new connections/s", "connects_per_s", 0),
    ("half back, s", "half_back_s", 2),
    ("all back, s", "all_back_s", 2),
    ("CPU to be back, ms each", "back_cpu_ms_each", 1),
)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sh dev bench growth", description=__doc__)
    parser.add_argument("--connections", type=counts, default=CONNECTIONS, help="10,100,…")
    parser.add_argument("--agents", type=counts, default=AGENTS, help="1,10,…")
    add_record_options(parser)
    return parser.parse_args(arguments)


def counts(text: str) -> tuple[int, ...]:
    """Numbers between commas; none if empty."""
    return tuple(sorted(int(word) for word in text.split(",") if word))


def run(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    raise_file_limit(max((*options.connections, *options.agents), default=0))
    with open_world() as world:
        found = measured(world, options.connections, options.agents)
    print(growth_tables(found))
    keep(Record("growth", conditions({}), found), options, arguments)
    return 0


def measured(
    world: World, connections: Iterable[int], agents: Iterable[int]
) -> dict[str, list[Values]]:
    """Rows by kind, with a line of progress for each."""
    found: dict[str, list[Values]] = {"connections": [], "agents": []}
    for count in connections:
        found["connections"].append(_shown("connections", connections_held(world, count)))
    for count in agents:
        found["agents"].append(_shown("agents", agents_held(world, count)))
    return found


def growth_tables(found: dict[str, list[Values]]) -> str:
    tables = (("connections", CONNECTION_COLUMNS), ("agents", AGENT_COLUMNS))
    return "\n\n".join(
        growth_table(found[kind], columns) for kind, columns in tables if found[kind]
    )


def growth_table(rows: Iterable[Values], columns: Columns) -> str:
    cells = ([f"{row[field]:,.{digits}f}" for _, field, digits in columns] for row in rows)
    return markdown([heading for heading, _, _ in columns], cells)


def raise_file_limit(connections: int) -> None:
    """For us and all that we start.

    Raises:
      BenchError: the hard limit is too low.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _SPARE_FILES
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise BenchError(f"{connections} connections need {wanted} files, the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _shown(kind: str, row: Values) -> Values:
    text = ", ".join(f"{name} {value:.4g}" for name, value in row.items())
    print(f"{kind}: {text}", file=sys.stderr, flush=True)
    return row
