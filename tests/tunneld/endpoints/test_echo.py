"""The echo endpoint: every octet, half-close, back-pressure, reset."""

import random
import socket
import struct

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair

from tests.tunneld.endpoints.conftest import Running
from tunneld.config import EchoConfig
from tunneld.endpoints.echo import EchoRole, echo
from tunneld.role import Host, RoleError

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def role(host: Host) -> EchoRole:
    return EchoRole(EchoConfig(name="echo", listen="127.0.0.1:0"), host)


async def test_octets_come_back_after_a_half_close(host: Host, running: Running) -> None:
    data = random.Random(1).randbytes(1 << 20)
    received = bytearray()

    async def send(client: trio.SocketStream) -> None:
        await client.send_all(data)
        await client.send_eof()

    async with running(role(host)) as address, trio.open_nursery() as nursery:
        client = await trio.open_tcp_stream(*address)
        async with client:
            nursery.start_soon(send, client)
            async for chunk in client:
                received += chunk
    assert received == data


async def test_silent_peer_that_half_closes_gets_the_end_back() -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo, ours)
        await theirs.send_eof()
        assert await theirs.receive_some() == b""


async def test_peer_that_does_not_read_is_not_read_from(autojump_clock: MockClock) -> None:
    ours, theirs = lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo, ours)
        await theirs.send_all(b"first")
        with trio.move_on_after(60) as waiting:
            await theirs.send_all(b"second")
        assert waiting.cancelled_caught
        assert await theirs.receive_some() == b"first"
        nursery.cancel_scope.cancel()


async def test_reset_of_one_peer_leaves_the_others_alone(host: Host, running: Running) -> None:
    async with running(role(host)) as address:
        gone, staying = [await trio.open_tcp_stream(*address) for _ in range(2)]
        async with staying:
            await gone.send_all(b"x" * 100_000)
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            await gone.aclose()
            await staying.send_all(b"still here")
            assert await staying.receive_some() == b"still here"


async def test_taken_address_is_a_role_error(host: Host, running: Running) -> None:
    async with running(role(host)) as (address, port):
        second = EchoRole(EchoConfig(name="two", listen=f"{address}:{port}"), host)
        with pytest.raises(RoleError, match="in use"):
            await second.run()


async def test_role_ends_when_drained(host: Host) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(role(host).run)
        host.drain.set()
    assert host.drain.is_set()
