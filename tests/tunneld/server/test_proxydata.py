"""Octets of konnectivity's clients by gRPC: what waits, much of it, and many at once."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.tunneld.server.konnectivitypeers import (
    Call,
    GrpcClient,
    asked,
    close_req,
    close_rsp,
    data,
    dial_req,
    dial_rsp,
    dialled,
    end,
    leave,
    open_agent,
    open_client,
    open_server,
)
from tests.tunneld.tunnelworld import World, open_world
from tunneld.telemetry import (
    FROM_CLIENT,
    PROXY,
    TO_CLIENT,
)

BULK = bytes(range(256)) * 8_000
"""2 MiB."""


@pytest.fixture
async def world(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    with trio.fail_after(90):
        async with open_server(pki, tmp_path, half_close_grace=0.02, dial_timeout=0) as opened:
            yield opened


# -- an endpoint that speaks first ------------------------------------------------------------


HOLD = 2.0


async def test_its_octets_wait_a_moment_behind_the_answer(
    pki: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with (
        open_server(pki, tmp_path, first_byte_hold=HOLD) as world,
        open_agent(world) as agent,
        open_client(world) as client,
    ):
        front = await client.proxy()
        await front.send(dial_req("endpoint:80"))
        await agent.send(dial_rsp(await asked(agent), 1), data(1, b"banner"))
        cid = (await front.next()).cid
        begun = trio.current_time()
        assert await front.next() == data(cid, b"banner")
        assert trio.current_time() - begun == pytest.approx(HOLD, abs=0.1)


async def test_a_client_that_speaks_has_read_the_answer(
    pki: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with (
        open_server(pki, tmp_path, first_byte_hold=HOLD) as world,
        open_agent(world) as agent,
        open_client(world) as client,
    ):
        front = await client.proxy()
        await front.send(dial_req("endpoint:80"))
        await agent.send(dial_rsp(await asked(agent), 1), data(1, b"banner"))
        cid = (await front.next()).cid
        begun = trio.current_time()
        await trio.sleep(0.5)
        assert not front.parse()
        await front.send(data(cid, b"hello"))
        assert await front.next() == data(cid, b"banner")
        assert trio.current_time() - begun == pytest.approx(0.5, abs=0.1)


async def test_an_endpoint_that_has_ended_by_then_is_heard_all_the_same(
    pki: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with (
        open_server(pki, tmp_path, first_byte_hold=HOLD) as world,
        open_agent(world) as agent,
        open_client(world) as client,
    ):
        front = await client.proxy()
        await front.send(dial_req("endpoint:80"))
        number = await asked(agent)
        await agent.send(dial_rsp(number, 1), data(1, b"banner"), close_rsp(1))
        cid = (await front.next()).cid
        assert await front.next() == data(cid, b"banner")
        assert await front.next() == close_rsp(cid)


# -- much -------------------------------------------------------------------------------------


async def test_much_goes_both_ways(agent: Call, client: GrpcClient) -> None:
    front, cid = await dialled(client, agent)
    async with trio.open_nursery() as nursery:
        pieces = range(0, len(BULK), 30_000)
        nursery.start_soon(front.send, *(data(cid, BULK[at : at + 30_000]) for at in pieces))
        nursery.start_soon(agent.send, *(data(1, BULK[at : at + 30_000]) for at in pieces))
        assert await agent.data(1, len(BULK)) == BULK
        assert await front.data(cid, len(BULK)) == BULK
    await end(front, agent)


async def test_one_write_may_be_long(agent: Call, client: GrpcClient) -> None:
    """konnectivity-client puts each of its user's writes into one message."""
    front, cid = await dialled(client, agent)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front.send, data(cid, BULK), data(cid, BULK))
        assert await agent.data(1, 2 * len(BULK)) == BULK + BULK
        nursery.start_soon(agent.send, data(1, BULK), close_rsp(1))
        assert await front.data(cid, len(BULK)) == BULK
        assert await front.next() == close_rsp(cid)


async def test_a_client_waits_for_an_agent_that_does_not_read(
    world: World, agent: Call, client: GrpcClient
) -> None:
    front, cid = await dialled(client, agent)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front.send, data(cid, BULK))
        assert await agent.data(1, len(BULK)) == BULK  # windows have grown
        agent.stream.reading = False
        nursery.start_soon(front.send, *(data(cid, bytes(100_000)) for _ in range(50)))
        await world.until(lambda: world.server.telemetry.full_receive_channels[PROXY])
        agent.stream.reading = True
        await agent.credit(len(agent.stream.octets))
        assert await agent.data(1, 5_000_000) == bytes(5_000_000)
    assert not world.server.telemetry.full_receive_channels[PROXY]
    await end(front, agent)


