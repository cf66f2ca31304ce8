"""Two agents with one id at one server."""

from functools import partial

import trio

from tests.interop.konnectivity.cell import Kind
from tests.interop.konnectivity.clients import Client
from tests.interop.konnectivity.exchange import Reader, send
from tests.interop.konnectivity.measures.bench import Bench, Row
from tests.interop.konnectivity.nurseries import open_plain_nursery
from tests.interop.konnectivity.targets import Target, open_target

OCTETS = 100_000
"""That each of two targets sends to its client."""

WAIT = 3.0
"""Seconds in which they arrive."""


async def twin_agents(bench: Bench) -> list[Row]:
    """Each of the two is chosen for another destination; both count connections from 1."""
    rows = []
    for kind in (Kind.CONNECT_TLS, Kind.SINGLE_USE):
        strategies = ("--proxy-strategies=destHost,default",)
        first = ("--agent-identifiers=host=localhost",)
        async with bench.cell(kind, strategies, first) as cell:
            twin = cell.another_agent(
                "twin",
                agent_id=cell.agent.agent_id,
                flags=("--agent-identifiers=ipv4=127.0.0.1",),
            )
            twin.start()
            try:
                await twin.ready()
                wrong, lost = await _mixed_up(cell.client)
            finally:
                twin.kill()
        what = f"two agents with one id, {kind}: octets to the wrong client; to nobody"
        rows.append((what, f"{wrong} of {2 * OCTETS}; {lost}"))
    return rows


async def _mixed_up(client: Client) -> tuple[int, int]:
    """Octets that the wrong client got, and those that none got."""
    got = {b"a": b"", b"b": b""}

    async def read(letter: bytes, stream: trio.abc.Stream) -> None:
        reader = Reader(stream)
        while octets := await reader.some(OCTETS):
            got[letter] += octets

    async with (
        open_target(partial(_send_when_asked, b"a")) as one,
        open_target(partial(_send_when_asked, b"b")) as other,
    ):
        streams = {
            b"a": await client.dial(f"localhost:{one.port}"),
            b"b": await client.dial(f"127.0.0.1:{other.port}"),
        }
        with trio.move_on_after(WAIT):
            async with open_plain_nursery() as nursery:
                for letter, stream in streams.items():
                    nursery.start_soon(read, letter, stream)
                    await stream.send_all(b"?")
        for stream in streams.values():
            await trio.aclose_forcefully(stream)
    wrong = got[b"a"].count(b"b") + got[b"b"].count(b"a")
    return wrong, 2 * OCTETS - len(got[b"a"]) - len(got[b"b"])


async def _send_when_asked(letter: bytes, target: Target, stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await send(stream, letter * OCTETS)
    await trio.sleep_forever()
