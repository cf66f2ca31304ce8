"""Dials that are one too many: refused at once, with which limit it is; the others go on."""

import hashlib
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from tests.tunneld.peers import (
    ESTABLISHED,
    PlainPeer,
    TlsPeer,
    connect,
    open_h2,
    open_tls,
    open_unix,
    receive_all,
)
from tests.tunneld.tunnelworld import World, open_world
from tunneld.config import AgentLimits, Limits, LimitsFor


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)
    await stream.send_eof()


def limited(**limits: Any) -> dict[str, Any]:
    return {
        "limits": msgspec.convert({key.replace("_", "-"): v for key, v in limits.items()}, Limits)
    }


@contextmanager
def full_listener() -> Iterator[int]:
    """The port of one that never answers: nobody accepts, and its backlog is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def unix(world: World, stack: AsyncExitStack) -> PlainPeer:
    peer = await open_unix(world.unix_frontend)
    stack.push_async_callback(peer.stream.aclose)
    return peer


async def tls(world: World, stack: AsyncExitStack) -> TlsPeer:
    peer = await open_tls(world.frontend, world.pki)
    stack.push_async_callback(trio.aclose_forcefully, peer.stream)
    return peer


@pytest.mark.parametrize(
    ("limit", "who"),
    [
        ("client-connections", "client user:"),
        ("agent-connections", "agent demo"),
        ("connections", "this server"),
    ],
)
async def test_a_connection_too_many_is_refused_with_the_limit_and_the_others_go_on(
    pki: Path, tmp_path: Path, limit: str, who: str
) -> None:
    options = limited(**{limit: 2})
    async with (
        open_world(pki, tmp_path, server_options=options) as world,
        AsyncExitStack() as stack,
    ):
        port = await world.endpoint(echo)
        authority = f"127.0.0.1:{port}"
        first, second, third = [await unix(world, stack) for _ in range(3)]
        assert await connect(first, authority) == ESTABLISHED
        assert await connect(second, authority) == ESTABLISHED
        reply = await connect(third, authority)
        assert reply.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"error=connection_limit_reached" in reply
        assert b"\r\nRetry-After: 5\r\n" in reply
        assert f"limit reached: {who}".encode() in reply
        assert f"has 2 connections ({limit} = 2)".encode() in reply
        assert world.server.telemetry.tunneld_refused_dials_total[limit] == 1
        await first.send_all(b"still there")
        assert await first.receive_some() == b"still there"
        await second.send_eof()
        assert await receive_all(second) == b""
        await world.until(lambda: len(world.server.conns()) == 1)
        assert await connect(await unix(world, stack), authority) == ESTABLISHED


async def test_each_client_has_its_own_limit(pki: Path, tmp_path: Path) -> None:
    options = limited(client_connections=1)
    async with (
        open_world(pki, tmp_path, server_options=options) as world,
        AsyncExitStack() as stack,
    ):
        port = await world.endpoint(echo)
        authority = f"127.0.0.1:{port}"
        assert await connect(await unix(world, stack), authority) == ESTABLISHED
        assert await connect(await tls(world, stack), authority) == ESTABLISHED
        for peer in (await unix(world, stack), await tls(world, stack)):
            assert b" 503 " in await connect(peer, authority)


async def test_some_clients_have_limits_of_their_own(pki: Path, tmp_path: Path) -> None:
    limits = Limits(client_connections=1, for_=(LimitsFor(client=("user:*",), connections=3),))
    options = {"limits": limits}
    async with (
        open_world(pki, tmp_path, server_options=options) as world,
        AsyncExitStack() as stack,
    ):
        port = await world.endpoint(echo)
        authority = f"127.0.0.1:{port}"
        for _ in range(3):
            assert await connect(await unix(world, stack), authority) == ESTABLISHED
        assert b"client-connections = 3" in await connect(await unix(world, stack), authority)
        assert await connect(await tls(world, stack), authority) == ESTABLISHED
        assert b"client-connections = 1" in await connect(await tls(world, stack), authority)


async def test_new_dials_over_the_rate_are_refused(pki: Path, tmp_path: Path) -> None:
    options = limited(client_rate=0.001, client_burst=3)
    async with (
        open_world(pki, tmp_path, server_options=options) as world,
        AsyncExitStack() as stack,
    ):
        port = await world.endpoint(echo)
        replies = [await connect(await unix(world, stack), f"127.0.0.1:{port}") for _ in range(5)]
        assert replies[:3] == [ESTABLISHED] * 3
        assert all(b"client-rate = 0.001" in reply for reply in replies[3:])


async def test_dials_under_way_over_the_limit_are_refused_and_do_not_hang(
    pki: Path, tmp_path: Path
) -> None:
    options = limited(client_pending=2)
    async with (
        open_world(pki, tmp_path, server_options=options) as world,
        AsyncExitStack() as stack,
    ):
        waiting = [await unix(world, stack) for _ in range(2)]
        deaf = stack.enter_context(full_listener())
        for peer in waiting:
            await peer.send_all(f"CONNECT 127.0.0.1:{deaf} HTTP/1.1\r\nHost: -\r\n\r\n".encode())
        await world.until(lambda: len(world.server.conns()) == 2)
        port = await world.endpoint(echo)
        reply = await connect(await unix(world, stack), f"127.0.0.1:{port}")
        assert b"has 2 dials under way (client-pending = 2)" in reply
        for peer in waiting:
            await peer.stream.aclose()
        await world.until(lambda: not world.server.conns())
        assert await connect(await unix(world, stack), f"127.0.0.1:{port}") == ESTABLISHED


async def test_a_client_of_http2_is_refused_stream_by_stream(pki: Path, tmp_path: Path) -> None:
    options = limited(client_connections=1)
    async with open_world(pki, tmp_path, server_options=options) as world:
        port = await world.endpoint(echo)
        peer = await open_tls(world.frontend, world.pki, "h2")
        async with open_h2(peer) as client:
            first = await client.connect(f"127.0.0.1:{port}")
            assert (await first.response())[":status"] == "200"
            second = await client.connect(f"127.0.0.1:{port}")
            response = await second.response()
            assert response[":status"] == "503"
            assert response["retry-after"] == "5"
            assert "connection_limit_reached" in response["proxy-status"]
            await first.send_all(b"still there")
            assert await first.receive_some() == b"still there"


async def test_other_limits_take_effect_without_a_restart(pki: Path, tmp_path: Path) -> None:
    async with open_world(pki, tmp_path) as world, AsyncExitStack() as stack:
        port = await world.endpoint(echo)
        authority = f"127.0.0.1:{port}"
        peers = [await unix(world, stack) for _ in range(2)]
        for peer in peers:
            assert await connect(peer, authority) == ESTABLISHED
        config = msgspec.structs.replace(world.server_config, **limited(client_connections=1))
        world.server.prepare(config).commit()
        assert b"has 2 connections (client-connections = 1)" in await connect(
            await unix(world, stack), authority
        )
        await peers[0].send_all(b"still there")
        assert await peers[0].receive_some() == b"still there"
        world.server.prepare(world.server_config).commit()
        assert await connect(await unix(world, stack), authority) == ESTABLISHED


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (AgentLimits(connections=1), b"this agent has 1 connections (connections = 1)"),
        (AgentLimits(rate=0.001, burst=1), b"this agent dials more than 0.001 times a second"),
    ],
)
async def test_an_agent_has_limits_too(
    pki: Path, tmp_path: Path, limits: AgentLimits, text: bytes
) -> None:
    options = {"limits": limits}
    async with open_world(pki, tmp_path, agent_options=options) as world, AsyncExitStack() as stack:
        port = await world.endpoint(echo)
        authority = f"127.0.0.1:{port}"
        assert await connect(await unix(world, stack), authority) == ESTABLISHED
        reply = await connect(await unix(world, stack), authority)
        assert reply.startswith(b"HTTP/1.1 503 ")
        assert b"error=connection_limit_reached" in reply
        assert b"Retry-After: 1\r\n" in reply
        assert text in reply
        assert sum(world.agent.telemetry.tunneld_refused_dials_total.values()) == 1
        config = msgspec.structs.replace(
            world.agent_config, server=world.tunnel_address, limits=AgentLimits()
        )
        world.agent.prepare(config).commit()
        assert await connect(await unix(world, stack), authority) == ESTABLISHED


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_transfer_goes_as_fast_as_the_bandwidth_and_arrives_whole(
    pki: Path, tmp_path: Path, way: str
) -> None:
    rate, octets = 4_000_000, bytes(range(256)) * 16_384
    digests: list[str] = []

    async def endpoint(stream: trio.SocketStream) -> None:
        if way == "down":
            await stream.send_all(octets)
        else:
            digests.append(await digest_of(stream))
        await stream.send_eof()

    async def digest_of(stream: Any) -> str:
        digest = hashlib.sha256()
        while data := await stream.receive_some():
            digest.update(data)
        return digest.hexdigest()

    options = limited(client_bandwidth=rate)
    async with (
        open_world(pki, tmp_path, server_options=options) as world,
        AsyncExitStack() as stack,
    ):
        port = await world.endpoint(endpoint)
        peer = await unix(world, stack)
        assert await connect(peer, f"127.0.0.1:{port}") == ESTABLISHED
        began = trio.current_time()
        if way == "up":
            await peer.send_all(octets)
            await peer.send_eof()
            assert await peer.receive_some() == b""
        else:
            digests.append(await digest_of(peer))
            await peer.send_eof()
        seconds = trio.current_time() - began
        assert digests == [hashlib.sha256(octets).hexdigest()]
        assert seconds > 0.85 * len(octets) / rate, "a slow machine may take longer"
        await world.at_rest()
