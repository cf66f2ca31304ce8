"""An agent by `grpcio` at our server, and our client."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest
import trio

from tests.interop.grpciocalls import (
    Metadata,
    PacketCall,
    Status,
    close_request,
    close_response,
    data,
    dial_response,
    drain,
    generated,
    open_call,
    open_channel,
    packet,
)
from tests.interop.grpciopeers import open_agent
from tests.interop.grpcioworld import (
    LIMIT,
    MIB,
    agent_channel,
    certificates,
    echo,
    exchange,
    ids,
    joined_agent,
    our_client,
    pour,
    receive,
    receive_all,
    sink,
)
from tests.interop.konnectivity.exchange import pattern
from tests.interop.konnectivity.targets import refusing
from tests.tunneld.tunnelworld import World, open_world
from tunneld import client

GREETING = b"220 I speak first\r\n"


@pytest.fixture(autouse=True)
def _compiled() -> None:
    generated()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("etc"))


@asynccontextmanager
async def server(pki: Path, tmp_path: Path, **options: object) -> AsyncIterator[World]:
    """Ours, without an agent. It takes a client's end for its last word, unless told otherwise."""
    defaults = {"any_agent_id": True, "server_id": "srv-1", "half_close_grace": 0}
    async with open_world(pki, tmp_path, agent=False, server_options=defaults | options) as opened:
        with trio.fail_after(LIMIT):
            yield opened


