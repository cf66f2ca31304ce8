"""What the tests do over and over."""

from collections.abc import Awaitable, Callable

import trio

from tests.interop.konnectivity.cell import Cell
from tests.interop.konnectivity.clients import Client, DialError
from tests.interop.konnectivity.exchange import Reader, body_of, pattern, post, send
from tests.interop.konnectivity.metrics import total
from tests.interop.konnectivity.programs import Agent

ENDLESS = 1 << 40
"""Octets that the `endless` target promises."""

BATCH = 12
"""Connections, of which chance does not let one agent of two have all."""


async def until(condition: Callable[[], object], interval: float = 0.01) -> None:
    """Within the test's time limit; it is asked each ``interval`` seconds."""
    while not condition():  # noqa: ASYNC110  (of another process, or of a plain counter)
        await trio.sleep(interval)


async def until_true(condition: Callable[[], Awaitable[bool]]) -> None:
    """Within the test's time limit."""
    while not await condition():  # noqa: ASYNC110
        await trio.sleep(0.05)


async def ask(client: Client, address: str) -> None:
    """One dial of a `targets.http`, and one exchange."""
    octets = pattern(1000)
    stream = await client.dial(address)
    assert await post(stream, octets) == body_of(octets)
    await stream.aclose()


async def say(stream: trio.abc.Stream, octets: bytes) -> None:
    """To a `targets.echo`, and have it back."""
    await stream.send_all(octets)
    assert await Reader(stream).exactly(len(octets)) == octets


async def begin(stream: trio.abc.Stream) -> Reader:
    """The first octets of the body of `targets.endless`."""
    await send(stream, b"GET / HTTP/1.1\r\n\r\n")
    reader = Reader(stream)
    first, size = await reader.head()
    assert (first, size) == ("HTTP/1.1 200 OK", ENDLESS)
    await reader.exactly(1 << 20)
    return reader


async def open_connections(agent: Agent) -> int:
    return int(total(await agent.metrics(), "agent_open_endpoint_connections"))


async def gets_all(cell: Cell, address: str, agent: Agent) -> bool:
    """Whether ``agent`` has each of `BATCH` connections to a `targets.echo`."""
    before = await open_connections(agent)
    streams = []
    try:
        for _ in range(BATCH):
            streams.append(await cell.client.dial(address))
            await say(streams[-1], b"here")
        return await open_connections(agent) == before + BATCH
    finally:
        for stream in streams:
            await stream.aclose()
        await until_true(lambda: _has(agent, before))


async def _has(agent: Agent, connections: int) -> bool:
    return await open_connections(agent) == connections


async def answers(cell: Cell, address: str) -> bool:
    """Whether a `targets.echo` can be dialled; at once after a change it may not be."""
    try:
        stream = await cell.client.dial(address)
    except DialError:
        return False
    await say(stream, b"here")
    await stream.aclose()
    return True
