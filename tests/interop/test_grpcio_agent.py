"""An agent by `grpcio` at our server, and our client."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio

from tests.interop.grpcioagent import open_agent
from tests.interop.grpciocalls import (
    PacketCall,
    Status,
    drain,
    generated,
)
from tests.interop.grpcioworld import (
    MIB,
    agent_channel,
    certificates,
    echo,
    exchange,
    is_reset,
    joined_agent,
    open_server_of_ours,
    our_client,
    pour,
    receive,
    receive_all,
    sink,
)
from tests.interop.konnectivity.exchange import pattern
from tests.interop.konnectivity.targets import refusing
from tests.tunneld.tunnelworld import World
from tunneld import client

GREETING = b"220 I speak first\r\n"


@pytest.fixture(autouse=True)
def _compiled() -> None:
    generated()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("etc"))


@pytest.fixture
async def world(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    async with open_server_of_ours(pki, tmp_path) as opened:
        yield opened


# -- carrying ---------------------------------------------------------------------------------


async def test_20_mib_go_both_ways_at_once(world: World) -> None:
    port = await world.endpoint(echo)
    async with joined_agent(world), our_client(world) as ours:
        await exchange(await ours.dial("127.0.0.1", port), pattern(20 * MIB))


async def test_a_hundred_connections_are_carried_at_once(world: World) -> None:
    port = await world.endpoint(echo)
    async with joined_agent(world) as agent, our_client(world) as ours:
        streams = [await ours.dial("127.0.0.1", port) for _ in range(100)]
        async with trio.open_nursery() as nursery:
            for number, stream in enumerate(streams):
                nursery.start_soon(exchange, stream, pattern(40_000 + number))
        assert len(agent.connections) == len(set(agent.randoms)) == 100
        for stream in streams:
            await stream.aclose()
        await world.until(lambda: not agent.connections and not world.server.conns())


async def test_two_agents_of_one_id_use_the_same_connect_ids(world: World) -> None:
    port = await world.endpoint(echo)
    async with joined_agent(world) as first, joined_agent(world) as second:
        await world.until(lambda: len(world.server.agents()) == 2)
        async with our_client(world) as ours, trio.open_nursery() as nursery:
            for number in range(20):
                stream = await ours.dial("127.0.0.1", port)
                nursery.start_soon(exchange, stream, pattern(100_000 + number))
        assert first.connections == second.connections == set(range(1, 11))


async def test_an_endpoint_may_speak_first(world: World) -> None:
    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(GREETING)
        await echo(stream)

    port = await world.endpoint(greet)
    async with joined_agent(world), our_client(world) as ours:
        for _ in range(20):
            stream = await ours.dial("127.0.0.1", port)
            assert await receive(stream, len(GREETING)) == GREETING
            await exchange(stream, b"hello")


async def test_the_agents_reason_reaches_the_client(world: World) -> None:
    address = refusing()
    host, _, port = address.rpartition(":")
    async with joined_agent(world), our_client(world) as ours:
        with pytest.raises(client.DialError) as caught:
            await ours.dial(host, int(port))
    assert caught.value.code == "refused"
    assert caught.value.message == f"dial tcp {address}: connect: connection refused"


async def test_a_client_that_does_not_read_is_no_harm_to_others(world: World) -> None:
    """It is closed, once too much waits for it."""
    loud, port = await world.endpoint(pour), await world.endpoint(echo)
    overruns = world.server.telemetry.tunneld_overrun_connections_total
    async with joined_agent(world) as agent, our_client(world) as ours:
        stream = await ours.dial("127.0.0.1", port)
        await ours.dial("127.0.0.1", loud)
        await world.until(lambda: overruns["to_client"])
        await exchange(stream, pattern(MIB))
        await world.until(lambda: agent.connections == {1})


# -- ends -------------------------------------------------------------------------------------


async def test_an_endpoint_ends_a_connection_behind_its_last_octets(world: World) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await receive(stream, 5)
        await stream.send_all(pattern(MIB))

    port = await world.endpoint(answer)
    async with joined_agent(world) as agent, our_client(world) as ours:
        stream = await ours.dial("127.0.0.1", port)
        await stream.send_all(b"hello")
        assert await receive(stream, MIB) == pattern(MIB)
        assert not await stream.receive_some()
        assert not agent.connections
        await stream.aclose()
        await world.until(lambda: not world.server.conns())


async def test_a_clients_end_reaches_the_endpoint_behind_its_last_octets(world: World) -> None:
    got = bytearray()
    ended = trio.Event()

    async def take(stream: trio.SocketStream) -> None:
        async for octets in stream:
            got.extend(octets)
        ended.set()

    port = await world.endpoint(take)
    async with joined_agent(world) as agent, our_client(world) as ours:
        stream = await ours.dial("127.0.0.1", port)
        await stream.send_all(pattern(MIB))
        await stream.send_eof()
        await ended.wait()
        assert not await stream.receive_some()
        assert agent.asked_to_close == [1]
    assert got == pattern(MIB)


async def test_an_answer_comes_after_the_question_has_ended(pki: Path, tmp_path: Path) -> None:
    """The protocol has no half-close: the server waits for a silent endpoint before it asks."""

    async def answer(stream: trio.SocketStream) -> None:
        await stream.send_all(await receive(stream, MIB))

    async with open_server_of_ours(pki, tmp_path, half_close_grace=20) as world:
        port = await world.endpoint(answer)
        async with joined_agent(world) as agent, our_client(world) as ours:
            stream = await ours.dial("127.0.0.1", port)
            await stream.send_all(pattern(MIB))
            await stream.send_eof()
            assert await receive(stream, MIB) == pattern(MIB)
            assert not await stream.receive_some()
            assert not agent.asked_to_close


Vanish: TypeAlias = Callable[[Any, PacketCall], None]


@pytest.mark.parametrize(
    "vanish",
    [
        lambda channel, call: call.cancel(),
        lambda channel, call: call.end(),
        lambda channel, call: channel.close(),
    ],
    ids=["cancel", "half-close", "connection"],
)
async def test_an_agent_that_vanishes_takes_its_connections_and_dials_along(
    world: World, vanish: Vanish
) -> None:
    ports = [await world.endpoint(serve) for serve in (pour, sink, echo)]
    with agent_channel(world) as channel:
        async with open_agent(channel) as agent, our_client(world) as ours:
            await world.connected()
            loud, busy, quiet = [await ours.dial("127.0.0.1", port) for port in ports]
            await receive(loud, MIB)
            agent.deaf = True
            async with trio.open_nursery() as nursery:
                nursery.start_soon(dial_in_vain, ours)
                nursery.start_soon(is_reset, pour(busy))
                await world.until(lambda: len(agent.randoms) == 4)
                vanish(channel, agent.call)
                await is_reset(receive_all(loud))
                await is_reset(receive_all(quiet))
            await world.until(lambda: not world.server.agents() and not world.server.conns())


async def dial_in_vain(ours: client.Client) -> None:
    with pytest.raises(client.DialError) as caught:
        await ours.dial("slow", 7)
    assert caught.value.message == "Backend context error: context canceled"


# -- draining ---------------------------------------------------------------------------------


async def test_an_agent_that_drains_keeps_what_it_has_and_is_the_last_resort(
    world: World,
) -> None:
    port = await world.endpoint(echo)
    async with joined_agent(world, "old") as old, our_client(world) as ours:
        kept = await ours.dial("127.0.0.1", port)
        await old.call.send(drain())
        await world.until(lambda: world.server.agents()[0]["state"] == "draining")
        await exchange(await ours.dial("127.0.0.1", port), b"nobody else is there")
        async with joined_agent(world, "new") as new:
            for _ in range(10):
                await exchange(await ours.dial("127.0.0.1", port), b"to the new one")
            assert (len(old.randoms), len(new.randoms)) == (2, 10)
        await exchange(kept, pattern(MIB))


async def test_a_server_that_drains_ends_the_call_after_the_last_connection(world: World) -> None:
    port = await world.endpoint(echo)
    with agent_channel(world) as channel:
        async with open_agent(channel) as agent, our_client(world) as ours:
            await world.connected()
            stream = await ours.dial("127.0.0.1", port)
            world.server_host.drain.set()
            await exchange(stream, pattern(MIB))
            assert not agent.call.over.is_set()
            await stream.aclose()
            status = await agent.call.ended()
    assert status == Status("UNAVAILABLE", "the server is shutting down")


async def test_an_agent_comes_back_to_a_server_that_is_started_again(world: World) -> None:
    port = await world.endpoint(echo)
    async with joined_agent(world) as agent:
        world.server_scope.cancel()
        assert (await agent.call.ended()).code == "UNAVAILABLE"
    await world.server_done.wait()
    await world.start_server()
    async with joined_agent(world), our_client(world) as ours:
        await exchange(await ours.dial("127.0.0.1", port), b"again")
