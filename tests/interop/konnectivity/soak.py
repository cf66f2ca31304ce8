"""All kinds of clients at once, well-behaved or not, for minutes; then what is left of them.

    python -m tests.interop.konnectivity.soak [--minutes 10] [--pair ours] [--workers 4] [--seed 1]

Each pair is loaded for that long, after a warm-up and in rounds. Once a round's load is over,
gauges have to come back to 0, descriptors to where they were after the warm-up, and memory must not
grow from round to round (it depends on chance what the allocator gives back). Prints two Markdown
tables for each pair, and ends with 1 if something is left.
"""

import argparse
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import trio

from tests.interop.konnectivity.cell import QUICK, Kind, make_client
from tests.interop.konnectivity.clients import Client
from tests.interop.konnectivity.load import Targets, open_targets, work
from tests.interop.konnectivity.measures.bench import Pair
from tests.interop.konnectivity.metrics import gauges
from tests.interop.konnectivity.processes import http_get
from tests.interop.konnectivity.programs import Agent, Maker, Mode, Program, Server, World
from tests.interop.konnectivity.steps import until, until_true
from tunneld.pki import Pki

WARM_UP = 30.0
SETTLE = 60.0
"""Seconds that the programs have to put away what the load left."""

PENDING = 6.0
"""Seconds that an agent may still dial what its client has given up: konnectivity's never stops."""

LASTING = (
    "server_ready_backend",
    'server_grpc_connections{service_method="Connect"}',
    "agent_open_server_connections",
    "agent_known_server_count",
)
"""Gauges that say what is there without any client: how their names begin."""

ROUNDS = 5
GROWTH = 1.1, 8 << 10
"""The last round may leave that factor, and that many KiB, more than any before it."""


@dataclass
class Usage:
    """What a process has."""

    descriptors: int
    resident: int
    """KiB."""

    @classmethod
    def of(cls, pid: int) -> "Usage":
        status = Path(f"/proc/{pid}/status").read_text()
        resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return cls(len(list(Path(f"/proc/{pid}/fd").iterdir())), int(resident.split()[1]))


class Setup:
    """Servers of one maker for all kinds of clients, an agent for each, and the clients."""

    def __init__(self, pair: Pair, world: World) -> None:
        self.pair = pair
        self.programs: list[Program] = []
        self.clients: dict[str, Client] = {}
        self._world = world
        self._pairs: list[tuple[Server, Agent]] = []
        if pair.server is Maker.OURS:
            self._add("any", Mode.ANY, False, (Kind.SINGLE_USE, Kind.REUSABLE, Kind.CONNECT_TLS))
            self._add("unix", Mode.ANY, True, (Kind.REUSABLE, Kind.CONNECT_UNIX))
        else:
            self._add("grpc", Mode.GRPC, False, (Kind.SINGLE_USE, Kind.REUSABLE))
            self._add("connect", Mode.CONNECT, False, (Kind.CONNECT_TLS,))
            self._add("unix", Mode.CONNECT, True, (Kind.CONNECT_UNIX,))

    def _add(self, name: str, mode: Mode, uds: bool, kinds: tuple[Kind, ...]) -> None:
        server = Server(self._world, self.pair.server, mode, uds=uds, name=f"{name}-server")
        agent = Agent(self._world, self.pair.agent, server.agent_port, name=f"{name}-agent")
        self._pairs.append((server, agent))
        self.programs += [server, agent]
        for kind in kinds:
            client = f"{name} {kind}"
            directory = f"{name}-{kind}"
            self.clients[client] = make_client(self._world, server, kind, directory)

    async def start(self) -> None:
        for server, agent in self._pairs:
            server.start()
            await server.started()
            agent.start()
            await server.ready()

    def stop(self) -> None:
        for client in self.clients.values():
            client.close()
        for program in self.programs:
            program.kill()

    def usage(self) -> dict[str, Usage]:
        return {program.log.stem: Usage.of(program.pid) for program in self.programs}

    async def busy_gauges(self) -> dict[str, float]:
        """Those that are not 0, though no client is there."""
        busy = {}
        for program in self.programs:
            _, text = await http_get(program.health, "/metrics")
            for name, value in gauges(text).items():
                if value and not name.startswith(LASTING):
                    busy[f"{program.log.stem} {name}"] = value
        return busy


