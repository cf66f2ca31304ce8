"""Flow control on a tunnel that all its connections share: who waits, and who has to go."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.tunneld.peers import ESTABLISHED, PlainPeer, receive_all
from tests.tunneld.server.connectclients import (
    Dialling,
    answer,
    asking,
    connected,
    receive,
    receive_all_of_it,
)
from tests.tunneld.server.konnectivitypeers import (
    Call,
    Packet,
    close_req,
    close_rsp,
    data,
    dial_req,
    dial_rsp,
    open_agent,
    open_server,
    tunnels,
)
from tests.tunneld.test_sharedchannel import budget_of
from tests.tunneld.tunnelworld import World
from tunneld.telemetry import (
    CONNECT,
    TO_CLIENT,
)


@pytest.fixture
async def world(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    with trio.fail_after(60):
        async with open_server(pki, tmp_path, half_close_grace=0.02, dial_timeout=0) as opened:
            yield opened


async def test_dials_and_closes_go_ahead_of_data_that_waits(
    world: World, agent: Call, nursery: trio.Nursery
) -> None:
    agent.stream.reading = False
    async with connected(world, agent) as peer:
        nursery.start_soon(send_until_broken, peer)
        await world.until(lambda: tunnels(world)[0]._packets.starved)
        dialling = Dialling(tunnels(world)[0], nursery)
        agent.stream.reading = True
        waiting = len(agent.stream.octets)
        await agent.credit(waiting)
        seen = [await agent.next() for _ in range(8)]
        [place] = [place for place, each in enumerate(seen) if each.kind == "DIAL_REQ"]
        assert sum(len(each.data) for each in seen[:place]) <= 65_535
        await agent.send(dial_rsp(seen[place].random, error="no"))
        await dialling.done.wait()
        peer.reset()
        while (packet := await agent.next()).kind == "DATA":
            pass
        assert packet == close_req(1)


async def send_until_broken(peer: PlainPeer) -> None:
    try:
        while True:
            await peer.send_all(bytes(65_536))
    except (ConnectionError, OSError, trio.ClosedResourceError):
        pass


async def test_an_agent_without_a_window_for_half_a_minute_gets_no_more_dials(
    world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async with open_agent(world) as agent:
        agent.stream.reading = False
        (tunnel,) = tunnels(world)
        async with connected(world, agent) as peer:
            nursery.start_soon(peer.send_all, bytes(1_000_000))
            await trio.sleep(28)
            assert world.server.telemetry.tunneld_stalls.count == 1
            assert tunnel.usable
            await trio.sleep(5)
            assert not tunnel.usable
            assert world.server.agents()[0]["state"] == "stuck"
            async with asking(world) as refused:
                reply = await receive_all(refused)
                assert b"No agent available (those connected are draining or stuck)" in reply
            agent.stream.reading = True
            await agent.credit(len(agent.stream.octets))
            assert await agent.data(1, 1_000_000) == bytes(1_000_000)
            await trio.sleep(2)
            assert tunnel.usable
    assert world.server.telemetry.tunneld_stalls.count == 0


async def test_a_client_that_does_not_read_holds_up_no_other(world: World, agent: Call) -> None:
    """What waits for it is bounded, and then it has to go."""
    with budget_of(200_000):
        async with connected(world, agent, 1) as stuck, connected(world, agent, 2) as other:
            for _ in range(400):
                await agent.send(data(1, bytes(16_000)))
                await agent.send(data(2, bytes(100)))
                assert await receive(other, 100) == bytes(100)
            assert await agent.next() == close_req(1)
            await agent.send(close_rsp(1))
            overruns = world.server.telemetry.tunneld_overrun_connections_total
            assert overruns[TO_CLIENT] == 1
            assert not agent.parse()
            assert len(await receive_all_of_it(stuck)) < 1_000_000


async def test_a_client_that_does_not_read_and_is_alone_makes_the_agent_wait(
    world: World, agent: Call, nursery: trio.Nursery
) -> None:
    full = world.server.telemetry.full_receive_channels
    size = 8_000_000
    with budget_of(200_000):
        async with connected(world, agent) as peer:
            pieces = [data(1, bytes(16_000)) for _ in range(size // 16_000)]
            nursery.start_soon(agent.send, *pieces)
            await wait_all_tasks_blocked()
            await world.until(lambda: full[CONNECT] == 1)
            assert len(await receive(peer, size)) == size
            await world.until(lambda: full[CONNECT] == 0)


async def test_a_client_that_makes_the_agent_wait_has_to_go_when_another_comes(
    world: World, agent: Call
) -> None:
    full = world.server.telemetry.full_receive_channels
    with budget_of(200_000):
        async with asking(world) as stuck, trio.open_nursery() as sending:
            await answer(agent, 1)
            await receive(stuck, len(ESTABLISHED))
            sending.start_soon(agent.send, *(data(1, bytes(16_000)) for _ in range(500)))
            await world.until(lambda: full[CONNECT] == 1)
            async with asking(world) as other:
                closed, asked = sorted([await agent.next(), await agent.next()], key=kind_of)
                assert closed == close_req(1)
                assert asked == dial_req("endpoint:80", asked.random)
                await agent.send(close_rsp(1), dial_rsp(asked.random, 2))
                assert await receive(other, len(ESTABLISHED)) == ESTABLISHED
            await receive_all_of_it(stuck)
            assert full[CONNECT] == 0
    assert await agent.next() == close_req(2)
    await agent.send(close_rsp(2))


def kind_of(packet: Packet) -> str:
    return packet.kind
