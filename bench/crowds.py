"""Many connections, or many agents, held while something is measured beside them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench.errors import BenchError
from bench.load_client import load_client, result_of, wait_ready
from bench.measuring import Values, cpu_seconds
from bench.process import Process, wait_until
from bench.targets.ours import Ours, agent_roles, control_socket
from bench.world import World
from ctl.messages import ControlError
from tunneld.ask import ask

_SETTLE = 3.0
"""Seconds after which what has been opened counts as idle, and for which it is then watched."""

_SECONDS = 1.5
"""Of each test beside the crowd."""

_OPENING = 120.0
"""Seconds that a crowd may take to come."""

AGENTS_PER_PROCESS = 250


def connections_held(world: World, count: int) -> Values:
    """Idle connections through one server and one agent."""
    with _running(Ours(), world) as target:
        wait_ready(world, target)
        before = {role: process.resident_mb() for role, process in target.processes.items()}
        idle = ("idle", "--n", count, "--timeout", _OPENING)
        with load_client(world, target, idle, 2 * _OPENING) as client:
            ready = next(client.lines(), {})
            if ready.get("opened") != count:
                raise BenchError(f"{ready.get('opened', 0)} of {count} connections opened")
            time.sleep(_SETTLE)
            held = {role: process.resident_mb() for role, process in target.processes.items()}
            cpu = cpu_seconds(target)
            time.sleep(_SETTLE)
            cpu = cpu_seconds(target) - cpu
            beside = _beside(world, target)
    each = {f"{role}_kb_each": (held[role] - before[role]) * 1000 / count for role in held}
    return {
        "count": count,
        "opened_per_s": count / ready["open_s"],
        **each,
        "mb": sum(held.values()),
        "cpu_ms_per_s": cpu / _SETTLE * 1000,
        **beside,
    }


def agents_held(world: World, count: int) -> Values:
    """Agents at one server, and the same after the server was killed and started again."""
    with _running(_Crowd(0), world) as alone:
        time.sleep(1)
        server_mb = alone.processes["server"].resident_mb()
        agent_mb = alone.processes["agent"].resident_mb()
    with _running(crowd := _Crowd(count), world, start=False):
        server = crowd.start_server(world)
        started = time.monotonic()
        crowd.start_agents(world)
        up = crowd.wait_connected(world, started)
        time.sleep(_SETTLE)
        hosts = crowd.hosts
        each = {
            "server_kb_each": (server.resident_mb() - server_mb) * 1000 / count,
            "agent_kb_each": (sum(host.resident_mb() for host in hosts) - len(hosts) * agent_mb)
            * 1000
            / count,
        }
        idle = _idle_cpu(server, hosts)
        connects = _connects(world, crowd)
        back = _come_back(world, crowd)
    return {"count": count, "up_s": up[1.0], **each, **idle, "connects_per_s": connects, **back}


class _Crowd(Ours):
    """One server, and agents that share few processes. Each has an id of its own."""

    server_options = "any-agent-id = true"

    def __init__(self, count: int) -> None:
        super().__init__("crowd")
        self.count = count

    @property
    def hosts(self) -> list[Process]:
        return [process for role, process in self.processes.items() if role != "server"]

    def start(self, world: World) -> None:
        self.start_server(world)
        self.start_agents(world)

    def start_agents(self, world: World) -> None:
        inside = world.network.private()
        for first in range(0, max(self.count, 1), AGENTS_PER_PROCESS):
            numbers = range(first, min(first + AGENTS_PER_PROCESS, self.count))
            roles = "".join(agent_roles(world, f"agent-{number}") for number in numbers)
            self.start_daemon(world, f"agent-{first}" if first else "agent", inside, roles)

    def connected(self, world: World) -> int:
        """Agents that the server has."""
        try:
            result, _ = ask(control_socket(self.directory(world, "server")), "agents")
        except ControlError:
            return 0
        return len(result["agents"])

    def has_connected(self, world: World, count: int) -> bool:
        return self.connected(world) >= count

    def wait_connected(self, world: World, started: float) -> dict[float, float]:
        """Seconds since ``started`` (monotonic) until half of them and all of them are there.

        Raises:
          BenchError: they do not come.
        """
        took: dict[float, float] = {}
        for share in (0.5, 1.0):
            wanted = max(1, int(share * self.count))
            if not wait_until(partial(self.has_connected, world, wanted), _OPENING, 0.05):
                raise BenchError(f"{self.connected(world)} of {self.count} agents are connected")
            took[share] = time.monotonic() - started
        return took


def _come_back(world: World, crowd: _Crowd) -> Values:
    """Kill the server, start it again; times count from its being ready."""
    crowd.processes.pop("server").kill()
    crowd.start_server(world)
    before = cpu_seconds(crowd)
    took = crowd.wait_connected(world, time.monotonic())
    cpu = cpu_seconds(crowd) - before
    return {
        "half_back_s": took[0.5],
        "all_back_s": took[1.0],
        "back_cpu_ms_each": cpu * 1000 / crowd.count,
    }


def _idle_cpu(server: Process, hosts: list[Process]) -> Values:
    def used() -> tuple[float, float]:
        return server.cpu_seconds(), sum(host.cpu_seconds() for host in hosts)

    before = used()
    time.sleep(2 * _SETTLE)
    after = used()
    server_ms, agent_ms = (
        (now - then) / (2 * _SETTLE) * 1000 for now, then in zip(after, before, strict=True)
    )
    return {"server_cpu_ms_per_s": server_ms, "agent_cpu_ms_per_s": agent_ms}


def _beside(world: World, target: Ours) -> Values:
    echo = ("echo", "--n", 1, "--secs", _SECONDS)
    latency = result_of(world, target, echo, 60)["ms"]
    return {
        "connects_per_s": _connects(world, target),
        "echo_p50_ms": latency["p50"],
        "echo_p99_ms": latency["p99"],
    }


def _connects(world: World, target: Ours) -> float:
    test = ("connect", "--n", 16, "--secs", _SECONDS)
    return float(result_of(world, target, test, 60)["conn_per_s"])


@contextmanager
def _running(target: Ours, world: World, *, start: bool = True) -> Iterator[Ours]:
    try:
        if start:
            target.start(world)
        yield target
    finally:
        target.stop()
