"""Which charts are drawn of which figures."""

from collections.abc import Sequence

from bench.measuring import Values
from bench.metrics import BY_KEY
from bench.results import Result, Spread, spread
from bench.svg import bars, lines

_FLOWS = {
    "download, 1": "down-1",
    "download, 32": "down-32",
    "upload, 1": "up-1",
    "upload, 32": "up-32",
}
_BARS = {
    "throughput": ("Throughput, MB/s", {k: f"{run}.MBps" for k, run in _FLOWS.items()}),
    "cpu": (
        "CPU of all processes of the tunnel, s/GB (less is better)",
        {k: f"{run}.cpu_s_per_gb" for k, run in _FLOWS.items()},
    ),
    "latency": (
        "64-byte echo, 1 connection, ms (less is better)",
        {"median": "echo-1.ms.p50", "99th percentile": "echo-1.ms.p99"},
    ),
    "echo": ("64-byte round trips/s, 64 connections", {"": "echo-64.rt_per_s"}),
    "connect": ("New connections/s, 16 at a time", {"": "connect-16.conn_per_s"}),
    "memory": (
        "Memory per idle connection, kB (less is better)",
        {"server": "idle.server_kb_each", "agent": "idle.agent_kb_each"},
    ),
    "stall": (
        "Throughput of the others, MB/s, while one connection stalls",
        {
            "before": "stall-down.before_mbps",
            "a client stalls": "stall-down.stalled_mbps",
            "before ": "stall-up.before_mbps",
            "an endpoint stalls": "stall-up.stalled_mbps",
        },
    ),
}
_WITHOUT_TUNNEL = "direct"
"""Its bars would dwarf all others."""


def result_charts(results: Sequence[Result], targets: Sequence[str]) -> dict[str, str]:
    """SVG by file name, without what nothing is known about."""
    shown = [target for target in targets if target != _WITHOUT_TUNNEL]
    charts = {}
    for name, (title, keys) in _BARS.items():
        groups = {label: _group(results, key, shown) for label, key in keys.items()}
        if any(groups.values()):
            charts[f"{name}.svg"] = bars(title, groups)
    return charts


def _group(results: Sequence[Result], key: str, targets: Sequence[str]) -> dict[str, Spread]:
    found = {target: spread(results, BY_KEY[key], target) for target in targets}
    return {target: value for target, value in found.items() if value}


def growth_charts(found: dict[str, list[Values]]) -> dict[str, str]:
    charts = {}
    if rows := found["connections"]:
        memory = {
            "server": _points(rows, "server_kb_each"),
            "agent": _points(rows, "agent_kb_each"),
        }
        charts["growth-memory.svg"] = lines("Memory per connection, kB", "connections", memory)
        speed = {
            "new connections/s beside": _points(rows, "connects_per_s"),
            "opened per s": _points(rows, "opened_per_s"),
        }
        charts["growth-connects.svg"] = lines("New connections", "idle connections", speed)
    if rows := found["agents"]:
        memory = {
            "server": _points(rows, "server_kb_each"),
            "agent's side": _points(rows, "agent_kb_each"),
        }
        charts["growth-agents.svg"] = lines("Memory per agent, kB", "agents", memory)
        times = {
            "all connected": _points(rows, "up_s"),
            "half back after a restart": _points(rows, "half_back_s"),
            "all back after a restart": _points(rows, "all_back_s"),
        }
        charts["growth-reconnect.svg"] = lines("Seconds until agents are there", "agents", times)
    return charts


def _points(rows: Sequence[Values], field: str) -> list[tuple[float, float]]:
    return [(row["count"], row[field]) for row in rows]
