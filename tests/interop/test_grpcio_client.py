"""A client by `grpcio` at our server's frontends, with our agent and with one by `grpcio`."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trio

from tests.interop.grpciocalls import (
    PacketCall,
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
)
from tests.interop.grpciopeers import RefusedError, open_client
from tests.interop.grpcioworld import (
    LIMIT,
    MIB,
    agent_channel,
    certificates,
    echo,
    exchange,
    joined_agent,
    pour,
    receive,
    receive_all,
    sink,
)
from tests.interop.konnectivity.exchange import pattern
from tests.interop.konnectivity.targets import refusing
from tests.tunneld.tunnelworld import World, open_world

FRONTENDS = ("tls", "unix")
AGENTS = ("ours", "grpcio")


@pytest.fixture(autouse=True)
def _compiled() -> None:
    generated()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("etc"))


@pytest.fixture
async def lonely(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    """A server without an agent."""
    options = {"any_agent_id": True, "dial_timeout": 0}
    async with open_world(pki, tmp_path, agent=False, server_options=options) as opened:
        with trio.fail_after(LIMIT):
            yield opened


@pytest.fixture(params=AGENTS)
async def world(request: pytest.FixtureRequest, lonely: World) -> AsyncIterator[World]:
    """A server and an agent."""
    if request.param == "ours":
        await lonely.start_agent()
        await lonely.connected()
        yield lonely
    else:
        async with joined_agent(lonely):
            yield lonely


@contextmanager
def channel_to(world: World, frontend: str = "tls", **options: Any) -> Iterator[Any]:
    if frontend == "unix":
        with open_channel(f"unix:{world.unix_frontend}", **options) as channel:
            yield channel
    else:
        address = "{}:{}".format(*world.frontend)
        with open_channel(address, world.pki, "frontend/client", **options) as channel:
            yield channel


@pytest.fixture(params=FRONTENDS)
def channel(request: pytest.FixtureRequest, world: World) -> Iterator[Any]:
    with channel_to(world, request.param) as opened:
        yield opened


def proxy(channel: Any) -> Any:
    """The method that clients call."""
    return generated().services.ProxyServiceStub(channel).Proxy


@asynccontextmanager
async def call_by_hand(world: World, timeout: float | None = None) -> AsyncIterator[PacketCall]:
    """A client's call, to be served by the test."""
    with channel_to(world) as channel:
        async with open_call(proxy(channel), timeout=timeout) as call:
            yield call


@asynccontextmanager
async def agent_by_hand(world: World) -> AsyncIterator[PacketCall]:
    with agent_channel(world) as channel:
        connect = generated().services.AgentServiceStub(channel).Connect
        async with open_call(connect, [("agentid", "by-hand")]) as call:
            await call.greeted.wait()
            await world.connected()
            yield call


async def at_rest(world: World) -> None:
    """Wait until nothing is left of any connection."""
    await world.until(lambda: not world.server.conns())


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
    assert str(caught.value) == f"dial tcp {address}: connect: connection refused"
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


async def test_a_channel_that_closes_takes_all_its_connections_along(world: World) -> None:
    port = await world.endpoint(echo)
    with channel_to(world) as channel:
        async with open_client(channel) as first, open_client(channel) as second:
            for ours in (first, second):
                await exchange(await ours.dial(f"127.0.0.1:{port}"), b"hello")
            channel.close()
            await at_rest(world)


# -- deadlines, and dials given up ------------------------------------------------------------


async def test_a_deadline_ends_a_call(world: World) -> None:
    port = await world.endpoint(sink)
    with channel_to(world) as channel:
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
        assert await call.receive() == dial_response(5, 0, "No agent available")
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
        text = "Backend context error: context canceled"
        assert await call.receive() == dial_response(1, 0, text)


async def test_an_agent_that_is_lost_ends_the_connection(lonely: World) -> None:
    with channel_to(lonely) as channel:
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
    with channel_to(world) as channel:
        async with open_client(channel) as ours:
            with pytest.raises(RefusedError, match=r"^dial: unknown network unix$"):
                await ours.dial("/run/secret.sock", protocol="unix")


# -- what breaks a call -----------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("path", "details"),
    [
        ("/AgentService/Connect", "unknown service AgentService"),
        ("/ProxyService/Nope", "unknown method Nope for service ProxyService"),
    ],
)
async def test_what_no_client_calls_is_not_there(lonely: World, path: str, details: str) -> None:
    with channel_to(lonely) as channel:
        async with open_call(channel.stream_stream(path)) as call:
            assert await call.ended() == Status("UNIMPLEMENTED", details)


async def test_a_call_that_would_compress_is_refused(lonely: World) -> None:
    with channel_to(lonely, compression=grpc.Compression.Deflate) as channel:
        async with open_call(proxy(channel)) as call:
            assert (await call.ended()).code == "UNIMPLEMENTED"


async def test_a_client_with_an_agents_certificate_is_refused(lonely: World) -> None:
    address = "{}:{}".format(*lonely.frontend)
    with open_channel(address, lonely.pki, "agent/agent") as channel:
        async with open_call(proxy(channel)) as call:
            assert (await call.ended()).code == "UNAVAILABLE"


async def test_a_server_that_drains_lets_calls_end_and_takes_no_more(world: World) -> None:
    port = await world.endpoint(echo)
    with channel_to(world) as channel:
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


async def test_a_server_that_is_killed_fails_its_calls(world: World) -> None:
    port = await world.endpoint(echo)
    with channel_to(world) as channel:
        async with open_client(channel) as ours:
            await ours.dial(f"127.0.0.1:{port}")
            world.server_scope.cancel()
            assert (await ours.call.ended()).code == "UNAVAILABLE"
