"""What a frontend answers to heads of every kind (konnectivity's proxy is the model)."""

import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from shutil import which

import httpx
import pytest
import trio

from tests.conftest import need
from tests.tunneld.peers import (
    ESTABLISHED,
    PlainPeer,
    TlsPeer,
    client_context,
    connect,
    open_tls,
    open_unix,
    receive_all,
)
from tests.tunneld.tunnelworld import World, open_world

PASSTHROUGH = b"this proxy only supports CONNECT passthrough\n"


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)


@asynccontextmanager
async def unix(world: World) -> AsyncIterator[PlainPeer]:
    peer = await open_unix(world.unix_frontend)
    yield peer
    await trio.aclose_forcefully(peer.stream)


async def ask(world: World, octets: bytes) -> bytes:
    """Everything the frontend answers to ``octets`` before it closes."""
    async with unix(world) as peer:
        await peer.send_all(octets)
        return await receive_all(peer)


async def reply_to(peer: PlainPeer | TlsPeer, octets: bytes, size: int) -> bytes:
    """The next ``size`` octets of answer."""
    await peer.send_all(octets)
    got = b""
    while len(got) < size:
        data = await peer.receive_some()
        assert data, f"closed after {got!r}"
        got += data
    return got


@pytest.mark.parametrize(
    "head",
    [
        "CONNECT {} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "CONNECT {} HTTP/1.1\r\n\r\n",
        "CONNECT {} HTTP/1.0\r\n\r\n",
        "CONNECT user:secret@{} HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT /some/path HTTP/1.1\r\nHost: {}\r\n\r\n",
        "CONNECT {} HTTP/1.1\r\nContent-Length: 5\r\nUser-Agent: x\r\n\r\n",
        "CONNECT {} HTTP/1.1\nHost: x\n\n",
        "\r\n\r\nCONNECT {} HTTP/1.1\r\nhOST: x\r\n\r\n",
    ],
)
async def test_a_head_that_names_its_target_is_served(world: World, head: str) -> None:
    port = await world.endpoint(echo)
    async with unix(world) as peer:
        await peer.send_all(head.format(f"127.0.0.1:{port}").encode())
        assert await peer.receive_some() == ESTABLISHED
        assert await reply_to(peer, b"hello", 5) == b"hello"
    await world.at_rest()


async def test_an_ipv6_target_is_served(world: World) -> None:
    need(socket.has_dualstack_ipv6(), "IPv6")
    listeners = await trio.open_tcp_listeners(0, host="::1")
    world.nursery.start_soon(trio.serve_listeners, echo, listeners)
    port = listeners[0].socket.getsockname()[1]
    async with unix(world) as peer:
        assert await connect(peer, f"[::1]:{port}") == ESTABLISHED
        assert await reply_to(peer, b"hello", 5) == b"hello"


