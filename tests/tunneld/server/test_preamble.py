"""What an endpoint is told of a client, through both kinds of tunnel."""

import ipaddress
import socket
from pathlib import Path

import pytest
import trio

from tests.tunneld.peers import (
    ESTABLISHED,
    PlainPeer,
    TlsPeer,
    open_h2,
    open_tls,
    open_unix,
    receive_all,
)
from tests.tunneld.server.konnectivitypeers import data, dial_req, dial_rsp, open_agent, open_server
from tests.tunneld.server.test_gate import client_of, world_of
from tests.tunneld.tunnelworld import World
from tunneld.proxyprotocol import Endpoint, ProxyHeader, parse_header
from tunneld.server.preamble import _addresses_of

ASK = "tunneld-proxy-protocol: v2"


class Sink:
    """An endpoint that keeps what it gets, and answers when that ends."""

    def __init__(self) -> None:
        self.octets = b""
        self.done = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        async for octets in stream:
            self.octets += octets
        await stream.send_all(b"answer")
        self.done.set()

    def header(self) -> tuple[ProxyHeader, bytes]:
        found = parse_header(self.octets)
        assert found is not None
        return found[0], self.octets[found[1] :]


async def ask(peer: PlainPeer | TlsPeer, authority: str, *headers: str, early: bytes) -> None:
    """CONNECT, and all that the connection is for."""
    lines = [f"CONNECT {authority} HTTP/1.1", *headers, "", ""]
    await peer.send_all("\r\n".join(lines).encode() + early)
    await peer.send_eof()
    assert await receive_all(peer) == ESTABLISHED + b"answer"


def endpoint_of(name: tuple[str, int]) -> Endpoint:
    return Endpoint(ipaddress.ip_address(name[0]), name[1])


async def test_over_tls_address_certificate_and_name_are_told(world: World) -> None:
    sink = Sink()
    port = await world.endpoint(sink.serve)
    peer = await open_tls(world.frontend, world.pki)
    client = endpoint_of(peer.stream.socket.getsockname())
    await ask(peer, f"localhost:{port}", ASK, early=b"question")
    header, rest = sink.header()
    assert rest == b"question"
    assert header.addresses == (client, endpoint_of(world.frontend))
    assert header.authority == "localhost"
    assert header.unique_id
    assert header.tls is not None
    assert (header.tls.version, header.tls.has_certificate) == ("TLSv1.3", True)
    assert header.tls.common_name == "client"
    await trio.aclose_forcefully(peer.stream)
    await world.at_rest()


async def test_a_unix_client_has_no_address(world: World) -> None:
    sink = Sink()
    port = await world.endpoint(sink.serve)
    peer = await open_unix(world.unix_frontend)
    await ask(peer, f"127.0.0.1:{port}", ASK, early=b"question")
    header, rest = sink.header()
    assert (header.addresses, header.tls, rest) == (None, None, b"question")
    await trio.aclose_forcefully(peer.stream)


async def test_a_plain_client_has_no_tls(pki: Path, tmp_path: Path) -> None:
    sink = Sink()
    async with world_of(pki, tmp_path, plain=True) as world, client_of(world) as peer:
        port = await world.endpoint(sink.serve)
        await ask(peer, f"127.0.0.1:{port}", ASK, early=b"")
        header, _ = sink.header()
        assert header.tls is None
        assert header.addresses == (
            endpoint_of(peer.stream.socket.getsockname()),
            endpoint_of(world.frontend),
        )


async def test_nobody_is_told_who_has_not_been_asked_to(world: World) -> None:
    sink = Sink()
    port = await world.endpoint(sink.serve)
    peer = await open_unix(world.unix_frontend)
    await ask(peer, f"127.0.0.1:{port}", early=b"question")
    assert sink.octets == b"question"
    await trio.aclose_forcefully(peer.stream)


async def test_another_version_is_400(world: World) -> None:
    peer = await open_unix(world.unix_frontend)
    await peer.send_all(b"CONNECT a:1 HTTP/1.1\r\ntunneld-proxy-protocol: v1\r\n\r\n")
    reply = await receive_all(peer)
    assert reply.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"v2 is the only version" in reply
    await trio.aclose_forcefully(peer.stream)


async def test_over_http_2_each_stream_may_ask(world: World) -> None:
    sink = Sink()
    port = await world.endpoint(sink.serve)
    async with open_h2(await open_tls(world.frontend, world.pki, "h2")) as client:
        head = [(":method", "CONNECT"), (":authority", f"127.0.0.1:{port}")]
        stream = await client.request([*head, ("tunneld-proxy-protocol", "v2")])
        assert (await stream.response())[":status"] == "200"
        await stream.send_all(b"question")
        await stream.send_eof()
        assert await stream.receive_some() == b"answer"
        header, rest = sink.header()
        assert rest == b"question"
        assert header.tls is not None
        assert header.tls.common_name == "client"
        odd = await client.request([*head, ("tunneld-proxy-protocol", "v3")])
        assert (await odd.response())[":status"] == "400"


async def test_an_endpoint_that_speaks_first_is_still_held_back(world: World) -> None:
    """The header is none of the client's octets, which would end the hold."""
    heard: list[bytes] = []

    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 ready")
        heard.append(await stream.receive_some(1000))

    port = await world.endpoint(greet)
    peer = await open_tls(world.frontend, world.pki)
    await peer.send_all(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n{ASK}\r\n\r\n".encode())
    assert await peer.receive_some() == ESTABLISHED
    assert await peer.receive_some() == b"220 ready"
    await world.until(lambda: heard)
    assert parse_header(heard[0]) is not None
    await trio.aclose_forcefully(peer.stream)


async def test_through_an_agent_of_konnectivity_it_comes_first_too(
    pki: Path, tmp_path: Path
) -> None:
    with trio.fail_after(30):
        async with open_server(pki, tmp_path) as world, open_agent(world) as agent:
            peer = await open_unix(world.unix_frontend)
            await peer.send_all(f"CONNECT a:80 HTTP/1.1\r\n{ASK}\r\n\r\nquestion".encode())
            asked = await agent.next()
            assert asked == dial_req("a:80", asked.random)
            await agent.send(dial_rsp(asked.random, 7))
            got = b""
            while not got.endswith(b"question"):
                packet = await agent.next()
                assert packet == data(7, packet.data)
                got += packet.data
            found = parse_header(got)
            assert found is not None
            assert got[found[1] :] == b"question"
            await trio.aclose_forcefully(peer.stream)


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_a_client_that_is_gone_has_no_address(family: int) -> None:
    with socket.socket(family) as sock:
        assert _addresses_of(sock) is None