async def test_many_calls_of_one_connection_do_not_mix(agent: Call, client: GrpcClient) -> None:
    """As with konnectivity's reusable tunnels."""
    calls = [await dialled(client, agent, number) for number in range(1, 101)]
    assert len({cid for _, cid in calls}) == 100
    for number, (front, cid) in enumerate(calls, 1):
        await front.send(data(cid, b"to %d" % number))
        await agent.send(data(number, b"from %d" % number))
    for number, (front, cid) in enumerate(calls, 1):
        assert await agent.next() == data(number, b"to %d" % number)
        assert await front.next() == data(cid, b"from %d" % number)
    for front, _ in calls[::2]:
        front.reset()
    for front, cid in calls[1::2]:
        await front.send(close_req(cid))
    closed = {(await agent.next()).cid for _ in calls}
    assert closed == set(range(1, 101))
    await agent.send(*map(close_rsp, closed))
    for front, cid in calls[1::2]:
        assert await front.next() == close_rsp(cid)


async def test_the_client_s_numbers_may_be_alike(world: World, agent: Call) -> None:
    """Each client draws its own; the agent gets the server's."""
    async with open_client(world) as one, open_client(world) as other:
        calls = []
        for client in (one, other):
            front = await client.proxy()
            await front.send(dial_req("endpoint:80", 7))
            calls.append((front, await asked(agent)))
        assert calls[0][1] != calls[1][1]
        for cid, (_, number) in enumerate(calls, 1):
            await agent.send(dial_rsp(number, cid))
        for cid, (front, _) in enumerate(calls, 1):
            answer = await front.next()
            assert answer == dial_rsp(7, answer.cid)
            await agent.send(data(cid, b"%d" % cid))
            assert await front.next() == data(answer.cid, b"%d" % cid)
    assert {(await agent.next()).cid for _ in calls} == {1, 2}
    await agent.send(close_rsp(1), close_rsp(2))


async def test_packets_are_counted(world: World, agent: Call, client: GrpcClient) -> None:
    front, cid = await dialled(client, agent)
    await front.send(data(cid, b"question"))
    await agent.next()
    await agent.send(data(1, b"answer"), close_rsp(1))
    assert [(await front.next()).kind for _ in range(2)] == ["DATA", "CLOSE_RSP"]
    counts = world.server.telemetry.stream_packets_total
    for kind in ("DIAL_REQ", "DATA"):
        assert counts[FROM_CLIENT, kind] == 1
    for kind in ("DIAL_RSP", "DATA", "CLOSE_RSP"):
        assert counts[TO_CLIENT, kind] == 1


# -- through an agent of ours -----------------------------------------------------------------


async def echo(stream: trio.SocketStream) -> None:
    async for octets in stream:
        await stream.send_all(octets)
    await stream.send_eof()


async def test_an_agent_of_ours_serves_calls_too(pki: Path, tmp_path: Path) -> None:
    async with open_world(pki, tmp_path) as world:
        port = await world.endpoint(echo)
        async with open_client(world) as client:
            await exchange(client, port)
        await world.at_rest()


async def exchange(client: GrpcClient, port: int) -> None:
    front = await client.proxy()
    await front.send(dial_req(f"127.0.0.1:{port}"))
    cid = (await front.next()).cid
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front.send, data(cid, BULK))
        assert await front.data(cid, len(BULK)) == BULK
    await front.send(close_req(cid))
    assert await front.next() == close_rsp(cid)
    refused = await client.proxy()
    await refused.send(dial_req("127.0.0.1:1"))
    text = "dial tcp 127.0.0.1:1: connect: connection refused"
    assert (await refused.next()).error.startswith(f"{text} (dial ")
    other = await client.proxy()
    await other.send(dial_req(f"127.0.0.1:{port}", protocol="tcp4"))
    text = "dial: unknown network tcp4: agent demo knows tcp"
    assert (await other.next()).error.startswith(f"{text} (dial ")
    for call in (front, refused, other):
        await call.end()
        assert await call.status() == (0, "")


async def test_a_client_that_goes_leaves_nothing_with_an_agent_of_ours(
    pki: Path, tmp_path: Path
) -> None:
    async with open_world(pki, tmp_path) as world:
        port = await world.endpoint(echo)
        for how in ("end", "reset", "close"):
            async with open_client(world) as client:
                front = await client.proxy()
                await front.send(dial_req(f"127.0.0.1:{port}"))
                cid = (await front.next()).cid
                await front.send(data(cid, b"x"))
                await leave(front, how)
            await world.at_rest()