async def test_octets_behind_the_head_reach_the_endpoint(world: World) -> None:
    port = await world.endpoint(echo)
    async with unix(world) as peer:
        await peer.send_all(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\nearly".encode())
        assert await peer.receive_some() == ESTABLISHED
        assert await reply_to(peer, b" late", 10) == b"early late"


async def test_much_behind_the_head_waits_for_the_endpoint(world: World) -> None:
    port = await world.endpoint(echo)
    bulk = bytes(range(256)) * 2048
    async with unix(world) as peer, trio.open_nursery() as nursery:
        head = f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode()
        nursery.start_soon(peer.send_all, head + bulk)
        got = bytearray()
        while len(got) < len(ESTABLISHED) + len(bulk):
            got += await peer.receive_some()
    assert got == ESTABLISHED + bulk


async def test_a_head_that_comes_octet_by_octet_is_served(world: World) -> None:
    port = await world.endpoint(echo)
    async with unix(world) as peer:
        for octet in f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode():
            await peer.send_all(bytes([octet]))
        assert await peer.receive_some() == ESTABLISHED


@pytest.mark.parametrize("method", ["GET / HTTP/1.1", "OPTIONS * HTTP/1.1", "POST /x HTTP/1.1"])
async def test_another_method_is_405_and_the_connection_stays_usable(
    world: World, method: str
) -> None:
    port = await world.endpoint(echo)
    async with unix(world) as peer:
        for _ in range(3):
            await peer.send_all(f"{method}\r\nHost: x\r\n\r\n".encode())
            reply = await peer.receive_some()
            assert reply.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
            assert b"\r\nContent-Length: 45\r\n" in reply
            assert b"\r\nX-Content-Type-Options: nosniff\r\n" in reply
            assert reply.endswith(b"\r\n\r\n" + PASSTHROUGH)
        assert await connect(peer, f"127.0.0.1:{port}") == ESTABLISHED


async def test_the_answer_to_head_has_no_body(world: World) -> None:
    async with unix(world) as peer:
        await peer.send_all(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
        got = b""
        while not got.endswith(PASSTHROUGH):
            got += await peer.receive_some()
    head, _, rest = got.partition(b"\r\n\r\n")
    assert b"Content-Length: 45" in head
    assert rest.startswith(b"HTTP/1.1 405 ")


async def test_a_request_with_a_body_is_405_and_closed(world: World) -> None:
    reply = await ask(
        world, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000)
    )
    assert reply.startswith(b"HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\n")


@pytest.mark.parametrize(
    "head",
    [
        b"CONNECT a:b HTTP/1.1\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"CONNECT  a:1 HTTP/1.1\r\n\r\n",
        b"CONNECT a:1\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nNo colon\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 100,
        b"nonsense\r\n\r\n",
    ],
)
async def test_a_malformed_head_is_400_and_closed(world: World, head: bytes) -> None:
    reply = await ask(world, head)
    assert reply.startswith(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n")
    assert b"\r\nContent-Type: text/plain; charset=utf-8\r\n" in reply
    assert b"\r\n\r\n400 Bad Request" in reply


async def test_a_head_that_is_too_long_is_431(world: World) -> None:
    reply = await ask(world, b"CONNECT a:1 HTTP/1.1\r\nX: " + b"x" * 70_000)
    assert reply.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")


async def test_a_client_that_closes_without_a_word_is_let_go(world: World) -> None:
    assert await ask_and_end(world, b"") == b""
    assert await ask_and_end(world, b"CONNECT a:1 HT") == b""
    await world.at_rest()


async def ask_and_end(world: World, octets: bytes) -> bytes:
    async with unix(world) as peer:
        await peer.send_all(octets)
        await peer.send_eof()
        return await receive_all(peer)


@pytest.mark.parametrize("octets", [b"", b"CONN", b"CONNECT a:1 HTTP/1.1\r\nHost:", b"PRI * HT"])
async def test_a_slow_head_is_closed_in_silence(pki: Path, tmp_path: Path, octets: bytes) -> None:
    async with (
        open_world(pki, tmp_path, agent=False, server_options={"head_timeout": 0.05}) as world,
        unix(world) as peer,
    ):
        await peer.send_all(octets)
        assert await receive_all(peer) == b""


async def test_a_slow_handshake_is_closed(pki: Path, tmp_path: Path) -> None:
    options = {"head_timeout": 0.05}
    async with open_world(pki, tmp_path, agent=False, server_options=options) as world:
        stream = await trio.open_tcp_stream(*world.frontend)
        assert await stream.receive_some(100) == b""
        await stream.aclose()


# -- failures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authority", "status", "text"),
    [
        ("127.0.0.1:1", b"502 Bad Gateway", b"dial tcp 127.0.0.1:1: connect: connection refused"),
        ("127.0.0.1", b"502 Bad Gateway", b"dial tcp: address 127.0.0.1: missing port in address"),
        ("[::1]", b"502 Bad Gateway", b"dial tcp: address [::1]: missing port in address"),
        ("a:b:80", b"502 Bad Gateway", b"dial tcp: address a:b:80: too many colons in address"),
        ("a:70000", b"502 Bad Gateway", b"dial tcp: address 70000: invalid port"),
        ("a..b:80", b"502 Bad Gateway", b"dial tcp: lookup a..b: no such host"),
        ("nosuch.invalid:80", b"502 Bad Gateway", b"dial tcp: lookup nosuch.invalid: "),
        ("1.2.3.4%eth0:80", b"502 Bad Gateway", b"dial tcp: lookup 1.2.3.4%eth0: "),
    ],
)
async def test_a_dial_that_fails_says_why(
    world: World, authority: str, status: bytes, text: bytes
) -> None:
    reply = await ask(world, f"CONNECT {authority} HTTP/1.1\r\n\r\n".encode())
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n")
    assert b"\r\nContent-Length: %d" % len(body) in head
    assert b"\r\nProxy-Status: tunneld-server; error=" in head
    assert body.startswith(text)
    await world.at_rest()


async def test_without_an_agent_it_is_503_at_once(pki: Path, tmp_path: Path) -> None:
    async with open_world(pki, tmp_path, agent=False) as world:
        reply = await ask(world, b"CONNECT a:1 HTTP/1.1\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"error=destination_unavailable" in reply
    assert b"\r\n\r\ncurrently no tunnels available: No agent available" in reply


async def test_an_endpoint_that_does_not_answer_is_504(pki: Path, tmp_path: Path) -> None:
    with closing(Full()) as full:
        async with open_world(pki, tmp_path, agent_options={"connect_timeout": 0.1}) as world:
            reply = await ask(world, f"CONNECT 127.0.0.1:{full.port} HTTP/1.1\r\n\r\n".encode())
            await world.at_rest()
    assert reply.startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
    assert reply.endswith(f"dial tcp 127.0.0.1:{full.port}: i/o timeout".encode())


async def test_an_agent_that_does_not_answer_is_504(pki: Path, tmp_path: Path) -> None:
    with closing(Full()) as full:
        async with open_world(pki, tmp_path, server_options={"dial_timeout": 0.1}) as world:
            reply = await ask(world, f"CONNECT 127.0.0.1:{full.port} HTTP/1.1\r\n\r\n".encode())
            await world.at_rest()
    assert reply.startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
    assert b"error=http_response_timeout" in reply
    assert reply.endswith(b"no answer of agent demo in 0.1 s")


class Full:
    """A listener whose backlog is full: the kernel drops what else wants to connect."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port: int = self.listener.getsockname()[1]
        self.waiting = [socket.create_connection(("127.0.0.1", self.port))]

    def close(self) -> None:
        for sock in (*self.waiting, self.listener):
            sock.close()


async def test_a_client_that_goes_while_dialling_ends_the_dial(world: World) -> None:
    with closing(Full()) as full:
        peer = await open_tls(world.frontend, world.pki)
        await peer.send_all(f"CONNECT 127.0.0.1:{full.port} HTTP/1.1\r\n\r\n".encode())
        await world.until(world.agent.conns)
        peer.reset()
        await world.at_rest()


async def test_a_unix_client_that_goes_while_dialling_leaves_nothing(
    pki: Path, tmp_path: Path
) -> None:
    """It may only have half-closed: its socket does not tell before the answer is written."""
    options = {"connect_timeout": 0.1}
    with closing(Full()) as full:
        async with open_world(pki, tmp_path, agent_options=options) as world:
            async with unix(world) as peer:
                await peer.send_all(f"CONNECT 127.0.0.1:{full.port} HTTP/1.1\r\n\r\n".encode())
                await world.until(world.agent.conns)
            await world.at_rest()


async def test_a_client_that_only_half_closes_while_dialling_gets_its_answer(world: World) -> None:
    async def late(stream: trio.SocketStream) -> None:
        assert await stream.receive_some(100) == b"question"
        assert await stream.receive_some(100) == b""
        await stream.send_all(b"answer")

    port = await world.endpoint(late)
    async with unix(world) as peer:
        await peer.send_all(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\nquestion".encode())
        await peer.send_eof()
        assert await receive_all(peer) == ESTABLISHED + b"answer"
    await world.at_rest()


# -- TLS --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [((), None), (("http/1.1",), "http/1.1"), (("h2",), "h2"), (("http/1.1", "h2"), "h2")],
)
async def test_alpn_takes_what_the_client_offers(
    world: World, offered: tuple[str, ...], chosen: str | None
) -> None:
    peer = await open_tls(world.frontend, world.pki, *offered)
    assert peer.tls.selected_alpn_protocol() == chosen
    await trio.aclose_forcefully(peer.stream)


async def test_http1_is_served_whatever_alpn_said(world: World) -> None:
    port = await world.endpoint(echo)
    peer = await open_tls(world.frontend, world.pki, "h2")
    assert await connect(peer, f"127.0.0.1:{port}") == ESTABLISHED
    await trio.aclose_forcefully(peer.stream)


async def test_tls_1_2_is_served(world: World) -> None:
    port = await world.endpoint(echo)
    context = client_context(world.pki)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    peer = await open_tls(world.frontend, world.pki, context=context)
    assert await connect(peer, f"127.0.0.1:{port}") == ESTABLISHED
    assert await reply_to(peer, b"hello", 5) == b"hello"
    await peer.send_eof()
    await trio.aclose_forcefully(peer.stream)


@pytest.mark.parametrize(
    ("certificate", "alert"),
    [(None, "CERTIFICATE_REQUIRED"), ("agent/agent", "UNKNOWN_CA"), ("frontend/client", None)],
)
async def test_a_client_without_the_right_certificate_is_told_so(
    world: World, certificate: str | None, alert: str | None
) -> None:
    context = ssl.create_default_context(cafile=str(world.pki / "frontend/ca.crt"))
    if certificate is not None:
        path = world.pki / certificate
        context.load_cert_chain(path.with_suffix(".crt"), path.with_suffix(".key"))
    peer = await open_tls(world.frontend, world.pki, context=context)
    await peer.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    if alert is None:
        assert b"405" in await peer.receive_some()
    else:
        with pytest.raises(ssl.SSLError, match=alert):
            await peer.receive_some()
    await trio.aclose_forcefully(peer.stream)


async def test_garbage_instead_of_a_handshake_ends_that_connection_alone(world: World) -> None:
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", bytes(1000), b"\x16\x03\x01\xff\xff" + bytes(10)):
        stream = await trio.open_tcp_stream(*world.frontend)
        await stream.send_all(garbage)
        await stream.send_eof()
        while await stream.receive_some(1000):
            pass
        await stream.aclose()
    port = await world.endpoint(echo)
    peer = await open_tls(world.frontend, world.pki)
    assert await connect(peer, f"127.0.0.1:{port}") == ESTABLISHED
    await trio.aclose_forcefully(peer.stream)


# -- programs ---------------------------------------------------------------------------------


async def hello(stream: trio.abc.Stream) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        head += await stream.receive_some(1000)
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")


async def test_httpx_goes_through(world: World) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(world.pki / "frontend/server.crt", world.pki / "frontend/server.key")

    async def hello_over_tls(stream: trio.SocketStream) -> None:
        secure = trio.SSLStream(stream, context, server_side=True)
        await hello(secure)
        await secure.aclose()

    port = await world.endpoint(hello_over_tls)
    trusted = client_context(world.pki)
    proxy = httpx.Proxy(f"https://127.0.0.1:{world.frontend[1]}", ssl_context=trusted)
    async with httpx.AsyncClient(proxy=proxy, verify=trusted, trust_env=False) as client:
        response = await client.get(f"https://127.0.0.1:{port}/ok")
    assert response.text == "hello"
    await world.at_rest()


@pytest.mark.parametrize("option", ["--proxy-http1.1", "--proxy-http2"])
async def test_curl_goes_through(world: World, option: str) -> None:
    need(which("curl"), "curl")
    port = await world.endpoint(hello)
    pki = world.pki / "frontend"
    command = [
        "curl", "--silent", "--show-error", "--noproxy", "", "--proxytunnel",
        "--proxy", f"https://127.0.0.1:{world.frontend[1]}", "--proxy-cacert", str(pki / "ca.crt"),
        "--proxy-cert", str(pki / "client.crt"), "--proxy-key", str(pki / "client.key"),
        *([option] if option == "--proxy-http2" else []), f"http://127.0.0.1:{port}/ok",
    ]  # fmt: skip
    with trio.fail_after(10):
        result = await trio.run_process(command, capture_stdout=True, stderr=subprocess.STDOUT)
    assert result.stdout == b"hello"


async def test_of_too_many_without_a_request_the_oldest_goes(pki: Path, tmp_path: Path) -> None:
    options = {"max_handshakes": 2}
    async with open_world(pki, tmp_path, agent=False, server_options=options) as world:
        peers = [await trio.open_tcp_stream(*world.frontend) for _ in range(2)]
        async with unix(world) as third:
            with trio.fail_after(10):
                assert await peers[0].receive_some(100) == b""
            await third.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await receive_all(third)).startswith(b"HTTP/1.1 405 ")
        for peer in peers:
            await peer.aclose()


async def test_who_has_asked_counts_no_more(pki: Path, tmp_path: Path) -> None:
    async with open_world(pki, tmp_path, server_options={"max_handshakes": 1}) as world:
        port = await world.endpoint(echo)
        async with unix(world) as first:
            await first.send_all(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
            assert await first.receive_some() == ESTABLISHED
            async with unix(world) as second:
                await second.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                await receive_all(second)
            assert await reply_to(first, b"still here", 10) == b"still here"