async def load(setup: Setup, targets: Targets, seconds: float, workers: int) -> Counter[str]:
    """Load all clients; what came of each action, by client."""
    outcomes: Counter[str] = Counter()
    end = trio.current_time() + seconds
    async with trio.open_nursery() as nursery:
        for client in setup.clients.values():
            for _ in range(workers):
                nursery.start_soon(work, client, targets, end, outcomes)
    return outcomes


async def settle(setup: Setup, targets: Targets) -> dict[str, float]:
    """Wait until nothing is left, or long enough; what is left."""

    async def is_quiet() -> bool:
        return not await setup.busy_gauges()

    await trio.sleep(PENDING)
    with trio.move_on_after(SETTLE):
        await until(lambda: not targets.open, 0.1)
        await until_true(is_quiet)
    left = await setup.busy_gauges()
    if targets.open:
        left["connections at targets"] = targets.open
    return left


async def soak(setup: Setup, minutes: float, workers: int) -> bool:
    """One pair, whole; whether nothing is left."""
    await setup.start()
    async with open_targets() as targets:
        await load(setup, targets, WARM_UP, workers)
        left = await settle(setup, targets)
        usages = [setup.usage()]
        outcomes: Counter[str] = Counter()
        for _ in range(ROUNDS):
            outcomes += await load(setup, targets, minutes * 60 / ROUNDS, workers)
            left |= await settle(setup, targets)
            usages.append(setup.usage())
    report_outcomes(setup.pair, outcomes)
    return report_left(setup.pair, usages, left)


def report_outcomes(pair: Pair, outcomes: Counter[str]) -> None:
    print(f"\n{pair}: {outcomes.total()} actions\n\n| action | outcome | times |\n|---|---|---|")
    for name, times in sorted(outcomes.items()):
        action, _, outcome = name.partition(": ")
        print(f"| {action} | {outcome} | {times} |")


def report_left(pair: Pair, usages: list[dict[str, Usage]], left: dict[str, float]) -> bool:
    print(f"\n{pair}, after warm-up and after each round\n")
    print("| process | descriptors | resident, MiB |\n|---|---|---|")
    sound = not left
    for name in usages[0]:
        descriptors = [usage[name].descriptors for usage in usages]
        resident = [usage[name].resident for usage in usages]
        sound &= descriptors[-1] <= descriptors[0] and resident[-1] <= _bound(resident[:-1])
        memory = ", ".join(f"{size / 1024:.0f}" for size in resident)
        print(f"| {name} | {', '.join(map(str, descriptors))} | {memory} |")
    for gauge, value in left.items():
        print(f"\nleft: {gauge} = {value:g}")
    print("\nnothing is left" if sound else "\nSOMETHING IS LEFT", flush=True)
    return sound


def _bound(resident: list[int]) -> float:
    factor, more = GROWTH
    return factor * max(resident) + more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument(
        "--pair", action="append", type=Pair.parse, help="default: ours, ours-go, go-ours"
    )
    parser.add_argument("--workers", type=int, default=4, help="for each kind of client")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random.seed(options.seed)
    sound = True
    with tempfile.TemporaryDirectory(prefix="soak") as directory:
        pki = Path(directory) / "pki"
        Pki(pki).init(["127.0.0.1"], "demo")
        for pair in options.pair or map(Pair.parse, ("ours", "ours-go", "go-ours")):
            place = Path(directory) / f"{pair.server}-{pair.agent}"
            place.mkdir()
            setup = Setup(pair, World(place, pki, agent_flags=QUICK))
            try:
                sound &= trio.run(soak, setup, options.minutes, options.workers)
            finally:
                setup.stop()
    sys.exit(not sound)


if __name__ == "__main__":
    main()
