"""Remote forwards: what connects to them, and what becomes of that."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.tunneld.peers import PlainPeer, receive_all
from tests.tunneld.server.test_frontend import Full, echo
from tests.tunneld.server.test_preamble import Sink, endpoint_of
from tests.tunneld.tunnelworld import World, open_world
from tunneld.config import Forward, Frontend


@asynccontextmanager
async def world_of(pki: Path, tmp_path: Path, **forward: Any) -> AsyncIterator[World]:
    """A server with one forward, beside a frontend."""
    table = Forward(**({"name": "db", "listen": "127.0.0.1:0", "to": "127.0.0.1:1"} | forward))
    options = {"frontends": (Frontend(listen="127.0.0.1:0", plain=True),), "forwards": (table,)}
    async with open_world(pki, tmp_path, server_options=options) as world:
        yield world


@asynccontextmanager
async def open_forward(world: World) -> AsyncIterator[PlainPeer]:
    address = world.addresses[1]
    if address.startswith("unix:"):
        peer = PlainPeer(await trio.open_unix_socket(address.removeprefix("unix:")))
    else:
        host, port = address.rsplit(":", 1)
        peer = PlainPeer(await trio.open_tcp_stream(host, int(port)))
    try:
        yield peer
    finally:
        await trio.aclose_forcefully(peer.stream)


async def listener_of_echo() -> tuple[list[trio.SocketListener], int]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    return listeners, listeners[0].socket.getsockname()[1]


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "unix:{}/forward.sock"])
async def test_a_connection_reaches_the_endpoint(pki: Path, tmp_path: Path, listen: str) -> None:
    listeners, port = await listener_of_echo()
    forward = {"listen": listen.format(tmp_path), "to": f"localhost:{port}"}
    async with world_of(pki, tmp_path, **forward) as world:
        world.nursery.start_soon(trio.serve_listeners, echo, listeners)
        async with open_forward(world) as peer:
            await peer.send_all(b"hello")
            assert await peer.receive_some() == b"hello"
            (row,) = world.server.conns()
            assert row["identity"] == "forward:db"
            assert row["destination"] == f"localhost:{port}"
            await peer.send_eof()
            assert await receive_all(peer) == b""
        await world.at_rest()


async def test_an_endpoint_may_speak_first(pki: Path, tmp_path: Path) -> None:
    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 ready")
        await stream.receive_some(1)

    listeners, port = await listener_of_echo()
    async with world_of(pki, tmp_path, to=f"127.0.0.1:{port}") as world:
        world.nursery.start_soon(trio.serve_listeners, greet, listeners)
        async with open_forward(world) as peer:
            assert await peer.receive_some() == b"220 ready"


async def test_a_dial_that_fails_ends_with_a_reset(pki: Path, tmp_path: Path) -> None:
    async with world_of(pki, tmp_path) as world, open_forward(world) as peer:
        with pytest.raises(ConnectionError):
            await receive_all(peer)
        await world.at_rest()


@pytest.mark.parametrize(("networks", "served"), [(("127.0.0.0/8",), True), (("::/0",), False)])
async def test_only_networks_that_are_allowed_are_served(
    pki: Path, tmp_path: Path, networks: tuple[str, ...], served: bool
) -> None:
    listeners, port = await listener_of_echo()
    forward = {"to": f"127.0.0.1:{port}", "allow_from": networks}
    async with world_of(pki, tmp_path, **forward) as world:
        world.nursery.start_soon(trio.serve_listeners, echo, listeners)
        async with open_forward(world) as peer:
            if served:
                await peer.send_all(b"hello")
                assert await peer.receive_some() == b"hello"
            else:
                with pytest.raises(ConnectionError):
                    await receive_all(peer)


@pytest.mark.parametrize(("agent", "served"), [("demo", True), ("other", False)])
async def test_a_forward_may_name_its_agent(
    pki: Path, tmp_path: Path, agent: str, served: bool
) -> None:
    listeners, port = await listener_of_echo()
    async with world_of(pki, tmp_path, to=f"127.0.0.1:{port}", agent=agent) as world:
        world.nursery.start_soon(trio.serve_listeners, echo, listeners)
        async with open_forward(world) as peer:
            if served:
                await peer.send_all(b"hello")
                assert await peer.receive_some() == b"hello"
            else:
                with pytest.raises(ConnectionError):
                    await receive_all(peer)


async def test_the_endpoint_is_told_who_comes(pki: Path, tmp_path: Path) -> None:
    sink = Sink()
    listeners, port = await listener_of_echo()
    forward = {"to": f"127.0.0.1:{port}", "proxy_protocol": True}
    async with world_of(pki, tmp_path, **forward) as world:
        world.nursery.start_soon(trio.serve_listeners, sink.serve, listeners)
        async with open_forward(world) as peer:
            client = endpoint_of(peer.stream.socket.getsockname())
            await peer.send_all(b"question")
            await peer.send_eof()
            assert await receive_all(peer) == b"answer"
    header, rest = sink.header()
    assert rest == b"question"
    assert header.addresses is not None
    assert header.addresses[0] == client


async def test_a_client_that_goes_while_dialling_ends_the_dial(pki: Path, tmp_path: Path) -> None:
    full = Full()
    to = f"127.0.0.1:{full.port}"
    async with world_of(pki, tmp_path, to=to) as world, open_forward(world) as peer:
        await world.until(world.agent.conns)
        peer.reset()
        await world.at_rest()
    full.close()


async def test_a_drain_lets_connections_end(pki: Path, tmp_path: Path) -> None:
    listeners, port = await listener_of_echo()
    async with world_of(pki, tmp_path, to=f"127.0.0.1:{port}") as world:
        world.nursery.start_soon(trio.serve_listeners, echo, listeners)
        async with open_forward(world) as peer:
            await peer.send_all(b"hello")
            assert await peer.receive_some() == b"hello"
            world.server_host.drain.set()
            host, number = world.addresses[1].rsplit(":", 1)

            def refuses() -> bool:
                with socket.socket() as sock:
                    return sock.connect_ex((host, int(number))) != 0

            await world.until(refuses)
            await peer.send_all(b"again")
            assert await peer.receive_some() == b"again"
        await world.until(world.server_done.is_set)
