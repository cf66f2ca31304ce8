"""One test of one target, with what its processes cost meanwhile."""

import threading
import time
from dataclasses import dataclass, field

from bench.load_client import Json, load_client, result_of
from bench.process import MachineTime
from bench.targets.base import Target
from bench.world import World

Values = dict[str, float]
"""What came of a test, by name of field."""

_SPARE = 30
"""Seconds that a test may take beyond what it is told to."""

_SETTLE = 3
"""Seconds after which idle connections count as idle, and closed ones as gone."""

SLOW = 100_000_000
"""Bits a second of a slow link."""
_RAMP = 1.5
"""Seconds for a transfer to fill it."""

_LEAST_OCTETS = 1e7
"""With fewer, CPU per GB would be noise."""


@dataclass(frozen=True)
class Run:
    """A test that is named for what it measures."""

    name: str
    kind: str
    """As the load program calls it."""
    connections: int = 1
    push: bool = False
    """Of a stall: the endpoint stops reading, not the client. Of an echo beside a transfer: that is
    an upload."""
    victims: int = 1
    """Of a stall: how many connections move beside the stalled one."""
    seconds: float = 0
    """0 takes what the options say."""


@dataclass
class Sample:
    """Resident memory of a target, watched by a thread."""

    target: Target
    interval: float = 0.2
    rows: list[tuple[float, float]] = field(default_factory=list)

    def __enter__(self) -> "Sample":
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self.interval):
            self.rows.append((time.monotonic(), resident_mb(self.target)))

    def most_since(self, start: float) -> float:
        return max((value for at, value in self.rows if at >= start), default=0.0)


def measure(world: World, target: Target, run: Run, seconds: float) -> Values:
    """
    Args:
      seconds: how long to measure, where the run does not say.
    Raises:
      BenchError: no result.
    """
    match run.kind:
        case "idle":
            return _idle(world, target, run.connections)
        case "stall":
            return _stall(world, target, run, run.seconds or seconds)
        case "beside":
            return _beside(world, target, run, run.seconds or seconds)
        case _:
            return _traffic(world, target, run, run.seconds or seconds)


def resident_mb(target: Target) -> float:
    return sum(process.resident_mb() for process in target.processes.values())


def cpu_seconds(target: Target) -> float:
    return sum(process.cpu_seconds() for process in target.processes.values())


def _traffic(world: World, target: Target, run: Run, seconds: float) -> Values:
    machine = MachineTime()
    before, endpoint = cpu_seconds(target), world.endpoint.cpu_seconds()
    test = (run.kind, "--n", run.connections, "--secs", seconds)
    result = result_of(world, target, test, seconds + _SPARE)
    cpu = cpu_seconds(target) - before
    values = numbers(result)
    ours = cpu + world.endpoint.cpu_seconds() - endpoint + values["client_cpu_s"]
    values["elsewhere"] = machine.cores_beside(ours)
    if not target.processes:
        return values
    octets = result.get("bytes_total", 0)
    if run.kind in ("down", "up") and octets > _LEAST_OCTETS:
        values["cpu_s_per_gb"] = cpu / octets * 1e9
    elif run.kind in ("echo", "connect") and result.get("done"):
        values["cpu_us_each"] = cpu / result["done"] * 1e6
    return values


def _idle(world: World, target: Target, count: int) -> Values:
    before = {role: process.resident_mb() for role, process in target.processes.items()}
    with load_client(world, target, ("idle", "--n", count, "--timeout", 60), 120) as client:
        lines = client.lines()
        values = numbers(next(lines, {}))
        time.sleep(_SETTLE)
        held = {role: process.resident_mb() for role, process in target.processes.items()}
        cpu = cpu_seconds(target)
        time.sleep(_SETTLE)
        values["cpu_s_per_s"] = (cpu_seconds(target) - cpu) / _SETTLE
        client.go_on()
        for line in lines:
            values.update(numbers(line))
    opened = values.get("answered_first", 0)
    if opened and held:
        for role, now in held.items():
            values[f"{role}_kb_each"] = (now - before[role]) * 1000 / opened
        values["kb_each"] = sum(values[f"{role}_kb_each"] for role in held)
    values["mb_before"], values["mb_held"] = sum(before.values()), sum(held.values())
    return values


def _beside(world: World, target: Target, run: Run, seconds: float) -> Values:
    """An echo beside a transfer that fills a slow link."""
    transfer = ("up" if run.push else "down", "--n", 1, "--secs", _RAMP + seconds + 1)
    with (
        world.network.slow(SLOW),
        load_client(world, target, transfer, seconds + _SPARE) as client,
    ):
        time.sleep(_RAMP)
        values = numbers(result_of(world, target, ("echo", "--n", 1, "--secs", seconds), _SPARE))
        for line in client.lines():
            values["transfer_MBps"] = line.get("MBps", 0.0)
    return values


def _stall(world: World, target: Target, run: Run, seconds: float) -> Values:
    before = resident_mb(target)
    test = ["stall", "--secs", seconds, "--victims", run.victims]
    if run.push:
        test.append("--push")
    values: Values = {}
    with (
        Sample(target) as sample,
        load_client(world, target, test, 2 * seconds + _SPARE) as client,
    ):
        for line in client.lines():
            if line.get("event") == "phase" and line["name"] == "stalled":
                started = time.monotonic() - 1  # it has stalled for a second already
            elif line.get("event") == "phase_result":
                if line["name"] == "stalled":
                    values["growth_mb"] = max(sample.most_since(started) - before, 0.0)
                values.update(_phase(line))
    if values.get("before_mbps"):
        values["kept"] = values.get("stalled_mbps", 0.0) / values["before_mbps"]
    return values


def _phase(line: Json) -> Values:
    name = line["name"]
    found = {f"{name}_mbps": line["victim_MBps"], f"{name}_echoes": line["echoes"] / line["secs"]}
    if line.get("new_conn_ms") is not None:
        found[f"{name}_new_ms"] = line["new_conn_ms"]
    return found


def numbers(result: Json, prefix: str = "") -> Values:
    """What is a number in a result, latencies as ``ms.p50`` and so on."""
    values: Values = {}
    for key, value in result.items():
        if isinstance(value, dict) and key != "errors":
            values |= numbers(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)):
            values[prefix + key] = float(value)
    return values
