"""What the tests with `grpcio` peers have around them: our side, endpoints, exchanges."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import trio

from tests.interop.grpciocalls import open_channel
from tests.interop.grpciopeers import Agent, open_agent
from tests.tunneld.tunnelworld import World
from tunneld import client
from tunneld.pki import Pki

MIB = 1 << 20
LIMIT = 30.0
"""Seconds for any one test, so that it says where it hangs."""


class Stream(Protocol):
    """A connection to an endpoint, by whatever client."""

    async def send_all(self, data: bytes) -> None: ...

    async def receive_some(self) -> bytes | bytearray:
        """b"" at the end."""


async def receive(stream: Stream, size: int) -> bytes:
    """``size`` octets."""
    octets = bytearray()
    while len(octets) < size:
        more = await stream.receive_some()
        assert more, f"{len(octets)} of {size} octets"
        octets += more
    return bytes(octets)


async def receive_all(stream: Stream) -> bytes:
    """All octets up to the end."""
    octets = bytearray()
    while more := await stream.receive_some():
        octets += more
    return bytes(octets)


async def pour(stream: trio.abc.SendStream) -> None:
    """Send without end."""
    while True:
        await stream.send_all(bytes(1 << 16))


async def exchange(stream: Stream, octets: bytes) -> None:
    """Have `echo` send ``octets`` back, in the meantime."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, octets)
        assert await receive(stream, len(octets)) == octets


async def echo(stream: trio.SocketStream) -> None:
    """An endpoint that sends back what it gets."""
    async for octets in stream:
        await stream.send_all(octets)


async def sink(stream: trio.SocketStream) -> None:
    """An endpoint that reads, and says nothing."""
    async for _ in stream:
        pass


@contextmanager
def agent_channel(world: World, **options: object) -> Iterator[Any]:
    """To our server, by an agent's certificate."""
    with open_channel(world.tunnel_address, world.pki, "agent/agent", **options) as channel:
        yield channel


@asynccontextmanager
async def joined_agent(
    world: World, agent_id: str = "grpcio", identifiers: str = ""
) -> AsyncIterator[Agent]:
    """An agent by grpcio that our server has taken."""
    with agent_channel(world) as channel:
        async with open_agent(channel, agent_id, identifiers) as agent:
            await world.until(lambda: agent_id in ids(world))
            yield agent


def ids(world: World) -> list[str]:
    """Of the agents that our server has."""
    return [agent["id"] for agent in world.server.agents()]


@asynccontextmanager
async def our_client(world: World) -> AsyncIterator[client.Client]:
    """For CONNECT to our server, over TLS."""
    host, port = world.frontend
    own = world.pki / "frontend"
    async with client.connect(
        f"{host}:{port}", cert=own / "client.crt", key=own / "client.key", ca=own / "ca.crt"
    ) as ours:
        yield ours


def certificates(directory: Path) -> Path:
    """For a server at 127.0.0.1, an agent ``demo``, and a client."""
    Pki(directory / "pki").init(["127.0.0.1"], "demo")
    return directory / "pki"
