"""Tunnels that come in a WebSocket: a server with a listener for them, and agents of their own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from tests.tunneld.peers import ESTABLISHED, PlainPeer, connect, open_unix, reset_socket
from tests.tunneld.tunnelworld import World, open_world
from tunneld.agent.role import AgentRole
from tunneld.config import WebsocketListener
from tunneld.role import RoleState


def listener(**change: Any) -> WebsocketListener:
    return WebsocketListener(**{"listen": "127.0.0.1:0", **change})


@asynccontextmanager
async def open_websocket_world(
    pki: Path, tmp_path: Path, *, websocket: WebsocketListener | None = None, **options: Any
) -> AsyncIterator[World]:
    """Without an agent."""
    options.setdefault("server_options", {})["websocket"] = websocket or listener()
    async with open_world(pki, tmp_path, agent=False, **options) as world:
        yield world


def websocket_address(world: World) -> str:
    return world.addresses[-1]


def websocket_port(world: World) -> int:
    return int(websocket_address(world).rpartition(":")[2])


def direct_address(world: World) -> str:
    return world.addresses[-2]


async def start_agent(world: World, **change: Any) -> None:
    """An agent with another configuration; by default it comes to the WebSocket listener."""
    config = {"server": f"ws://{websocket_address(world)}/tunnel", **change}
    world.agent_host = world.host("agent")
    world.agent = AgentRole(msgspec.structs.replace(world.agent_config, **config), world.agent_host)
    world.agent_scope, world.agent_done = trio.CancelScope(), trio.Event()
    await world.nursery.start(world._run, world.agent, world.agent_scope, world.agent_done)


async def connected_agent(world: World, **change: Any) -> None:
    before = len(world.server.agents())
    await start_agent(world, **change)
    await world.until(lambda: world.states[-1][1] in (RoleState.READY, RoleState.BACKOFF))
    assert world.states[-1][1] is RoleState.READY, world.states[-1]
    await world.until(lambda: len(world.server.agents()) > before)


async def why_not(world: World, **change: Any) -> str:
    """What an agent says after its first try, which fails."""
    await start_agent(world, **change)
    await world.until(lambda: world.states[-1][1] is RoleState.BACKOFF)
    world.agent_scope.cancel()
    with trio.fail_after(5):
        await world.agent_done.wait()
    return world.states[-1][2].partition(": ")[2]


async def failed(world: World) -> None:
    """Wait for an agent's first try to fail, by the test's clock."""
    with trio.fail_after(60):
        while world.states[-1][1] is not RoleState.BACKOFF:  # noqa: ASYNC110 - as `World.until`
            await trio.sleep(0.5)


async def dial(world: World, port: int) -> PlainPeer:
    """A connection through the tunnel to an endpoint of this machine."""
    peer = await open_unix(world.unix_frontend)
    assert await connect(peer, f"127.0.0.1:{port}") == ESTABLISHED
    return peer


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)
    await stream.send_eof()


async def check_echo(world: World) -> None:
    """The tunnel carries octets both ways, and an end."""
    port = await world.endpoint(echo)
    with trio.fail_after(10):
        peer = await dial(world, port)
        await peer.send_all(b"there and back")
        await peer.send_eof()
        octets = b""
        while data := await peer.receive_some():
            octets += data
        assert octets == b"there and back"
        await peer.stream.aclose()


class Cable:
    """A port that leads to another one, until it is cut."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._streams: list[trio.SocketStream] = []

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._serve, listeners)

    async def _serve(self, near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream("127.0.0.1", self._target)
        self._streams += [near, far]
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._copy, near, far)
                nursery.start_soon(self._copy, far, near)
        finally:
            near.socket.close()
            far.socket.close()

    async def _copy(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        try:
            async for data in source:
                await sink.send_all(data)
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    def cut(self) -> None:
        """Reset what runs, both ways."""
        streams, self._streams = self._streams, []
        for stream in streams:
            reset_socket(stream.socket)


async def lay_cable(world: World) -> Cable:
    """To the WebSocket listener."""
    cable = Cable(websocket_port(world))
    await world.nursery.start(cable.run)
    return cable
