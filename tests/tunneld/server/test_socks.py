"""SOCKS5 on frontends: methods, destinations, replies, and what comes early."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import need
from tests.tunneld.peers import PlainPeer, TlsPeer, open_tls, open_unix, receive_all
from tests.tunneld.server.test_frontend import Full, echo
from tests.tunneld.server.test_gate import SESAME, client_of, world_of
from tests.tunneld.tunnelworld import World, open_world
from tunneld import secretsfile
from tunneld.attempts import BURST
from tunneld.dialing import (
    BAD_ADDRESS,
    NO_AGENT,
    PROHIBITED,
    REFUSED,
    TIMEOUT,
    UNKNOWN_NAME,
    UNREACHABLE,
    Kind,
)
from tunneld.secret import Secret
from tunneld.server import socks
from tunneld.socks5 import Reply

NONE = b"\x05\x01\x00"
PASSWORD = b"\x05\x01\x02"
LOGIN = b"\x01\x05alice\x0bopen sesame"
SUCCEEDED = b"\x05\x00\x00\x01" + bytes(6)


def to(host: str, port: int, command: int = 1) -> bytes:
    """A request; addresses are sent as such."""
    tail = port.to_bytes(2, "big")
    for kind, family in ((b"\x01", socket.AF_INET), (b"\x04", socket.AF_INET6)):
        try:
            return bytes([5, command, 0]) + kind + socket.inet_pton(family, host) + tail
        except OSError:
            continue
    return bytes([5, command, 0, 3, len(host)]) + host.encode() + tail


@asynccontextmanager
async def unix(world: World) -> AsyncIterator[PlainPeer]:
    peer = await open_unix(world.unix_frontend)
    try:
        yield peer
    finally:
        await trio.aclose_forcefully(peer.stream)


async def receive(peer: PlainPeer | TlsPeer, size: int) -> bytes:
    got = b""
    while len(got) < size:
        more = await peer.receive_some()
        assert more, f"closed after {got!r}"
        got += more
    return got


async def ask(world: World, octets: bytes) -> bytes:
    """Everything that the frontend answers before it closes."""
    async with unix(world) as peer:
        await peer.send_all(octets)
        return await receive_all(peer)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_every_kind_of_address_is_served(world: World, host: str) -> None:
    need(socket.has_dualstack_ipv6(), "IPv6")
    listeners = await trio.open_tcp_listeners(0, host="::1" if host == "::1" else "127.0.0.1")
    world.nursery.start_soon(trio.serve_listeners, echo, listeners)
    port = listeners[0].socket.getsockname()[1]
    async with unix(world) as peer:
        await peer.send_all(NONE)
        assert await receive(peer, 2) == b"\x05\x00"
        await peer.send_all(to(host, port))
        assert await receive(peer, 10) == SUCCEEDED
        await peer.send_all(b"hello")
        assert await receive(peer, 5) == b"hello"
        assert world.server.conns()[0]["destination"] == (
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        )
    await world.at_rest()


async def test_over_tls_it_is_the_same(world: World) -> None:
    port = await world.endpoint(echo)
    peer = await open_tls(world.frontend, world.pki)
    await peer.send_all(NONE + to("127.0.0.1", port) + b"early")
    assert await receive(peer, 17) == b"\x05\x00" + SUCCEEDED + b"early"
    assert [row["identity"] for row in world.server.conns()] == ["cert:client"]
    await trio.aclose_forcefully(peer.stream)


async def test_octets_sent_ahead_reach_the_endpoint_in_order(world: World) -> None:
    port = await world.endpoint(echo)
    bulk = bytes(range(256)) * 1024
    async with unix(world) as peer, trio.open_nursery() as nursery:
        nursery.start_soon(peer.send_all, NONE + to("127.0.0.1", port) + bulk)
        assert await receive(peer, 12 + len(bulk)) == b"\x05\x00" + SUCCEEDED + bulk
    await world.at_rest()


async def test_it_may_come_octet_by_octet(world: World) -> None:
    port = await world.endpoint(echo)
    async with unix(world) as peer:
        for octet in NONE + to("127.0.0.1", port) + b"x":
            await peer.send_all(bytes([octet]))
        assert await receive(peer, 13) == b"\x05\x00" + SUCCEEDED + b"x"


async def test_an_endpoint_that_speaks_first_is_heard(world: World) -> None:
    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 ready")
        await stream.receive_some(1)

    port = await world.endpoint(greet)
    async with unix(world) as peer:
        await peer.send_all(NONE + to("127.0.0.1", port))
        assert await receive(peer, 12) == b"\x05\x00" + SUCCEEDED
        assert await receive(peer, 9) == b"220 ready"


async def test_half_closes_go_through(world: World) -> None:
    async def late(stream: trio.SocketStream) -> None:
        assert await stream.receive_some(100) == b"question"
        assert await stream.receive_some(100) == b""
        await stream.send_all(b"answer")

    port = await world.endpoint(late)
    async with unix(world) as peer:
        await peer.send_all(NONE + to("127.0.0.1", port) + b"question")
        await peer.send_eof()
        assert await receive_all(peer) == b"\x05\x00" + SUCCEEDED + b"answer"


@pytest.mark.parametrize(
    ("octets", "reply"),
    [
        (NONE + to("a", 80, command=2), b"\x05\x00" + Reply.COMMAND_NOT_SUPPORTED.encode()),
        (NONE + to("a", 80, command=3), b"\x05\x00" + Reply.COMMAND_NOT_SUPPORTED.encode()),
        (NONE + b"\x05\x01\x00\x09x", b"\x05\x00" + Reply.ADDRESS_NOT_SUPPORTED.encode()),
        (b"\x05\x01\x01", b"\x05\xff"),
        (b"\x05\x00", b"\x05\xff"),
        (b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", b"\x00\x5b" + bytes(6)),
        (NONE + b"\x04", b"\x05\x00"),
    ],
)
async def test_what_cannot_be_served_is_told_by_its_code(
    world: World, octets: bytes, reply: bytes
) -> None:
    assert await ask(world, octets) == reply
    await world.at_rest()


@pytest.mark.parametrize(
    ("host", "port", "code"),
    [
        ("127.0.0.1", 1, Reply.REFUSED),
        ("nosuch.invalid", 80, Reply.HOST_UNREACHABLE),
        ("a", 0, Reply.FAILED),
    ],
)
async def test_a_failed_dial_is_told_by_its_code_and_id(
    world: World, host: str, port: int, code: Reply
) -> None:
    assert await ask(world, NONE + to(host, port)) == b"\x05\x00" + await failure(world, code)
    await world.at_rest()


async def failure(world: World, code: Reply) -> bytes:
    """The reply to the one dial that has failed."""
    [record] = (await world.server.ask("trace.last", {}))["dials"]
    name = f"dial.{record['dial']}.invalid".encode()
    return bytes([5, code, 0, 3, len(name)]) + name + bytes(2)


@pytest.mark.parametrize(
    ("kind", "reply"),
    [
        (REFUSED, 5),
        (UNREACHABLE, 4),
        (UNKNOWN_NAME, 4),
        (TIMEOUT, 6),
        (PROHIBITED, 2),
        (NO_AGENT, 3),
        (BAD_ADDRESS, 1),
    ],
)
def test_kinds_of_failures_have_codes(kind: Kind, reply: int) -> None:
    assert socks._REPLIES.get(kind, Reply.FAILED) == reply


async def test_without_an_agent_the_network_is_unreachable(pki: Path, tmp_path: Path) -> None:
    async with open_world(pki, tmp_path, agent=False) as world:
        reply = await ask(world, NONE + to("a", 80))
        assert reply == b"\x05\x00" + await failure(world, Reply.NETWORK_UNREACHABLE)


async def test_a_client_that_goes_while_dialling_ends_the_dial(world: World) -> None:
    full = Full()
    peer = await open_tls(world.frontend, world.pki)
    await peer.send_all(NONE + to("127.0.0.1", full.port))
    await world.until(world.agent.conns)
    peer.reset()
    await world.at_rest()
    full.close()


@pytest.mark.parametrize("octets", [b"\x05", b"\x05\x02\x00", NONE + b"\x05\x01\x00\x03\x09a"])
async def test_a_slow_client_is_closed(pki: Path, tmp_path: Path, octets: bytes) -> None:
    options = {"head_timeout": 0.05}
    async with open_world(pki, tmp_path, agent=False, server_options=options) as world:
        assert (await ask(world, octets))[2:] == b""


@pytest.mark.parametrize("mode", ["grpc", "http-connect"])
async def test_other_modes_have_no_socks(pki: Path, tmp_path: Path, mode: str) -> None:
    options = {"mode": mode}
    async with open_world(pki, tmp_path, agent=False, server_options=options) as world:
        assert (await ask(world, NONE)).startswith(b"HTTP/1.1 ")


# -- passwords --------------------------------------------------------------------------------


@pytest.fixture
async def locked(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    """A plain frontend that wants a secret."""
    path = tmp_path / "secrets"
    secretsfile.add(path, Secret("alice", SESAME))
    options: dict[str, Any] = {"plain": True, "secrets": str(path)}
    async with world_of(pki, tmp_path, **options) as opened:
        yield opened


async def test_a_name_and_password_open_a_frontend(locked: World) -> None:
    port = await locked.endpoint(echo)
    async with client_of(locked) as peer:
        await peer.send_all(b"\x05\x02\x00\x02" + LOGIN + to("127.0.0.1", port) + b"x")
        assert await receive(peer, 15) == b"\x05\x02\x01\x00" + SUCCEEDED + b"x"
        assert [row["identity"] for row in locked.server.conns()] == ["secret:alice"]


@pytest.mark.parametrize(
    ("octets", "reply"),
    [
        (NONE, b"\x05\xff"),
        (PASSWORD + b"\x01\x05alice\x04nope", b"\x05\x02\x01\x01"),
        (PASSWORD + b"\x01\x06nobody\x0bopen sesame", b"\x05\x02\x01\x01"),
        (PASSWORD + b"\x01\x00\x00", b"\x05\x02\x01\x01"),
        (PASSWORD + b"\x05", b"\x05\x02"),
    ],
)
async def test_without_the_right_ones_it_stays_shut(
    locked: World, octets: bytes, reply: bytes
) -> None:
    async with client_of(locked) as peer:
        await peer.send_all(octets)
        assert await receive_all(peer) == reply


async def test_who_guesses_often_is_not_heard(locked: World) -> None:
    for number in range(int(BURST)):
        async with client_of(locked) as peer:
            await peer.send_all(PASSWORD + b"\x01\x05alice\x01" + bytes([number]))
            assert await receive_all(peer) == b"\x05\x02\x01\x01"
    async with client_of(locked) as peer:
        await peer.send_all(PASSWORD + LOGIN)
        assert await receive_all(peer) == b"\x05\x02\x01\x01"


async def test_who_is_known_may_say_any_password(world: World) -> None:
    port = await world.endpoint(echo)
    async with unix(world) as peer:
        await peer.send_all(PASSWORD + b"\x01\x01x\x01y" + to("127.0.0.1", port))
        assert await receive(peer, 14) == b"\x05\x02\x01\x00" + SUCCEEDED


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(octets=st.binary(max_size=40))
def test_garbage_is_answered_or_closed(octets: bytes, tmp_path: Path, pki: Path) -> None:
    async def run() -> None:
        with trio.fail_after(10):
            async with open_world(pki, tmp_path, agent=False) as world, unix(world) as peer:
                await peer.send_all(b"\x05" + octets)
                await peer.send_eof()
                await receive_all(peer)
                await world.until(lambda: not world.server.conns())

    trio.run(run)
