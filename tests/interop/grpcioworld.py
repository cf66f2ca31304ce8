"""What the tests with `grpcio` peers have around them: our side, endpoints, exchanges."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import pytest
import trio

from tests.interop.grpcioagent import Agent, open_agent
from tests.interop.grpciocalls import PacketCall, connect, open_call, open_channel, proxy
from tests.tunneld.policies import OPEN_AGENT
from tests.tunneld.tunnelworld import World, open_world
from tunneld import client
from tunneld.agent.role import AgentRole
from tunneld.config import AgentConfig
from tunneld.pki import Pki
from tunneld.reactor import Reactor
from tunneld.role import Host, RoleState

MIB = 1 << 20
LIMIT = 30.0
"""Seconds for any one test, so that it says where it hangs."""
AGENTS = ("ours", "grpcio")


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


async def pour(stream: trio.SocketStream | Stream) -> None:
    """Send without end."""
    while True:
        await stream.send_all(bytes(1 << 16))


async def exchange(stream: Stream, octets: bytes) -> None:
    """Have `echo` send ``octets`` back, in the meantime."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, octets)
        assert await receive(stream, len(octets)) == octets


async def is_reset(what: Awaitable[object]) -> None:
    """Of a stream's calls: that it fails."""
    with pytest.raises(trio.BrokenResourceError):
        await what


async def echo(stream: trio.SocketStream) -> None:
    """An endpoint that sends back what it gets."""
    async for octets in stream:
        await stream.send_all(octets)


async def sink(stream: trio.SocketStream) -> None:
    """An endpoint that reads, and says nothing."""
    async for _ in stream:
        pass


def certificates(directory: Path) -> Path:
    """For a server at 127.0.0.1, an agent ``demo``, and a client."""
    Pki(directory / "pki").init(["127.0.0.1"], "demo")
    return directory / "pki"


# -- our server, and what connects to it ------------------------------------------------------


@asynccontextmanager
async def open_server_of_ours(pki: Path, tmp_path: Path, **options: object) -> AsyncIterator[World]:
    """A server without an agent. It takes a client's end for its last word, unless told
    otherwise."""
    defaults = {"any_agent_id": True, "server_id": "srv-1", "half_close_grace": 0}
    async with open_world(pki, tmp_path, agent=False, server_options=defaults | options) as world:
        with trio.fail_after(LIMIT):
            yield world


@contextmanager
def agent_channel(world: World, **options: Any) -> Iterator[Any]:
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


@asynccontextmanager
async def agent_of(world: World, whose: str) -> AsyncIterator[None]:
    """An agent, of one of `AGENTS`."""
    if whose == "grpcio":
        async with joined_agent(world):
            yield
    else:
        await world.start_agent()
        await world.connected()
        yield


@asynccontextmanager
async def agent_by_hand(world: World, **options: Any) -> AsyncIterator[PacketCall]:
    """An agent's call, to be served by the test."""
    with agent_channel(world, **options) as channel:
        async with open_call(connect(channel), [("agentid", "by-hand")]) as call:
            await call.greeted.wait()
            await world.connected()
            yield call


@contextmanager
def client_channel(world: World, frontend: str = "tls", **options: Any) -> Iterator[Any]:
    """To one of our server's frontends, over TLS by a client's certificate."""
    if frontend == "unix":
        with open_channel(f"unix:{world.unix_frontend}", **options) as channel:
            yield channel
    else:
        address = "{}:{}".format(*world.frontend)
        with open_channel(address, world.pki, "frontend/client", **options) as channel:
            yield channel


@asynccontextmanager
async def call_by_hand(world: World, timeout: float | None = None) -> AsyncIterator[PacketCall]:
    """A client's call, to be served by the test."""
    with client_channel(world) as channel:
        async with open_call(proxy(channel), timeout=timeout) as call:
            yield call


async def at_rest(world: World) -> None:
    """Wait until nothing is left of any connection."""
    await world.until(lambda: not world.server.conns())


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


# -- our agent ---------------------------------------------------------------------------------


class OurAgent:
    """It, and how it fares."""

    def __init__(
        self,
        role: AgentRole,
        host: Host,
        states: list[tuple[RoleState, str]],
        nursery: trio.Nursery,
    ) -> None:
        self.role = role
        self.host = host
        self.states = states
        self.done = trio.Event()
        self._nursery = nursery

    async def run(self, task_status: trio.TaskStatus[list[str]]) -> None:
        await self.role.run(task_status)
        self.done.set()

    @property
    def servers(self) -> set[str]:
        """Ids of those it is connected to."""
        return {link.server_id for link in self.role.links}

    async def endpoint(self, serve: Callable[[trio.SocketStream], Awaitable[None]]) -> str:
        """Serve TCP by ``serve``, where the agent reaches it; returns the address."""

        async def handler(stream: trio.SocketStream) -> None:
            with suppress(trio.BrokenResourceError):
                await serve(stream)

        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self._nursery.start_soon(trio.serve_listeners, handler, [listener])
        return "{}:{}".format(*listener.socket.getsockname())

    async def has(self, *server_ids: str) -> None:
        """Wait until it is connected to these and no others."""
        await until(lambda: self.servers == set(server_ids))


async def until(true: Callable[[], object]) -> None:
    """Wait for what other tasks bring about."""
    while not true():  # noqa: ASYNC110 - nothing tells about things as various as these
        await trio.sleep(0.002)


@asynccontextmanager
async def open_our_agent(pki: Path, address: str, **options: Any) -> AsyncIterator[OurAgent]:
    """An agent that connects to ``address``, without waiting between its attempts."""
    files = {"cert": "agent/agent.crt", "key": "agent/agent.key", "ca": "agent/ca.crt"}
    pace = {"backoff_min": 0.01, "backoff_max": 0.05, "sync_interval": 0.01}
    config = AgentConfig(
        policy=OPEN_AGENT, name="agent", server=address, **(files | pace | options)
    )
    reactor = Reactor()
    states: list[tuple[RoleState, str]] = []
    host = Host("agent", reactor, pki, lambda *state: states.append(state))
    async with trio.open_nursery() as outer:
        await outer.start(reactor.run)
        async with trio.open_nursery() as nursery:
            agent = OurAgent(AgentRole(config, host), host, states, nursery)
            await nursery.start(agent.run)
            with trio.fail_after(LIMIT):
                yield agent
            nursery.cancel_scope.cancel()
        outer.cancel_scope.cancel()
    reactor.close()
