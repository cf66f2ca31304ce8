"""Agents and servers of ours, several of each behind one address."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from tests.tunneld.peers import ESTABLISHED, connect, open_unix, receive_all
from tests.tunneld.tunnelworld import World, open_world
from tunneld.role import RoleState
from tunneld.server.role import ServerRole


class Balancer:
    """One address for several, in turn."""

    def __init__(self, nursery: trio.Nursery, addresses: list[str]) -> None:
        self._nursery = nursery
        self._addresses = itertools.cycle(addresses)
        self.taken = 0

    async def start(self) -> str:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self._nursery.start_soon(trio.serve_listeners, self._forward, [listener])
        return f"127.0.0.1:{listener.socket.getsockname()[1]}"

    async def _forward(self, near: trio.SocketStream) -> None:
        self.taken += 1
        host, port = next(self._addresses).rsplit(":", 1)
        try:
            far = await trio.open_tcp_stream(host, int(port))
        except OSError:
            return
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(self._copy, near, far, nursery.cancel_scope)
            nursery.start_soon(self._copy, far, near, nursery.cancel_scope)

    @staticmethod
    async def _copy(
        source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        try:
            async for octets in source:
                await sink.send_all(octets)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()


class Pair:
    """The world's server and another one, an agent for both."""

    def __init__(self, world: World, second: ServerRole, balancer: Balancer) -> None:
        self.world = world
        self.second = second
        self.balancer = balancer

    async def connected(self) -> None:
        await self.world.until(lambda: self.world.server.agents() and self.second.agents())


@asynccontextmanager
async def open_servers(pki: Path, tmp_path: Path) -> AsyncIterator[Pair]:
    options = {"server_id": "first", "server_count": 2}
    pace = {"sync_interval": 0.01}
    async with open_world(
        pki, tmp_path, agent=False, server_options=options, agent_options=pace
    ) as world:
        config = msgspec.structs.replace(
            world.server_config,
            name="second",
            server_id="second",
            frontends=world.server_config.frontends[:1],
        )
        second = ServerRole(config, world.host("second"))
        addresses = await world.nursery.start(second.run)
        # Each of them twice: so the agent meets one again before it has both.
        balancer = Balancer(world.nursery, [*[world.tunnel_address] * 2, *[addresses[-1]] * 2])
        world.addresses[-1] = await balancer.start()
        await world.start_agent()
        pair = Pair(world, second, balancer)
        await pair.connected()
        yield pair


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)
    await stream.send_eof()


async def test_an_agent_connects_to_both_once(pki: Path, tmp_path: Path) -> None:
    async with open_servers(pki, tmp_path) as pair:
        world = pair.world
        await world.until(lambda: world.agent.connected == 2)
        assert world.states[-1] == ("agent", RoleState.READY, "connected to 2 of 2 servers")
        assert pair.balancer.taken == 3
        assert len(world.server.agents()) == len(pair.second.agents()) == 1


async def test_an_agent_that_is_met_again_takes_no_dials_by_that(pki: Path, tmp_path: Path) -> None:
    async with open_servers(pki, tmp_path) as pair:
        world = pair.world
        port = await world.endpoint(echo)
        peer = await open_unix(world.unix_frontend)
        assert await connect(peer, f"127.0.0.1:{port}") == ESTABLISHED
        await peer.send_all(b"hello")
        await peer.send_eof()
        assert await receive_all(peer) == b"hello"
        await peer.stream.aclose()


async def test_a_server_that_drains_leaves_the_other(pki: Path, tmp_path: Path) -> None:
    async with open_servers(pki, tmp_path) as pair:
        world = pair.world
        await world.until(lambda: world.agent.connected == 2)
        peer = await open_unix(world.unix_frontend)
        assert await connect(peer, f"127.0.0.1:{await world.endpoint(echo)}") == ESTABLISHED
        world.server_host.drain.set()
        await peer.send_all(b"still served")
        assert await peer.receive_some() == b"still served"
        await peer.send_eof()
        assert await receive_all(peer) == b""
        await world.server_done.wait()
        await world.until(lambda: world.states[-1][2] == "connected to 1 of 2 servers")
        assert len(pair.second.agents()) == 1
        await peer.stream.aclose()


async def test_a_token_goes_to_servers_of_ours_too(pki: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    async with open_world(pki, tmp_path, agent_options={"token_path": str(token)}) as world:
        (tunnel,) = world.server._registry.tunnels
        assert tunnel.info.authorization == "Bearer secret"
