"""A client by `grpcio` at our server's frontends, with our agent and with one by `grpcio`."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.interop.grpciocalls import (
    Status,
    dial_request,
    generated,
    open_call,
    proxy,
)
from tests.interop.grpciopeers import RefusedError, open_client
from tests.interop.grpcioworld import (
    AGENTS,
    MIB,
    agent_of,
    at_rest,
    certificates,
    client_channel,
    echo,
    exchange,
    open_server_of_ours,
    pour,
    receive,
    receive_all,
)
from tests.interop.konnectivity.clients import DIAL_ID
from tests.interop.konnectivity.exchange import pattern
from tests.interop.konnectivity.targets import refusing
from tests.tunneld.tunnelworld import World

FRONTENDS = ("tls", "unix")


@pytest.fixture(autouse=True)
def _compiled() -> None:
    generated()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("etc"))


@pytest.fixture
async def lonely(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    """A server without an agent."""
    async with open_server_of_ours(pki, tmp_path, dial_timeout=0) as opened:
        yield opened


@pytest.fixture(params=AGENTS)
async def world(request: pytest.FixtureRequest, lonely: World) -> AsyncIterator[World]:
    """A server and an agent."""
    async with agent_of(lonely, request.param):
        yield lonely


@pytest.fixture(params=FRONTENDS)
def channel(request: pytest.FixtureRequest, world: World) -> Iterator[Any]:
    with client_channel(world, request.param) as opened:
        yield opened


# -- any frontend, any agent ------------------------------------------------------------------


async def test_a_connection_carries_octets_until_the_client_closes_it(
    world: World, channel: Any
) -> None:
    port = await world.endpoint(echo)
    async with open_client(channel) as ours:
        connection = await ours.dial(f"127.0.0.1:{port}")
        await exchange(connection, pattern(2 * MIB))
        assert not await connection.close()
        assert not connection.error
        assert not ours.strays
        ours.call.end()
        assert await ours.call.ended() == Status("OK", "")
    await at_rest(world)


async def test_what_came_before_the_close_is_delivered(world: World, channel: Any) -> None:
    got = bytearray()
    ended = trio.Event()

    async def take(stream: trio.SocketStream) -> None:
        got.extend(await receive_all(stream))
        ended.set()

    port = await world.endpoint(take)
    async with open_client(channel) as ours:
        connection = await ours.dial(f"127.0.0.1:{port}")
        await connection.send_all(pattern(MIB))
        await connection.close()
        await ended.wait()
    assert got == pattern(MIB)


async def test_an_endpoint_ends_a_connection_behind_its_last_octets(
    world: World, channel: Any
) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await receive(stream, 5)
        await stream.send_all(pattern(MIB))

    port = await world.endpoint(answer)
    async with open_client(channel) as ours:
        connection = await ours.dial(f"127.0.0.1:{port}")
        await connection.send_all(b"hello")
        assert await receive_all(connection) == pattern(MIB)
        assert not connection.error
        await connection.close()
        assert not ours.call.over.is_set()
    await at_rest(world)


async def test_an_endpoint_may_speak_first(world: World, channel: Any) -> None:
    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 I speak first\r\n")
        await echo(stream)

    port = await world.endpoint(greet)
    async with open_client(channel) as ours:
        connection = await ours.dial(f"127.0.0.1:{port}")
        assert await receive(connection, 19) == b"220 I speak first\r\n"


async def test_a_dial_is_refused_in_the_agents_words(world: World, channel: Any) -> None:
    address = refusing()
    async with open_client(channel) as ours:
        with pytest.raises(RefusedError) as caught:
            await ours.dial(address, random=(1 << 63) - 1)
        ours.call.end()
        assert await ours.call.ended() == Status("OK", "")
    text = f"dial tcp {re.escape(address)}: connect: connection refused"
    assert re.fullmatch(text + DIAL_ID, str(caught.value))
    await at_rest(world)


async def test_a_packet_of_3_mib_goes_through(world: World, channel: Any) -> None:
    port = await world.endpoint(echo)
    octets = pattern(3 * MIB)
    async with open_client(channel) as ours, trio.open_nursery() as nursery:
        connection = await ours.dial(f"127.0.0.1:{port}")
        nursery.start_soon(connection.send_all, octets, len(octets))
        assert await receive(connection, len(octets)) == octets


async def test_fifty_calls_share_a_channel(world: World, channel: Any) -> None:
    port = await world.endpoint(echo)

    async def call(number: int) -> None:
        async with open_client(channel) as ours:
            connection = await ours.dial(f"127.0.0.1:{port}", random=7)
            await exchange(connection, pattern(40_000 + number))
            await connection.close()

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(call, number)
    await at_rest(world)


async def test_a_call_that_is_cancelled_takes_its_connection_along(
    world: World, channel: Any
) -> None:
    """And no other call of its channel."""
    cut = trio.Event()

    async def talk(stream: trio.SocketStream) -> None:
        try:
            await pour(stream)
        finally:
            cut.set()

    loud, quiet = await world.endpoint(talk), await world.endpoint(echo)
    async with open_client(channel) as other:
        kept = await other.dial(f"127.0.0.1:{quiet}")
        async with open_client(channel) as ours:
            await receive(await ours.dial(f"127.0.0.1:{loud}"), MIB)
            ours.call.cancel()
            assert (await ours.call.ended()).code == "CANCELLED"
        await cut.wait()
        await exchange(kept, pattern(MIB))


async def test_a_call_that_ends_takes_its_connection_along(world: World, channel: Any) -> None:
    """Once the endpoint has what came before."""
    got = bytearray()

    async def take(stream: trio.SocketStream) -> None:
        got.extend(await receive_all(stream))

    port = await world.endpoint(take)
    async with open_client(channel) as ours:
        connection = await ours.dial(f"127.0.0.1:{port}")
        await connection.send_all(pattern(MIB))
        ours.call.end()
        assert await ours.call.ended() == Status("OK", "")
    await at_rest(world)
    await world.until(lambda: len(got) == MIB)
    assert got == pattern(MIB)


async def test_a_call_that_is_not_read_is_no_harm_to_others(world: World, channel: Any) -> None:
    loud, port = await world.endpoint(pour), await world.endpoint(echo)
    async with open_client(channel) as ours, open_call(proxy(channel)) as unread:
        connection = await ours.dial(f"127.0.0.1:{port}")
        await unread.send(dial_request(f"127.0.0.1:{loud}", 1))
        await unread.receive()
        await exchange(connection, pattern(4 * MIB))


async def test_an_endpoint_that_does_not_read_is_no_harm_to_others(
    world: World, channel: Any
) -> None:
    async def never_read(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    stuck, port = await world.endpoint(never_read), await world.endpoint(echo)
    async with open_client(channel) as ours, open_client(channel) as other:
        connection = await ours.dial(f"127.0.0.1:{port}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pour, await other.dial(f"127.0.0.1:{stuck}"))
            await exchange(connection, pattern(4 * MIB))
            nursery.cancel_scope.cancel()


async def test_a_message_that_is_too_large_ends_its_call_alone(world: World, channel: Any) -> None:
    port = await world.endpoint(echo)
    async with open_client(channel) as other, open_client(channel) as ours:
        kept = await other.dial(f"127.0.0.1:{port}")
        connection = await ours.dial(f"127.0.0.1:{port}")
        await connection.send_all(bytes(5 * MIB), 5 * MIB)
        status = await ours.call.ended()
        await exchange(kept, pattern(MIB))
    assert status.code == "RESOURCE_EXHAUSTED"
    assert "received message larger than max (5242" in status.details


async def test_a_channel_that_closes_takes_all_its_connections_along(world: World) -> None:
    port = await world.endpoint(echo)
    with client_channel(world) as channel:
        async with open_client(channel) as first, open_client(channel) as second:
            for ours in (first, second):
                await exchange(await ours.dial(f"127.0.0.1:{port}"), b"hello")
            channel.close()
            await at_rest(world)