@pytest.fixture
async def world(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    async with server(pki, tmp_path) as opened:
        yield opened


def connect(channel: Any) -> Any:
    """The method that agents call."""
    return generated().services.AgentServiceStub(channel).Connect


@asynccontextmanager
async def agent_by_hand(world: World, **options: object) -> AsyncIterator[PacketCall]:
    """An agent's call, to be served by the test."""
    with agent_channel(world, **options) as channel:
        async with open_call(connect(channel), [("agentid", "by-hand")]) as call:
            await call.greeted.wait()
            await world.connected()
            yield call


# -- joining ----------------------------------------------------------------------------------


async def test_the_server_says_its_id_and_how_many_there_are(pki: Path, tmp_path: Path) -> None:
    async with server(pki, tmp_path, server_count=3) as world, joined_agent(world) as agent:
        assert agent.call.metadata["serverid"] == ["srv-1"]
        assert agent.call.metadata["servercount"] == ["3"]


async def test_an_agent_is_on_the_list_while_it_is_there(world: World) -> None:
    async with joined_agent(world, "grpcio 1", "host=a.example&default-route=true"):
        (row,) = world.server.agents()
    await world.until(lambda: not world.server.agents())
    assert (row["id"], row["state"]) == ("grpcio 1", "ready")
    assert row["identifiers"] == {"host": ["a.example"], "default-route": ["true"]}
    assert row["version"].startswith("grpc-python/")


@pytest.mark.parametrize(
    ("metadata", "details"),
    [
        ([], "expected one agent ID in the context, got []"),
        (
            [("agentid", "a"), ("agentid", "b")],
            "expected one agent ID in the context, got [a b]",
        ),
        (
            [("agentid", "a"), ("agentidentifiers", "x=1"), ("agentidentifiers", "y=2")],
            "expected at most one set of agent identifiers in the context, got [x=1 y=2]",
        ),
        (
            [("agentid", "a"), ("agentidentifiers", "%zz")],
            "fail to parse url encoded string: '%zz'",
        ),
    ],
)
async def test_a_call_of_nobody_is_refused_and_the_connection_stays(
    world: World, metadata: Metadata, details: str
) -> None:
    with agent_channel(world) as channel:
        async with open_call(connect(channel), metadata) as call:
            assert await call.ended() == Status("UNKNOWN", details)
        async with open_agent(channel):
            await world.connected()


@pytest.mark.parametrize(
    ("path", "details"),
    [
        ("/ProxyService/Proxy", "unknown service ProxyService"),
        ("/AgentService/Nope", "unknown method Nope for service AgentService"),
    ],
)
async def test_what_no_agent_calls_is_not_there(world: World, path: str, details: str) -> None:
    with agent_channel(world) as channel:
        async with open_call(channel.stream_stream(path)) as call:
            assert await call.ended() == Status("UNIMPLEMENTED", details)


async def test_an_id_that_the_certificate_does_not_name_is_refused(
    pki: Path, tmp_path: Path
) -> None:
    async with server(pki, tmp_path, any_agent_id=False) as world:
        with agent_channel(world) as channel:
            async with open_call(connect(channel), [("agentid", "other")]) as call:
                status = await call.ended()
            async with open_agent(channel, "demo"):
                await world.connected()
    assert status.code == "UNKNOWN"
    assert "'other' is not one its certificate allows: demo" in status.details


async def test_an_agent_with_another_cas_certificate_is_refused(world: World) -> None:
    with open_channel(world.tunnel_address, world.pki, "frontend/client") as channel:
        async with open_call(connect(channel), [("agentid", "demo")]) as call:
            assert (await call.ended()).code == "UNAVAILABLE"
    assert not world.server.agents()


async def test_an_agent_that_pings_often_is_served_all_the_same(world: World) -> None:
    """And answers ours: the server knows how long that takes."""
    port = await world.endpoint(echo)
    eager = {"keepalive_time_ms": 1, "http2__max_pings_without_data": 0}
    with agent_channel(world, **eager) as channel:
        async with open_agent(channel), our_client(world) as ours:
            await world.connected()
            stream = await ours.dial("127.0.0.1", port)
            for _ in range(100):
                await exchange(stream, b"x")


async def test_the_servers_pings_are_answered(pki: Path, tmp_path: Path) -> None:
    async with server(pki, tmp_path, keepalive=0.05) as world, joined_agent(world):
        await world.until(lambda: world.server.agents()[0]["rtt_ms"] is not None)


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

    async with server(pki, tmp_path, half_close_grace=20) as world:
        port = await world.endpoint(answer)
        async with joined_agent(world) as agent, our_client(world) as ours:
            stream = await ours.dial("127.0.0.1", port)
            await stream.send_all(pattern(MIB))
            await stream.send_eof()
            assert await receive(stream, MIB) == pattern(MIB)
            assert not await stream.receive_some()
            assert not agent.asked_to_close


async def test_an_error_of_the_agent_is_no_end_of_a_connection(world: World) -> None:
    async with (
        agent_by_hand(world) as call,
        our_client(world) as ours,
        trio.open_nursery() as tasks,
    ):

        async def refuse() -> None:
            dialled = (await call.receive()).dialRequest
            await call.send(dial_response(dialled.random, 1), data(1, b"some"))
            await call.send(close_response(1, "read: connection reset by peer"))

        tasks.start_soon(refuse)
        stream = await ours.dial("anywhere", 7)
        await is_reset(receive_all(stream))


async def test_a_dial_that_succeeds_too_late_is_closed(world: World) -> None:
    async with agent_by_hand(world) as call:
        async with trio.open_nursery() as dial:
            await dial.start(dial_over_unix, world)
            random = (await call.receive()).dialRequest.random
            dial.cancel_scope.cancel()
        assert (await call.receive()).closeDial.random == random
        await call.send(dial_response(random, 1))
        assert await call.receive() == close_request(1)
        await call.send(data(1, b"too late"), close_response(1))
        await world.until(lambda: not world.server.conns())


async def dial_over_unix(world: World, task_status: trio.TaskStatus[None]) -> None:
    """Where the server sees at once that a client has closed."""
    async with client.connect(f"unix:{world.unix_frontend}") as ours:
        task_status.started()
        await ours.dial("anywhere", 7)


async def test_what_the_server_does_not_know_it_ignores_or_closes(world: World) -> None:
    async with (
        agent_by_hand(world) as call,
        our_client(world) as ours,
        trio.open_nursery() as tasks,
    ):
        await call.send(packet(77), packet(64, data={"connectID": 5, "data": b"x"}))
        await call.send(close_response(3), close_request(4), data(0, b"x"), dial_response(9, 0))
        await call.send(data(8, b"x"), dial_response(12, 13))
        assert await call.receive() == close_request(8)
        assert await call.receive() == close_request(13)
        tasks.start_soon(ours.dial, "anywhere", 7)
        assert (await call.receive()).dialRequest.address == "anywhere:7"
        tasks.cancel_scope.cancel()


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


async def is_reset(what: Awaitable[object]) -> None:
    with pytest.raises(trio.BrokenResourceError):
        await what


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


# -- what breaks a call -----------------------------------------------------------------------


async def test_a_message_that_is_too_large_ends_its_call_alone(world: World) -> None:
    port = await world.endpoint(echo)
    with agent_channel(world) as channel:
        async with open_agent(channel, "other"), our_client(world) as ours:
            await world.connected()
            stream = await ours.dial("127.0.0.1", port)
            async with open_call(connect(channel), [("agentid", "large")]) as call:
                await call.greeted.wait()
                await call.send(data(1, bytes(5 * MIB)))
                status = await call.ended()
            await exchange(stream, pattern(MIB))
            assert ids(world) == ["other"]
    assert status.code == "RESOURCE_EXHAUSTED"
    assert "received message larger than max (5242" in status.details


async def test_a_message_of_4_mib_is_taken(world: World) -> None:
    octets = pattern(4 * MIB - 20)
    async with (
        agent_by_hand(world) as call,
        our_client(world) as ours,
        trio.open_nursery() as tasks,
    ):

        async def answer() -> None:
            random = (await call.receive()).dialRequest.random
            message = data(1, octets)
            assert 4 * MIB - 16 < message.ByteSize() <= 4 * MIB
            await call.send(dial_response(random, 1), message, close_response(1))

        tasks.start_soon(answer)
        stream = await ours.dial("anywhere", 7)
        assert await receive(stream, len(octets)) == octets


async def test_a_call_that_would_compress_is_refused(world: World) -> None:
    with agent_channel(world, compression=grpc.Compression.Gzip) as channel:
        async with open_call(connect(channel), [("agentid", "a")]) as call:
            status = await call.ended()
    text = 'grpc: Decompressor is not installed for grpc-encoding "gzip"'
    assert status == Status("UNIMPLEMENTED", text)
