"""The listener for tunnels in WebSockets: agents through it, and everything else that comes."""

import hashlib
import random
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.tunneld.peers import ESTABLISHED, connect, open_tls, receive_all
from tests.tunneld.server.konnectivitypeers import is_clean, tunnels
from tests.tunneld.tunnelworld import World
from tests.tunneld.wsworld import (
    check_echo,
    connected_agent,
    dial,
    direct_address,
    lay_cable,
    listener,
    open_websocket_world,
    websocket_address,
    websocket_port,
    why_not,
)
from tunneld.role import RoleState
from tunneld.server.servertls import Current
from tunneld.transport.websocket import MAX_HEAD, MAX_MESSAGE

UPGRADE = (
    b"GET /tunnel HTTP/1.1\r\nHost: edge.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: tunneld-tls\r\n\r\n"
)


@pytest.fixture
async def world(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    async with open_websocket_world(pki, tmp_path) as opened:
        yield opened


async def exchange(world: World, octets: bytes) -> bytes:
    """What the listener answers until it closes."""
    answer = b""
    with trio.fail_after(5):
        async with await trio.open_tcp_stream("127.0.0.1", websocket_port(world)) as stream:
            await stream.send_all(octets)
            try:
                while data := await stream.receive_some():
                    answer += data
            except trio.BrokenResourceError:
                pass  # it does not read all
    return answer


async def test_a_tunnel_comes_up_and_carries(world: World) -> None:
    await connected_agent(world)
    (row,) = world.server.agents()
    assert row["id"] == "demo"
    assert row["peer"].startswith("127.0.0.1:")
    await check_echo(world)
    await world.at_rest()


async def test_much_goes_both_ways_unharmed(world: World) -> None:
    """Up and down at once, with hashes at both ends."""
    size = 24 << 20
    seen, all_seen = hashlib.sha256(), trio.Event()

    async def endpoint(stream: trio.SocketStream) -> None:
        async def send() -> None:
            source = random.Random(2)
            for _ in range(size >> 16):
                await stream.send_all(source.randbytes(1 << 16))
            await stream.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            async for data in stream:
                seen.update(data)
        all_seen.set()

    await connected_agent(world)
    peer = await dial(world, await world.endpoint(endpoint))
    sent, received = hashlib.sha256(), hashlib.sha256()

    async def receive() -> None:
        while data := await peer.receive_some():
            received.update(data)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            source = random.Random(1)
            for _ in range(size >> 16):
                data = source.randbytes(1 << 16)
                sent.update(data)
                await peer.send_all(data)
            await peer.send_eof()
        await all_seen.wait()
    expected, source = hashlib.sha256(), random.Random(2)
    for _ in range(size >> 16):
        expected.update(source.randbytes(1 << 16))
    await world.at_rest()
    assert seen.digest() == sent.digest()
    assert received.digest() == expected.digest()
    await peer.stream.aclose()


async def test_both_listeners_serve_agents_at_once(world: World) -> None:
    await connected_agent(world)
    first = world.agent_scope
    await connected_agent(world, server=direct_address(world))
    assert len(world.server.agents()) == 2
    first.cancel()
    await world.until(lambda: len(world.server.agents()) == 1)
    await check_echo(world)


async def test_agents_that_speak_konnectivitys_protocol_come_too(
    pki: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunneld.server.role.ALPN", ["h2"])
    async with open_websocket_world(pki, tmp_path) as world:
        await connected_agent(world)
        (tunnel,) = tunnels(world)
        assert tunnel.peer.startswith("127.0.0.1:")
        await check_echo(world)
        await world.until(lambda: is_clean(tunnel))


async def test_an_agent_that_leaves_leaves_cleanly(world: World) -> None:
    await connected_agent(world)
    world.agent_host.drain.set()
    with trio.fail_after(5):
        await world.agent_done.wait()
        await world.until(lambda: not world.server.agents())
    assert world.states[-1][1] is RoleState.READY


@pytest.mark.parametrize("how", ["drained", "cancelled"])
async def test_a_server_that_stops_says_so(world: World, how: str) -> None:
    """Its last words are through before the WebSocket ends."""
    await connected_agent(world)
    if how == "drained":
        world.server_host.drain.set()
    else:
        world.server_scope.cancel()
    with trio.fail_after(5):
        await world.server_done.wait()
    await world.until(lambda: world.states[-1][1] is RoleState.BACKOFF)
    _, _, reason = next(each for each in world.states if each[1] is RoleState.BACKOFF)
    assert reason.endswith(": the server is about to go")


async def test_an_agent_that_is_refused_hears_why(world: World) -> None:
    said = await why_not(world, agent_id="other")
    assert "agent id 'other' is not one its certificate allows: demo" in said


async def test_a_cut_off_websocket_resets_what_it_carried(world: World) -> None:
    """Never a clean end, at either side."""
    ends: list[str] = []

    async def endpoint(stream: trio.SocketStream) -> None:
        try:
            await stream.send_all(b"begin")
            await receive(stream)
            ends.append("clean")
        except trio.BrokenResourceError:
            ends.append("reset")

    async def receive(stream: trio.SocketStream) -> None:
        async for _ in stream:
            pass

    cable = await lay_cable(world)
    await connected_agent(world, server=f"ws://127.0.0.1:{cable.port}/tunnel")
    peer = await open_tls(world.frontend, world.pki, "http/1.1")
    port = await world.endpoint(endpoint)
    assert await connect(peer, f"127.0.0.1:{port}") == ESTABLISHED
    with trio.fail_after(5):
        assert await peer.receive_some() == b"begin"
        cable.cut()
        with pytest.raises(ConnectionError):
            await receive_all(peer)
        await world.until(lambda: bool(ends))
    assert ends == ["reset"]
    await trio.aclose_forcefully(peer.stream)


async def test_the_server_may_have_tls_of_its_own(pki: Path, tmp_path: Path) -> None:
    websocket = listener(cert="frontend/server.crt", key="frontend/server.key")
    async with open_websocket_world(pki, tmp_path, websocket=websocket) as world:
        url = f"wss://{websocket_address(world)}/tunnel"
        await connected_agent(world, server=url, websocket_ca="frontend/ca.crt")
        await check_echo(world)
        await world.at_rest()


async def test_a_trusted_web_server_says_who_comes(pki: Path, tmp_path: Path) -> None:
    websocket = listener(trusted_proxies=("127.0.0.0/8",))
    request = UPGRADE.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 1.1.1.1, 203.0.113.7\r\n\r\n")
    async with open_websocket_world(pki, tmp_path, websocket=websocket) as world:
        peers: list[str] = []
        serve = world.server.agent_server.serve

        async def note(current: Current, sock: socket.socket, peer: str = "") -> None:
            peers.append(peer)
            await serve(current, sock, peer)

        world.server.agent_server.serve = note  # type: ignore[method-assign]
        async with await trio.open_tcp_stream("127.0.0.1", websocket_port(world)) as stream:
            await stream.send_all(request)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 101 ")
            ours = stream.socket.getsockname()[1]
        await world.until(lambda: bool(peers))
        assert peers == [f"203.0.113.7 (via 127.0.0.1:{ours})"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (UPGRADE.replace(b"/tunnel", b"/other"), b"404 Not Found"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"404 Not Found"),
        (b"GET /tunnel HTTP/1.1\r\nHost: a\r\n\r\n", b"426 Upgrade Required"),
        (UPGRADE.replace(b"GET", b"POST"), b"426 Upgrade Required"),
        (UPGRADE.replace(b"Version: 13", b"Version: 8"), b"426 Upgrade Required"),
        (UPGRADE.replace(b"tunneld-tls", b"chat"), b"400 Bad Request"),
        (UPGRADE.replace(b"Host: edge.example", b"Host: \xff"), b"400 Bad Request"),
        (UPGRADE.replace(b"Host: edge.example", b"Host: xn--\x7f"), b"400 Bad Request"),
        (UPGRADE + b"\x82\x80", b"400 Bad Request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b""),
        (b"GET /tunnel\r\n\r\n", b"400 Bad Request"),
        (b"GET /tunnel HTTP/1.1\r\nX: " + b"x" * 2 * MAX_HEAD, b"431 Request Header Fields Too"),
    ],
)
async def test_what_is_no_request_for_the_tunnel_is_refused(
    world: World, request_: bytes, status: bytes
) -> None:
    answer = await exchange(world, request_)
    assert answer.startswith(b"HTTP/1.1 " + status if status else b""), answer
    if not status:
        assert not answer


async def test_octets_that_are_no_frames_end_the_connection(world: World) -> None:
    """Or that are, of kinds which a tunnel does not have; and the next agent comes through."""
    source = random.Random(3)
    junk = [source.randbytes(source.randrange(1, 400)) for _ in range(40)]
    junk += [b"\x81\x81\0\0\0\0x", b"\x88\x80\0\0\0\0", b"\x82\x7f", b"\x82\xff" + b"\xff" * 8]
    for octets in junk:
        with trio.fail_after(5):
            async with await trio.open_tcp_stream("127.0.0.1", websocket_port(world)) as stream:
                await stream.send_all(UPGRADE)
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 101 ")
                await stream.send_all(octets)
                await stream.send_eof()
                try:
                    while await stream.receive_some():
                        pass
                except trio.BrokenResourceError:
                    pass
    await connected_agent(world)
    await check_echo(world)


async def test_a_message_over_the_limit_ends_the_connection(world: World) -> None:
    size = MAX_MESSAGE + 1
    with trio.fail_after(5):
        async with await trio.open_tcp_stream("127.0.0.1", websocket_port(world)) as stream:
            await stream.send_all(UPGRADE)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 101 ")
            await stream.send_all(b"\x82\xff" + size.to_bytes(8, "big") + bytes(4 + size))
            # RFC 6455 sections 5.5.1 and 7.4.1: a close, "message too big".
            assert (await stream.receive_some())[2:4] == (1009).to_bytes(2, "big")


async def test_who_never_asks_is_closed(pki: Path, tmp_path: Path) -> None:
    options = {"head_timeout": 0.1}
    async with open_websocket_world(pki, tmp_path, server_options=options) as world:
        for octets in (b"", UPGRADE[:40], UPGRADE):
            answer = await exchange(world, octets)
            assert answer.startswith(b"HTTP/1.1 101 ") is (octets == UPGRADE)


def test_what_few_servers_and_agents_need_is_not_loaded_by_others() -> None:
    program = (
        "import sys, tunneld.agent.role, tunneld.server.role;"
        "print({'trio_websocket', 'wsproto', 'tunneld.agent.httpproxy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"set()\n"
