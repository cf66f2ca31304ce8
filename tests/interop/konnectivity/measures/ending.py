"""How long connections live when their server is told to stop, and who notices that a peer is gone
or silent."""

import math
import signal

import trio

from tests.interop.konnectivity.cell import Cell, Kind
from tests.interop.konnectivity.exchange import IncompleteError
from tests.interop.konnectivity.measures.bench import Bench, Row, in_words, seconds
from tests.interop.konnectivity.measures.silence import open_balancer, open_silent_server
from tests.interop.konnectivity.programs import Agent, Mode, Server
from tests.interop.konnectivity.steps import say
from tests.interop.konnectivity.targets import echo, open_target

USED = 5.0
"""Seconds that a client goes on using its connection after the server was told to stop."""

GRACE = 15
EXIT_LIMIT = 30.0
SILENCE_LIMIT = 60.0


async def graceful_shutdown(bench: Bench) -> list[Row]:
    """SIGTERM to a server while a connection is in use."""
    rows = []
    for kind in (Kind.CONNECT_TLS, Kind.SINGLE_USE):
        for grace in (0, GRACE):
            flags = (f"--graceful-shutdown-timeout={grace}s",)
            async with bench.cell(kind, flags) as cell, open_target(echo) as target:
                stream = await cell.client.dial(target.address)
                lived, ended = await _shut_down(cell, stream)
            what = f"SIGTERM to the server (grace {grace} s), {kind}: the connection lived; exit"
            rows.append((what, f"{_lived(lived)}; {in_words(ended, EXIT_LIMIT)}"))
    return rows


async def _shut_down(cell: Cell, stream: trio.abc.Stream) -> tuple[float, float]:
    """Seconds that the connection was of use, and seconds from its end to the server's."""
    start = trio.current_time()
    cell.server.signal(signal.SIGTERM)
    with trio.move_on_after(USED):
        try:
            while True:
                await say(stream, b"still there?")
                await trio.sleep(0.05)
        except (IncompleteError, trio.BrokenResourceError):
            pass
    lived = trio.current_time() - start
    await trio.aclose_forcefully(stream)
    return lived, await seconds(cell.server.ended, EXIT_LIMIT)


def _lived(duration: float) -> str:
    return "until its client closed" if duration >= USED else in_words(duration)


async def silent_server(bench: Bench) -> list[Row]:
    """Two servers behind one address. The first that an agent gets accepts and says nothing."""
    world = bench.world(agent_flags=())
    server = Server(world, bench.pair.server, Mode.GRPC)
    try:
        server.start()
        await server.started()
        async with (
            open_silent_server(bench.pki) as silent,
            open_balancer([silent, server.agent_port]) as port,
        ):
            agent = Agent(world, bench.pair.agent, port)
            try:
                agent.start()
                took = await seconds(agent.ready, SILENCE_LIMIT)
            except RuntimeError:
                took = math.inf
            finally:
                agent.kill()
    finally:
        server.kill()
    what = "a silent server first, a good one next: agent ready"
    return [(what, in_words(took, SILENCE_LIMIT))]
