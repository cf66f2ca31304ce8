"""Calls and CONNECT beside each other, and servers that take one of them alone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.tunneld.peers import ESTABLISHED, open_tls, open_unix, receive_all
from tests.tunneld.server.konnectivitypeers import (
    Call,
    asked,
    close_rsp,
    data,
    dial_req,
    dial_rsp,
    dialled,
    end,
    open_agent,
    open_client,
    open_server,
)
from tests.tunneld.tunnelworld import World


@pytest.fixture
async def world(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    with trio.fail_after(90):
        async with open_server(pki, tmp_path, half_close_grace=0.02, dial_timeout=0) as opened:
            yield opened


@pytest.mark.parametrize("unix", [True, False])
async def test_calls_and_connects_share_a_port_and_a_connection(
    world: World, agent: Call, unix: bool
) -> None:
    async with open_client(world, unix=unix) as client:
        front = await client.proxy(authority="%2Frun%2Ffront.sock", scheme="http")
        await front.send(dial_req("endpoint:80"))
        await agent.send(dial_rsp(await asked(agent), 1))
        cid = (await front.next()).cid
        stream = await client.connect("endpoint:80")
        await agent.send(dial_rsp(await asked(agent), 2))
        assert (await stream.response())[":status"] == "200"
        raw = await (
            open_unix(world.unix_frontend) if unix else open_tls(world.frontend, world.pki)
        )
        await raw.send_all(b"CONNECT endpoint:80 HTTP/1.1\r\n\r\n")
        await agent.send(dial_rsp(await asked(agent), 3))
        assert await raw.receive_some() == ESTABLISHED
        await agent.send(data(1, b"one"), data(2, b"two"), data(3, b"three"))
        assert await front.next() == data(cid, b"one")
        assert await stream.receive_some() == b"two"
        assert await raw.receive_some() == b"three"
        await agent.send(close_rsp(1), close_rsp(2), close_rsp(3))
        assert await front.next() == close_rsp(cid)
        assert await receive_all(raw) == b""
        await trio.aclose_forcefully(raw.stream)


async def test_a_server_for_calls_serves_nothing_else(pki: Path, tmp_path: Path) -> None:
    async with open_server(pki, tmp_path, mode="grpc") as world, open_agent(world) as agent:
        peer = await open_tls(world.frontend, world.pki, "http/1.1", "h2")
        assert peer.tls.selected_alpn_protocol() == "h2"
        await trio.aclose_forcefully(peer.stream)
        for unix in (True, False):
            async with open_client(world, unix=unix) as client:
                stream = await client.connect("endpoint:80")
                assert (await stream.response())[":status"] == "415"
                front, _ = await dialled(client, agent, 1 + unix)
                await end(front, agent, 1 + unix)
        raw = await open_unix(world.unix_frontend)
        await raw.send_all(b"CONNECT endpoint:80 HTTP/1.1\r\n\r\n")
        reply = await receive_all(raw)
        assert reply.startswith(b"HTTP/1.1 505 HTTP Version Not Supported\r\nConnection: close\r\n")
        await trio.aclose_forcefully(raw.stream)


async def test_a_server_for_connect_serves_no_calls(pki: Path, tmp_path: Path) -> None:
    async with open_server(pki, tmp_path, mode="http-connect") as world, open_agent(world) as agent:
        peer = await open_tls(world.frontend, world.pki, "h2", "http/1.1")
        assert peer.tls.selected_alpn_protocol() == "http/1.1"
        await trio.aclose_forcefully(peer.stream)
        raw = await open_unix(world.unix_frontend)
        await raw.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        reply = await receive_all(raw)
        assert reply.startswith(b"HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\n")
        assert reply.endswith(b"\r\n\r\nthis proxy only supports CONNECT passthrough\n")
        await trio.aclose_forcefully(raw.stream)
        raw = await open_unix(world.unix_frontend)
        await raw.send_all(b"CONNECT endpoint:80 HTTP/1.1\r\n\r\n")
        await agent.send(dial_rsp(await asked(agent), 1))
        assert await raw.receive_some() == ESTABLISHED
        await trio.aclose_forcefully(raw.stream)


async def test_a_client_that_offers_http2_alone_is_told_so_by_a_server_for_connect(
    pki: Path, tmp_path: Path
) -> None:
    """Python's TLS cannot end a handshake for that; it goes on without a protocol."""
    async with open_server(pki, tmp_path, mode="http-connect") as world:
        peer = await open_tls(world.frontend, world.pki, "h2")
        assert peer.tls.selected_alpn_protocol() is None
        await peer.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert (await receive_all(peer)).startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
        await trio.aclose_forcefully(peer.stream)
