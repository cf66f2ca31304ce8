"""Our agent at servers by `grpcio`, which are behind one address."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trio

from tests.interop.grpciocalls import (
    close_dial,
    close_request,
    close_response,
    data,
    generated,
    packet,
)
from tests.interop.grpciopeers import Dialler, LostError, RefusedError
from tests.interop.grpcioserver import Server, open_balancer, open_server
from tests.interop.grpcioworld import (
    LIMIT,
    MIB,
    OurAgent,
    certificates,
    echo,
    exchange,
    open_our_agent,
    pour,
    receive,
    receive_all,
    until,
)
from tests.interop.konnectivity.exchange import pattern
from tests.interop.konnectivity.targets import Unanswering, refusing
from tunneld import __version__
from tunneld.role import RoleState


@pytest.fixture(autouse=True)
def _compiled() -> None:
    generated()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("etc"))


@asynccontextmanager
async def one_of_each(
    pki: Path, *, options: Any = (), **agent_options: Any
) -> AsyncIterator[tuple[Server, OurAgent]]:
    """A server, and an agent of ours that is connected to it."""
    async with open_server(pki, "srv-1", options=options) as server:
        address = f"127.0.0.1:{server.port}"
        async with open_our_agent(pki, address, **agent_options) as agent:
            await agent.has("srv-1")
            yield server, agent


def the_one(server: Server) -> Dialler:
    (agent,) = server.live
    return agent


# -- joining ----------------------------------------------------------------------------------


async def test_the_agent_says_who_it_is(pki: Path) -> None:
    async with one_of_each(pki) as (server, _):
        metadata = the_one(server).call.metadata
    assert metadata["agentid"] == ["demo"]
    assert metadata["agentidentifiers"] == [""]
    assert metadata["user-agent"] == [f"tunneld/{__version__}"]
    assert "authorization" not in metadata


async def test_the_agent_shows_its_token_as_it_is_now(pki: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    options = {"agent_id": "a b", "identifiers": "host=x.example", "token_path": str(token)}
    async with one_of_each(pki, **options) as (server, _):
        first = the_one(server).call
        token.write_text("second\n")
        first.end()
        await until(lambda: len(server.agents) == 2)
        second = server.agents[1].call
    assert first.metadata["agentid"] == second.metadata["agentid"] == ["a b"]
    assert first.metadata["agentidentifiers"] == ["host=x.example"]
    assert first.metadata["authorization"] == ["Bearer first"]
    assert second.metadata["authorization"] == ["Bearer second"]


async def test_an_agent_that_is_refused_says_why_and_tries_again(pki: Path) -> None:
    async with open_server(pki, "srv-1") as server:
        server.refusal = grpc.StatusCode.UNAUTHENTICATED, "no such token"
        async with open_our_agent(pki, f"127.0.0.1:{server.port}") as agent:
            await until(lambda: agent.states and agent.states[-1][0] is RoleState.BACKOFF)
            assert "no such token (Unauthenticated)" in agent.states[-1][1]
            server.refusal = None
            await agent.has("srv-1")


async def test_an_agent_holds_one_tunnel_to_each_of_two_servers(pki: Path) -> None:
    """Although the address leads it to one of them twice."""
    async with (
        open_server(pki, "a", 2) as a,
        open_server(pki, "b", 2) as b,
        open_balancer([a, a, a, b]) as balancer,
        open_our_agent(pki, balancer.address) as agent,
    ):
        await agent.has("a", "b")
        await until(lambda: len(a.live) == len(b.live) == 1)
        assert len(a.agents) == 3
        address = await agent.endpoint(echo)
        async with trio.open_nursery() as nursery:
            for server in (a, b):
                connection = await the_one(server).dial(address)
                nursery.start_soon(exchange, connection, pattern(MIB))


# -- carrying ---------------------------------------------------------------------------------


async def test_20_mib_go_both_ways_at_once(pki: Path) -> None:
    async with one_of_each(pki) as (server, agent):
        connection = await the_one(server).dial(await agent.endpoint(echo))
        await exchange(connection, pattern(20 * MIB))


async def test_a_hundred_connections_are_carried_at_once(pki: Path) -> None:
    async with one_of_each(pki) as (server, agent):
        dialler, address = the_one(server), await agent.endpoint(echo)
        connections = [await dialler.dial(address) for _ in range(100)]
        async with trio.open_nursery() as nursery:
            for number, connection in enumerate(connections):
                nursery.start_soon(exchange, connection, pattern(40_000 + number))
        for connection in connections:
            await connection.close()
        await until(lambda: not agent.role.conns())
        assert not dialler.strays


async def test_a_packet_of_3_mib_goes_through(pki: Path) -> None:
    octets = pattern(3 * MIB)
    async with one_of_each(pki) as (server, agent), trio.open_nursery() as nursery:
        connection = await the_one(server).dial(await agent.endpoint(echo))
        nursery.start_soon(connection.send_all, octets, len(octets))
        assert await receive(connection, len(octets)) == octets


async def test_an_endpoint_that_does_not_read_is_no_harm_to_others(pki: Path) -> None:
    """It is closed, once too much waits for it."""

    async def never_read(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with one_of_each(pki) as (server, agent), trio.open_nursery() as nursery:
        dialler = the_one(server)
        connection = await dialler.dial(await agent.endpoint(echo))
        stuck = await dialler.dial(await agent.endpoint(never_read))
        nursery.start_soon(pour, stuck)
        await stuck.closed.wait()
        nursery.cancel_scope.cancel()
        assert stuck.error.endswith("octets wait to be taken, and others need the tunnel")
        await exchange(connection, pattern(MIB))


async def test_an_endpoint_may_speak_first_and_end_the_connection(pki: Path) -> None:
    async def speak(stream: trio.SocketStream) -> None:
        await stream.send_all(pattern(MIB))

    async with one_of_each(pki) as (server, agent):
        connection = await the_one(server).dial(await agent.endpoint(speak))
        assert await receive_all(connection) == pattern(MIB)
        assert not connection.error
        await connection.close()
        await until(lambda: the_one(server).strays)
        (stray,) = the_one(server).strays
    assert stray == close_response(connection.id, "Unknown connectID")


async def test_the_endpoint_gets_what_came_before_the_close(pki: Path) -> None:
    got = bytearray()

    async def take(stream: trio.SocketStream) -> None:
        got.extend(await receive_all(stream))

    async with one_of_each(pki) as (server, agent):
        connection = await the_one(server).dial(await agent.endpoint(take))
        await connection.send_all(pattern(MIB))
        assert not await connection.close()
        assert not connection.error
        await until(lambda: len(got) == MIB)
    assert got == pattern(MIB)


@pytest.mark.parametrize("number", [0, -1, -(1 << 63), (1 << 63) - 1])
async def test_a_dial_is_answered_by_its_number(pki: Path, number: int) -> None:
    address = refusing()
    async with one_of_each(pki) as (server, _):
        with pytest.raises(RefusedError) as caught:
            await the_one(server).dial(address, number)
    assert str(caught.value) == f"dial tcp {address}: connect: connection refused"


async def test_unix_sockets_of_the_agent_cannot_be_dialled(pki: Path) -> None:
    async with one_of_each(pki) as (server, _):
        with pytest.raises(RefusedError, match="unknown network unix"):
            await the_one(server).dial("/run/secret.sock", protocol="unix")


async def test_a_dial_that_is_given_up_gets_no_answer(pki: Path) -> None:
    async with one_of_each(pki) as (server, agent):
        dialler, address = the_one(server), await agent.endpoint(echo)
        with Unanswering() as unanswering:
            async with trio.open_nursery() as dial:
                dial.start_soon(dialler.dial, unanswering.address)
                await until(lambda: agent.role.conns())
                dial.cancel_scope.cancel()
            await until(lambda: not agent.role.conns())
        assert await dialler.dial(address)
        assert not dialler.strays


async def test_what_the_agent_does_not_know_it_ignores_or_closes(pki: Path) -> None:
    async with one_of_each(pki) as (server, agent):
        dialler, address = the_one(server), await agent.endpoint(echo)
        await dialler.call.send(packet(77), close_dial(5), close_response(3), data(0, b"x"))
        await dialler.call.send(data(8, b"x"), close_request(9))
        await until(lambda: len(dialler.strays) == 2)
        await exchange(await dialler.dial(address), b"hello")
    assert dialler.strays == [
        close_response(8, "unrecognized connectID"),
        close_response(9, "Unknown connectID"),
    ]


async def test_the_servers_pings_are_answered(pki: Path) -> None:
    options = [("grpc.keepalive_time_ms", 1), ("grpc.keepalive_timeout_ms", 5_000)]
    async with one_of_each(pki, options=options) as (server, agent):
        connection = await the_one(server).dial(await agent.endpoint(echo))
        for _ in range(100):
            await exchange(connection, b"x")


# -- ends -------------------------------------------------------------------------------------


async def test_an_agent_comes_back_to_a_server_that_ended_the_call(pki: Path) -> None:
    async with one_of_each(pki) as (server, agent):
        address = await agent.endpoint(pour)
        connection = await the_one(server).dial(address)
        await receive(connection, MIB)
        the_one(server).call.cancel()
        await until(lambda: len(server.agents) == 2)
        assert await the_one(server).dial(address)


async def test_a_message_that_is_too_large_ends_the_call(pki: Path) -> None:
    async with one_of_each(pki) as (server, agent):
        first = the_one(server)
        await first.call.send(data(1, bytes(5 * MIB)))
        await until(lambda: len(server.agents) == 2)
        await first.call.over.wait()
        assert await the_one(server).dial(await agent.endpoint(echo))


async def test_a_server_that_is_killed_loses_all_and_is_replaced(pki: Path) -> None:
    cut = trio.Event()

    async def talk(stream: trio.SocketStream) -> None:
        try:
            await pour(stream)
        finally:
            cut.set()

    async with (
        open_server(pki, "old") as old,
        open_server(pki, "new") as new,
        open_balancer([old]) as balancer,
        open_our_agent(pki, balancer.address) as agent,
    ):
        await agent.has("old")
        connection = await the_one(old).dial(await agent.endpoint(talk))
        await receive(connection, MIB)
        balancer.servers = [new]
        await old.stop()
        with pytest.raises(LostError):
            await receive_all(connection)
        await cut.wait()
        await agent.has("new")
        connection = await the_one(new).dial(await agent.endpoint(echo))
        await exchange(connection, b"hello")


async def test_a_server_that_stops_gracefully_is_replaced_and_its_connections_last(
    pki: Path,
) -> None:
    async with (
        open_server(pki, "old") as old,
        open_server(pki, "new") as new,
        open_balancer([old]) as balancer,
        open_our_agent(pki, balancer.address) as agent,
        trio.open_nursery() as nursery,
    ):
        await agent.has("old")
        address = await agent.endpoint(echo)
        kept = await the_one(old).dial(address)
        balancer.servers = [new]
        nursery.start_soon(old.stop, LIMIT)
        await until(lambda: new.live)
        await exchange(await the_one(new).dial(address), pattern(MIB))
        await exchange(kept, pattern(MIB))
        await kept.close()
        await the_one(old).call.over.wait()
        await agent.has("new")


async def test_a_server_that_ends_old_connections_gets_the_agent_back(pki: Path) -> None:
    """Under the id it knows already."""
    ages = [("grpc.max_connection_age_ms", 200), ("grpc.max_connection_age_grace_ms", 30_000)]
    async with one_of_each(pki, options=ages) as (server, agent):
        address = await agent.endpoint(echo)
        kept = await the_one(server).dial(address)
        await until(lambda: len(server.agents) == 2)
        await exchange(await server.agents[1].dial(address), pattern(MIB))
        await exchange(kept, pattern(MIB))


async def test_an_agent_that_drains_says_so_and_leaves_after_its_last_connection(
    pki: Path,
) -> None:
    async with one_of_each(pki) as (server, agent):
        dialler, address = the_one(server), await agent.endpoint(echo)
        kept = await dialler.dial(address)
        agent.host.drain.set()
        await dialler.drained.wait()
        await exchange(await dialler.dial(address), b"a late one")
        await exchange(kept, pattern(MIB))
        for connection in list(dialler.connections.values()):
            await connection.close()
        await agent.done.wait()
        await dialler.call.over.wait()
        assert len(server.agents) == 1
