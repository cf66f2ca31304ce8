"""An agent's calls by `grpcio`: how our server takes them, or does not."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import trio

from tests.interop.grpcioagent import open_agent
from tests.interop.grpciocalls import (
    Metadata,
    Status,
    close_request,
    close_response,
    connect,
    data,
    dial_response,
    generated,
    open_call,
    open_channel,
    packet,
)
from tests.interop.grpcioworld import (
    MIB,
    agent_by_hand,
    agent_channel,
    certificates,
    echo,
    exchange,
    ids,
    is_reset,
    joined_agent,
    open_server_of_ours,
    our_client,
    receive,
    receive_all,
)
from tests.interop.konnectivity.exchange import pattern
from tests.tunneld.tunnelworld import World
from tunneld import client


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


# -- joining ----------------------------------------------------------------------------------


async def test_the_server_says_its_id_and_how_many_there_are(pki: Path, tmp_path: Path) -> None:
    async with (
        open_server_of_ours(pki, tmp_path, server_count=3) as world,
        joined_agent(world) as agent,
    ):
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
    async with open_server_of_ours(pki, tmp_path, any_agent_id=False) as world:
        with agent_channel(world) as channel:
            async with open_call(connect(channel), [("agentid", "other")]) as call:
                status = await call.ended()
            async with open_agent(channel, "demo"):
                await world.connected()
    assert status.code == "UNKNOWN"
    assert "'other' is not one its certificate allows: demo" in status.details


async def test_an_agent_with_another_cas_certificate_is_refused(world: World) -> None:
    with open_channel(world.tunnel_address, world.pki, "frontend/client", "agent") as channel:
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
    async with open_server_of_ours(pki, tmp_path, keepalive=0.05) as world, joined_agent(world):
        await world.until(lambda: world.server.agents()[0]["rtt_ms"] is not None)


# -- packets by hand --------------------------------------------------------------------------


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
