"""Many connections at once: nothing lost, nobody stopped by another, memory bounded."""

import hashlib
import random
import resource
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from tests.tunneld.peers import ESTABLISHED, Peer, connect, open_unix, receive_all
from tests.tunneld.server.test_carrying import KINDS, dialled, dialled_over_tls
from tests.tunneld.tunnelworld import World, open_world

MIB = 1 << 20


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)
    await stream.send_eof()


async def test_every_octet_of_32_connections_comes_back(world: World) -> None:
    port = await world.endpoint(echo)
    sizes = random.Random(1)

    async def carry(number: int) -> None:
        octets = random.Random(number).randbytes(64 * 1024) * 64  # 4 MiB
        got = hashlib.sha256()
        kind = KINDS[number % len(KINDS)]
        async with dialled(world, kind, port) as client, trio.open_nursery() as nursery:
            nursery.start_soon(send, client, octets, sizes)
            while data := await client.receive_some():
                got.update(data)
        assert got.digest() == hashlib.sha256(octets).digest()

    async with trio.open_nursery() as nursery:
        for number in range(32):
            nursery.start_soon(carry, number)
    await world.at_rest()


async def send(client: Peer, octets: bytes, sizes: random.Random) -> None:
    """In pieces of every size, then the end."""
    start = 0
    while start < len(octets):
        size = sizes.choice((1, 100, 5_000, 70_000, 300_000))
        await client.send_all(octets[start : start + size])
        start += size
    await client.send_eof()


@pytest.mark.parametrize("kind", ["tls", "h2"])
async def test_one_that_never_reads_stops_nobody(world: World, kind: str) -> None:
    async def push(stream: trio.SocketStream) -> None:
        while True:
            await stream.send_all(bytes(MIB))

    pushing, echoing = await world.endpoint(push), await world.endpoint(echo)
    before = resident()
    async with dialled(world, kind, pushing) as stalled:
        if kind == "h2":
            stalled.reading = False  # type: ignore[attr-defined] # an H2Stream
        await all_of(8, lambda: exchange(world, kind, echoing, 2 * MIB))
        assert resident() - before < 64 * MIB
        assert await stalled.receive_some()
    await world.at_rest()


async def test_an_endpoint_that_never_reads_stops_nobody(world: World) -> None:
    async def ignore(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    ignoring, echoing = await world.endpoint(ignore), await world.endpoint(echo)
    before = resident()
    async with dialled_over_tls(world, ignoring) as stalled:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stalled.send_all, bytes(64 * MIB))
            await all_of(8, lambda: exchange(world, "tls", echoing, 2 * MIB))
            nursery.cancel_scope.cancel()
        stalled.reset()
    assert resident() - before < 64 * MIB + 64 * MIB  # what the client itself keeps, besides
    await world.at_rest()


async def exchange(world: World, kind: str, port: int, size: int) -> None:
    octets = bytes(size)
    async with dialled(world, kind, port) as client, trio.open_nursery() as nursery:
        nursery.start_soon(send, client, octets, random.Random(size))
        assert len(await receive_all(client)) == size


async def all_of(count: int, action: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(action)


def resident() -> int:
    """Octets of memory that this process has in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def test_fifty_stalled_connections_keep_little(world: World) -> None:
    """Each its first window in the server, and what the kernel's buffers take."""

    async def push(stream: trio.SocketStream) -> None:
        while True:
            await stream.send_all(bytes(65536))

    port = await world.endpoint(push)
    before = resident()
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(stall, world, port)
        await world.until(lambda: len(world.server.conns()) == 50)
        await world.until(lambda: all(row["bytes_received"] for row in world.server.conns()))
        await exchange(world, "unix", await world.endpoint(echo), MIB)
        assert resident() - before < 64 * MIB
        nursery.cancel_scope.cancel()
    await world.at_rest()


async def stall(world: World, port: int) -> None:
    async with dialled(world, "unix", port):
        await trio.sleep_forever()


async def test_a_thousand_banners_wait_for_the_200(pki: Path, tmp_path: Path) -> None:
    """In as long a hold as a test can trust: who reads here shares the thread with the server."""

    async def speak(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 ready\r\n")
        await stream.receive_some(100)

    limit = trio.CapacityLimiter(200)

    async def dial(port: int) -> None:
        async with limit:
            peer = await open_unix(world.unix_frontend)
            assert await connect(peer, f"127.0.0.1:{port}") == ESTABLISHED
            assert await peer.receive_some() == b"220 ready\r\n"
            await peer.stream.aclose()

    async with open_world(pki, tmp_path, server_options={"first_byte_hold": 0.2}) as world:
        port = await world.endpoint(speak)
        await all_of(1000, lambda: dial(port))
        await world.at_rest()
