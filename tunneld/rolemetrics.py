"""The metrics of a role and of its process, as `tunneld.samples` has them."""

import os
import resource
import time
from collections import Counter
from pathlib import Path
from typing import Any

import trio

from tunneld.conns import DIALLING, OPEN, Conns
from tunneld.reactor import Reactor
from tunneld.samples import metric
from tunneld.telemetry import FROM_AGENT, TO_AGENT, AgentTelemetry, ServerTelemetry

_STALLED = "stalled"
_PAGE = os.sysconf("SC_PAGE_SIZE")

Metrics = list[dict[str, Any]]


def telemetry_metrics(telemetry: ServerTelemetry | AgentTelemetry) -> Metrics:
    """Those that the drop-in programs have too, by konnectivity's names and ours."""
    # A daemon that nobody scrapes does without that library.
    from tunneld.metrics import TelemetryCollector

    return [
        {
            "name": each.samples[0].name if each.type == "counter" else each.name,
            "type": each.type,
            "help": each.documentation,
            "samples": [
                (sample.name, dict(sample.labels), sample.value) for sample in each.samples
            ],
        }
        for each in TelemetryCollector(telemetry).collect()
        if each.samples
    ]


def dial_metrics(telemetry: ServerTelemetry | AgentTelemetry) -> Metrics:
    """How dials fared."""
    failures = telemetry.tunneld_dial_failures.items()
    return [
        metric(
            "tunneld_dial_seconds",
            "histogram",
            "From a dial to the endpoint's connection, of those that succeed.",
            [({}, telemetry.tunneld_dial_seconds)],
        ),
        metric(
            "tunneld_dial_failures_total",
            "counter",
            "Dials that failed, by the error code that tunnelctl explain knows.",
            [({"code": code}, count) for code, count in sorted(failures)],
        ),
    ]


def conn_metrics(conns: Conns, telemetry: ServerTelemetry | AgentTelemetry) -> Metrics:
    """The connections as they are."""
    states = Counter({DIALLING: 0, OPEN: 0, _STALLED: 0})
    sent = telemetry.tunneld_carried_bytes_total[TO_AGENT]
    received = telemetry.tunneld_carried_bytes_total[FROM_AGENT]
    queue = 0
    for conn in conns:
        fares, octets = conn.fares(), conn.octets()
        states[_STALLED if fares.stall else conn.state] += 1
        queue += fares.queue
        sent += octets[0]
        received += octets[1]
    return [
        metric(
            "tunneld_connections",
            "gauge",
            "Connections by state; stalled ones wait for an end that takes nothing.",
            [({"state": state}, count) for state, count in states.items()],
        ),
        metric(
            "tunneld_bytes_total",
            "counter",
            "Payload carried, of running connections too, by direction.",
            [({"direction": TO_AGENT}, sent), ({"direction": FROM_AGENT}, received)],
        ),
        metric(
            "tunneld_buffered_bytes",
            "gauge",
            "Payload in the process that waits for an end to take it.",
            [({}, queue)],
        ),
    ]


async def process_metrics(reactor: Reactor) -> Metrics:
    """Of this process."""
    lag = await turn_seconds(reactor)
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [
        metric("tunneld_open_fds", "gauge", "File descriptors in use.", [({}, _open_fds())]),
        metric("tunneld_max_fds", "gauge", "Limit of file descriptors.", [({}, limit)]),
        metric(
            "tunneld_event_loop_lag_seconds",
            "gauge",
            "What a turn of the event loop and of the data plane took when asked.",
            [({}, lag)],
        ),
        metric("tunneld_resident_memory_bytes", "gauge", "Resident memory.", [({}, _resident())]),
        metric(
            "tunneld_cpu_seconds_total",
            "counter",
            "CPU time of the process.",
            [({}, time.process_time())],
        ),
    ]


class _Turn:
    """Waits for the data plane's next turn."""

    def __init__(self) -> None:
        self.come = trio.Event()

    def fail(self, error: Exception) -> None:
        """Nothing of ours fails."""


async def turn_seconds(reactor: Reactor) -> float:
    """Wait for a turn of the event loop and one of the data plane; the seconds it took."""
    began, turn = time.perf_counter(), _Turn()
    await trio.lowlevel.checkpoint()
    reactor.call_next_turn(turn, turn.come.set)
    await turn.come.wait()
    return time.perf_counter() - began


def _resident() -> int:
    """Octets."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE


def _open_fds() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1  # less the one that looks
