"""A client's calls by `grpcio` that do not go as they should, or not to their end."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import trio

from tests.interop.grpciocalls import (
    Status,
    close_dial,
    close_request,
    close_response,
    data,
    dial_request,
    dial_response,
    drain,
    generated,
    open_call,
    open_channel,
    packet,
    proxy,
)
from tests.interop.grpciopeers import RefusedError, open_client
from tests.interop.grpcioworld import (
    AGENTS,
    MIB,
    agent_by_hand,
    agent_of,
    at_rest,
    call_by_hand,
    certificates,
    client_channel,
    echo,
    exchange,
    joined_agent,
    open_server_of_ours,
    pour,
    receive,
    receive_all,
    sink,
)
from tests.interop.konnectivity.clients import DIAL_ID
from tests.interop.konnectivity.exchange import pattern
from tests.tunneld.tunnelworld import World


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


# -- deadlines, and dials given up ------------------------------------------------------------


async def test_a_deadline_ends_a_call(world: World) -> None:
    port = await world.endpoint(sink)
    with client_channel(world) as channel:
        async with open_client(channel, timeout=0.5) as ours:
            await ours.dial(f"127.0.0.1:{port}")
            assert (await ours.call.ended()).code == "DEADLINE_EXCEEDED"
    await at_rest(world)


async def test_a_deadline_gives_a_dial_up(lonely: World) -> None:
    async with agent_by_hand(lonely) as agent, call_by_hand(lonely, timeout=0.5) as call:
        await call.send(dial_request("anywhere:7", 1))
        dialled = (await agent.receive()).dialRequest
        assert (await agent.receive()).closeDial.random == dialled.random
        assert (await call.ended()).code == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("how", ["cancel", "half-close", "word"])
async def test_a_client_may_give_its_dial_up(lonely: World, how: str) -> None:
    """The agent hears of it, and closes what it connects to after all."""
    async with agent_by_hand(lonely) as agent, call_by_hand(lonely) as call:
        await call.send(dial_request("anywhere:7", 1))
        dialled = (await agent.receive()).dialRequest
        if how == "word":
            await call.send(close_dial(1))
        else:
            {"cancel": call.cancel, "half-close": call.end}[how]()
        assert (await agent.receive()).closeDial.random == dialled.random
        await agent.send(dial_response(dialled.random, 1))
        assert await agent.receive() == close_request(1)
        await agent.send(close_response(1))
        if how == "word":
            call.end()
        expected = "CANCELLED" if how == "cancel" else "OK"
        assert (await call.ended()).code == expected
    await at_rest(lonely)


# -- what the server says itself --------------------------------------------------------------


async def test_without_an_agent_a_dial_fails_and_the_call_goes_on(lonely: World) -> None:
    async with call_by_hand(lonely) as call:
        await call.send(dial_request("127.0.0.1:7", 5))
        answer = (await call.receive()).dialResponse
        assert (answer.random, answer.connectID) == (5, 0)
        assert re.fullmatch(f"No agent available{DIAL_ID}", answer.error)
        await call.send(dial_request("127.0.0.1:7", 6), data(1, b"x"), close_request(1))
        call.end()
        assert await call.ended() == Status("OK", "")
        with pytest.raises(trio.EndOfChannel):
            await call.receive()


async def test_an_agent_that_is_lost_answers_the_dial(lonely: World) -> None:
    async with call_by_hand(lonely) as call:
        async with agent_by_hand(lonely) as agent:
            await call.send(dial_request("anywhere:7", 1))
            await agent.receive()
        answer = (await call.receive()).dialResponse
        assert (answer.random, answer.connectID) == (1, 0)
        assert re.fullmatch(f"Backend context error: context canceled{DIAL_ID}", answer.error)


async def test_an_agent_that_is_lost_ends_the_connection(lonely: World) -> None:
    with client_channel(lonely) as channel:
        async with open_client(channel) as ours:
            async with joined_agent(lonely):
                port = await lonely.endpoint(pour)
                connection = await ours.dial(f"127.0.0.1:{port}")
                await receive(connection, MIB)
            await receive_all(connection)
            assert connection.closed.is_set()
            assert connection.error.startswith("tunnel of agent grpcio lost")
            assert not ours.call.over.is_set()


async def test_before_the_dial_there_is_nothing_to_close_or_to_carry(lonely: World) -> None:
    async with call_by_hand(lonely) as call:
        await call.send(close_request(3), drain(), packet(77))
        assert await call.receive() == close_response(3, "backend uninitialized")
        await call.send(data(0, b"x"), data(4, b"x"))
        assert await call.receive() == close_response(4, "backend not initialized")


async def test_octets_of_another_connection_close_both(lonely: World) -> None:
    port = await lonely.endpoint(sink)
    async with joined_agent(lonely), call_by_hand(lonely) as call:
        await call.send(dial_request(f"127.0.0.1:{port}", 1))
        connect_id = (await call.receive()).dialResponse.connectID
        await call.send(data(connect_id + 1, b"x"))
        text = "mismatched connection IDs"
        assert await call.receive() == close_response(connect_id + 1, text)
        assert await call.receive() == close_response(connect_id, text)
    await at_rest(lonely)


async def test_unix_sockets_of_the_agent_cannot_be_dialled(world: World) -> None:
    with client_channel(world) as channel:
        async with open_client(channel) as ours:
            with pytest.raises(RefusedError, match=f"^dial: unknown network unix{DIAL_ID}$"):
                await ours.dial("/run/secret.sock", protocol="unix")


# -- what breaks a call -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "details"),
    [
        ("/AgentService/Connect", "unknown service AgentService"),
        ("/ProxyService/Nope", "unknown method Nope for service ProxyService"),
    ],
)
async def test_what_no_client_calls_is_not_there(lonely: World, path: str, details: str) -> None:
    with client_channel(lonely) as channel:
        async with open_call(channel.stream_stream(path)) as call:
            assert await call.ended() == Status("UNIMPLEMENTED", details)


async def test_a_call_that_would_compress_is_refused(lonely: World) -> None:
    with client_channel(lonely, compression=grpc.Compression.Deflate) as channel:
        async with open_call(proxy(channel)) as call:
            assert (await call.ended()).code == "UNIMPLEMENTED"


async def test_a_client_with_an_agents_certificate_is_refused(lonely: World) -> None:
    address = "{}:{}".format(*lonely.frontend)
    with open_channel(address, lonely.pki, "agent/agent", "frontend") as channel:
        async with open_call(proxy(channel)) as call:
            assert (await call.ended()).code == "UNAVAILABLE"


async def test_a_server_that_drains_lets_calls_end_and_takes_no_more(world: World) -> None:
    port = await world.endpoint(echo)
    with client_channel(world) as channel:
        async with open_client(channel) as ours:
            connection = await ours.dial(f"127.0.0.1:{port}")
            world.server_host.drain.set()
            await exchange(connection, pattern(MIB))
            await connection.close()
            ours.call.end()
            assert await ours.call.ended() == Status("OK", "")
        await world.server_done.wait()
        async with open_call(proxy(channel)) as call:
            assert (await call.ended()).code == "UNAVAILABLE"


async def test_a_channel_comes_back_to_a_server_that_is_started_again(world: World) -> None:
    port = await world.endpoint(echo)
    with client_channel(world, "unix") as channel:
        async with open_client(channel) as ours:
            await exchange(await ours.dial(f"127.0.0.1:{port}"), b"hello")
            world.server_scope.cancel()
            assert (await ours.call.ended()).code == "UNAVAILABLE"
        await world.server_done.wait()
        await world.start_server()
        async with joined_agent(world), open_client(channel) as ours:
            await exchange(await ours.dial(f"127.0.0.1:{port}"), b"again")


async def test_a_client_that_pings_often_is_served_all_the_same(world: World) -> None:
    port = await world.endpoint(echo)
    eager = {"keepalive_time_ms": 1, "http2__max_pings_without_data": 0}
    with client_channel(world, "tls", **eager) as channel:
        async with open_client(channel) as ours:
            connection = await ours.dial(f"127.0.0.1:{port}")
            for _ in range(100):
                await exchange(connection, b"x")


async def test_a_server_that_is_killed_fails_its_calls(world: World) -> None:
    port = await world.endpoint(echo)
    with client_channel(world) as channel:
        async with open_client(channel) as ours:
            await ours.dial(f"127.0.0.1:{port}")
            world.server_scope.cancel()
            assert (await ours.call.ended()).code == "UNAVAILABLE"
