"""A path that carries nothing any more: who notices, and when. Needs root.

    server here ── zk1 ── [router] ── zk2 ── agent in a namespace

The router stops forwarding, silently. Settings are the programs' defaults.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio

from tests.interop.konnectivity.cell import Kind, make_client
from tests.interop.konnectivity.clients import Client, DialError
from tests.interop.konnectivity.measures.bench import Bench, Row, in_words, seconds
from tests.interop.konnectivity.nurseries import open_plain_nursery
from tests.interop.konnectivity.programs import Agent, Mode, Server
from tests.interop.konnectivity.steps import until

LIMIT = 90.0
ROUTER, INNER = "interop-router", "interop-agent"
SERVER_ADDRESS = "10.213.1.1"
ESTABLISHED = "01"

SETUP = f"""
netns add {ROUTER}
netns add {INNER}
link add zk1 type veth peer name zk1r netns {ROUTER}
link add zk2 netns {INNER} type veth peer name zk2r netns {ROUTER}
addr add {SERVER_ADDRESS}/24 dev zk1
link set zk1 up
route add 10.213.2.0/24 via 10.213.1.2
-n {ROUTER} addr add 10.213.1.2/24 dev zk1r
-n {ROUTER} addr add 10.213.2.2/24 dev zk2r
-n {ROUTER} link set zk1r up
-n {ROUTER} link set zk2r up
-n {INNER} addr add 10.213.2.1/24 dev zk2
-n {INNER} link set lo up
-n {INNER} link set zk2 up
-n {INNER} route add default via 10.213.2.2
"""
"""Arguments of ``ip``, a line for each call."""


def _ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True)


def _forward(on: bool) -> None:
    _ip(f"netns exec {ROUTER} sysctl -q net.ipv4.ip_forward={int(on)}")


@contextmanager
def _network() -> Iterator[None]:
    try:
        for line in SETUP.strip().splitlines():
            _ip(line)
        _forward(True)
        yield
    finally:
        for name in (ROUTER, INNER):
            subprocess.run(["ip", "netns", "del", name], check=False)


async def dead_path(bench: Bench) -> list[Row]:
    """Idle, and with a client that dials each second."""
    rows = []
    for name, busy in (("idle", False), ("with dials", True)):
        with _network():
            server, agent, failed = await _notice(bench, busy=busy)
        rows.append((f"dead path, {name}: server notices", in_words(server, LIMIT)))
        rows.append((f"dead path, {name}: agent notices", in_words(agent, LIMIT)))
        if busy:
            rows.append(("dead path, with dials: the first dial fails", in_words(failed, LIMIT)))
    return rows


async def _notice(bench: Bench, *, busy: bool) -> tuple[float, float, float]:
    """Seconds until the server and the agent have closed their connection, and a dial failed."""
    world = bench.world(agent_flags=())
    server = Server(world, bench.pair.server, Mode.CONNECT, agent_address=SERVER_ADDRESS)
    inside = ("ip", "netns", "exec", INNER)
    agent = Agent(world, bench.pair.agent, server.agent_port, host=SERVER_ADDRESS, inside=inside)
    try:
        server.start()
        await server.started()
        agent.start()
        await server.ready()
        client = make_client(world, server, Kind.CONNECT_TLS)
        return await _times(server, agent, client, busy=busy)
    finally:
        agent.kill()
        server.kill()


async def _times(
    server: Server, agent: Agent, client: Client, *, busy: bool
) -> tuple[float, float, float]:
    times: dict[str, float] = {}

    async def measure(name: str, pid: int) -> None:
        gone = partial(_is_gone, pid, server.agent_port)
        times[name] = await seconds(partial(until, gone, 0.2), LIMIT)

    async def dials() -> None:
        address = f"{SERVER_ADDRESS}:1"  # refused, while the path lives
        while True:
            start = trio.current_time()
            try:
                await client.dial(address, LIMIT)
            except DialError:
                times.setdefault("dial", trio.current_time() - start)
            await trio.sleep(1)

    await trio.sleep(2)
    _forward(False)
    async with open_plain_nursery() as background:
        if busy:
            background.start_soon(dials)
        async with open_plain_nursery() as nursery:
            nursery.start_soon(measure, "server", server.pid)
            nursery.start_soon(measure, "agent", agent.pid)
        background.cancel_scope.cancel()
    return times["server"], times["agent"], times.get("dial", float("inf"))


def _is_gone(pid: int, port: int) -> bool:
    """Whether no established TCP connection from or to ``port`` is left where ``pid`` is."""
    wanted = f":{port:04X}"
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state = line.split()[:4]
        if state == ESTABLISHED and (local.endswith(wanted) or remote.endswith(wanted)):
            return False
    return True
