"""Tunnels to konnectivity agents: dials, what agents may say at any time, and who gets what."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from frames.packet import DialResponse
from tests.tunneld.peers import ESTABLISHED, receive_all
from tests.tunneld.server.connectclients import (
    Dialling,
    answer,
    asking,
    connected,
    cut,
    receive,
)
from tests.tunneld.server.konnectivitypeers import (
    DRAIN,
    Call,
    close_req,
    close_rsp,
    data,
    dial_cls,
    dial_req,
    dial_rsp,
    is_clean,
    message,
    open_agent,
    open_server,
    tunnels,
)
from tests.tunneld.tunnelworld import World
from tunneld.dialing import REFUSED, TIMEOUT, TUNNEL_LOST, Kind
from tunneld.telemetry import (
    BACKEND_CLOSE,
    FROM_AGENT,
    NO_PACKET,
    TO_AGENT,
    UNRECOGNIZED_RESPONSE,
)


@pytest.fixture
async def world(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    with trio.fail_after(60):
        async with open_server(pki, tmp_path, half_close_grace=0.02, dial_timeout=0) as opened:
            yield opened


# -- dials ------------------------------------------------------------------------------------


async def test_octets_go_both_ways(world: World, agent: Call) -> None:
    async with connected(world, agent) as peer:
        await peer.send_all(b"question")
        assert await agent.data(1, 8) == b"question"
        await agent.send(data(1, b"answer"))
        assert await receive(peer, 6) == b"answer"
    assert tunnels(world)[0].dials == 1


async def test_much_goes_both_ways(world: World, agent: Call) -> None:
    bulk = bytes(range(256)) * 8_000
    async with connected(world, agent) as peer, trio.open_nursery() as nursery:
        nursery.start_soon(peer.send_all, bulk)
        assert await agent.data(1, len(bulk)) == bulk
        pieces = [data(1, bulk[pos : pos + 4_096]) for pos in range(0, len(bulk), 4_096)]
        nursery.start_soon(agent.send, *pieces)
        assert await receive(peer, len(bulk)) == bulk


async def test_answers_may_come_in_any_order(
    world: World, agent: Call, nursery: trio.Nursery
) -> None:
    first, second = [Dialling(tunnels(world)[0], nursery) for _ in range(2)]
    numbers = [(await agent.next()).random for _ in range(2)]
    assert len(set(numbers)) == 2
    assert all(0 < number < 2**63 for number in numbers)
    await agent.send(dial_rsp(numbers[1], 2), dial_rsp(numbers[0], 1))
    await first.done.wait()
    await second.done.wait()
    assert {(await agent.next()).cid for _ in range(2)} == {1, 2}  # to be closed
    await agent.send(close_rsp(1), close_rsp(2))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("dial tcp 127.0.0.1:1: connect: connection refused", REFUSED),
        ("dial tcp 192.0.2.1:80: i/o timeout", TIMEOUT),
    ],
)
async def test_an_agent_s_error_is_told_as_it_is(
    world: World, agent: Call, nursery: trio.Nursery, text: str, kind: Kind
) -> None:
    dialling = Dialling(tunnels(world)[0], nursery)
    await answer(agent, 0, text)
    assert await dialling.failed() == (kind, text)


async def test_an_answer_without_a_connect_id_is_an_error(
    world: World, agent: Call, nursery: trio.Nursery
) -> None:
    dialling = Dialling(tunnels(world)[0], nursery)
    await answer(agent, 0)
    text = "agent demo answered without a connect id"
    assert await dialling.failed() == (TUNNEL_LOST, text)


async def test_a_connect_id_that_is_in_use_is_an_error_and_hurts_nobody(
    world: World, agent: Call, nursery: trio.Nursery
) -> None:
    async with connected(world, agent) as peer:
        dialling = Dialling(tunnels(world)[0], nursery)
        await answer(agent, 1)
        text = "agent demo used connect id 1 twice"
        assert await dialling.failed() == (TUNNEL_LOST, text)
        await agent.send(data(1, b"for the first"))
        assert await receive(peer, 13) == b"for the first"


@pytest.mark.parametrize("cid", [-1, 2**63 - 1, -(2**63)])
async def test_any_connect_id_but_0_is_one(world: World, agent: Call, cid: int) -> None:
    async with connected(world, agent, cid) as peer:
        await peer.send_all(b"question")
        assert await agent.next() == data(cid, b"question")
        await agent.send(data(cid, b"answer"))
        assert await receive(peer, 6) == b"answer"


# -- dials that are given up ------------------------------------------------------------------


async def test_a_dial_that_is_given_up_is_so_at_the_agent_too(
    world: World, agent: Call, nursery: trio.Nursery
) -> None:
    dialling = Dialling(tunnels(world)[0], nursery)
    asked = await agent.next()
    dialling.scope.cancel()
    assert await agent.next() == dial_cls(asked.random)
    await agent.send(dial_rsp(asked.random, error="dial tcp: operation was canceled"))
    await world.until(lambda: unrecognized(world) == 1)


async def test_a_dial_that_succeeds_too_late_is_closed(
    world: World, agent: Call, nursery: trio.Nursery
) -> None:
    dialling = Dialling(tunnels(world)[0], nursery)
    asked = await agent.next()
    dialling.scope.cancel()
    assert await agent.next() == dial_cls(asked.random)
    await agent.send(dial_rsp(asked.random, 1), data(1, b"banner"))
    assert await agent.next() == close_req(1)
    assert unrecognized(world) == 1
    await agent.send(data(1, b"more"), close_rsp(1))


async def test_an_answer_that_crosses_the_giving_up_is_closed(
    world: World, agent: Call, nursery: trio.Nursery
) -> None:
    """It is decided, and nobody is there any more to take it."""
    dialling = Dialling(tunnels(world)[0], nursery)
    asked = await agent.next()
    tunnels(world)[0].on_packet(DialResponse("", 1, asked.random))
    dialling.scope.cancel()
    assert await agent.next() == close_req(1)
    await dialling.done.wait()
    await agent.send(close_rsp(1))


async def test_an_agent_that_does_not_answer_in_time_is_told_so(
    world: World, agent: Call, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    begun = trio.current_time()
    dialling = Dialling(tunnels(world)[0], nursery, timeout=5)
    asked = await agent.next()
    assert await agent.next() == dial_cls(asked.random)
    assert trio.current_time() == pytest.approx(begun + 5, abs=0.1)
    await dialling.done.wait()
    assert isinstance(dialling.error, trio.TooSlowError)


async def test_an_agent_may_give_a_dial_up(
    world: World, agent: Call, nursery: trio.Nursery
) -> None:
    dialling = Dialling(tunnels(world)[0], nursery)
    asked = await agent.next()
    await agent.send(dial_cls(asked.random), dial_cls(asked.random), dial_cls(5))
    assert await dialling.failed() == (TUNNEL_LOST, "the agent gave the dial up")


def unrecognized(world: World) -> int:
    return world.server.telemetry.dial_failure_count[UNRECOGNIZED_RESPONSE]


# -- what agents may say at any time ----------------------------------------------------------


async def test_data_of_no_connection_is_refused_once(world: World, agent: Call) -> None:
    await agent.send(data(5, b"x"), data(5, b"y"), data(0, b"z"), data(6, b"x"))
    assert await agent.next() == close_req(5)
    assert await agent.next() == close_req(6)
    await agent.send(close_rsp(5), data(5, b"again"))
    assert await agent.next() == close_req(5)
    await agent.send(close_rsp(5, "Unknown connectID"), close_rsp(6))


async def test_what_a_server_does_not_expect_is_ignored(world: World, agent: Call) -> None:
    await agent.send(close_rsp(9), close_rsp(0), close_req(1), dial_req("x:1"), dial_rsp(0))
    await agent.send_octets(message(b"") + message(b"\x08\x63") + message(b"\xa2\x06\x01x"))
    async with connected(world, agent) as peer:
        await agent.send(data(1, b"still there"))
        assert await receive(peer, 11) == b"still there"
    assert not agent.packets
    counts = world.server.telemetry.stream_packets_total
    assert counts[FROM_AGENT, "99"] == 1


async def test_the_agent_s_end_and_the_client_s_may_cross(world: World, agent: Call) -> None:
    async with connected(world, agent) as peer:
        await agent.send(close_rsp(1))
        assert await receive(peer, 1) == b""
    await world.until(lambda: is_clean(tunnels(world)[0]))
    await agent.send(close_rsp(1, "Unknown connectID"))
    assert not agent.parse()


async def test_a_client_s_end_asks_the_agent_to_close(world: World, agent: Call) -> None:
    async with connected(world, agent) as peer:
        peer.reset()
        assert await agent.next() == close_req(1)
        await agent.send(data(1, b"crossing"), close_rsp(1))
    assert not agent.packets


# -- the agent goes ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["end", "reset", "close"])
async def test_an_agent_that_goes_takes_its_dials_and_connections_along(
    world: World, nursery: trio.Nursery, how: str
) -> None:
    async with open_agent(world) as agent, asking(world) as waiting:
        await agent.next()
        async with asking(world) as standing:
            await answer(agent, 1)
            assert await receive(standing, len(ESTABLISHED)) == ESTABLISHED
            match how:
                case "end":
                    await agent.end()
                    assert await agent.status() == (0, "")
                case "reset":
                    agent.reset()
                case "close":
                    await agent.client.cut_off()
            reply = await receive_all(waiting)
            assert reply.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
            assert reply.endswith(b"\r\n\r\nBackend context error: context canceled")
            assert await cut(standing)
        failures = world.server.telemetry.dial_failure_count
        assert failures[BACKEND_CLOSE] == 1
        errors = world.server.telemetry.stream_errors_total
        assert errors[FROM_AGENT, "Canceled", NO_PACKET] == int(how != "end")


@pytest.mark.parametrize(
    ("octets", "status", "text", "code"),
    [
        (
            b"\0" + (4_194_305).to_bytes(4, "big"),
            8,
            "grpc: received message larger than max (4194305 vs. 4194304)",
            "ResourceExhausted",
        ),
        (
            message(b"\x12\xff"),
            13,
            "grpc: failed to unmarshal the received message: ",
            "Internal",
        ),
        (
            b"\1\0\0\0\0",
            13,
            "grpc: compressed flag set with identity or empty encoding",
            "Internal",
        ),
    ],
)
async def test_an_agent_that_breaks_the_protocol_loses_its_stream_alone(
    world: World, octets: bytes, status: int, text: str, code: str
) -> None:
    async with open_agent(world) as agent:
        other = await agent.client.connect_agent("other", identifiers="host=endpoint")
        await world.until(lambda: len(world.server.agents()) == 2)
        async with connected(world, other, 1) as peer:
            await agent.send_octets(octets)
            seen, why = await agent.status()
            assert seen == status
            assert why.startswith(text)
            await other.send(data(1, b"unharmed"))
            assert await receive(peer, 8) == b"unharmed"
        assert [row["id"] for row in world.server.agents()] == ["other"]
        errors = world.server.telemetry.stream_errors_total
        assert errors[FROM_AGENT, code, NO_PACKET] == 1


async def test_a_tunnel_ends_once(world: World) -> None:
    """The stream is lost before those who wait for the tunnel's end get to run."""
    async with open_agent(world) as agent:
        (tunnel,) = tunnels(world)
        tunnel.close("enough")
        tunnel.close("again")
        tunnel._end.session.fail(ZeroDivisionError("broken"))
        assert tunnel.error is not None
        assert tunnel.error.message == "enough"
        assert not world.server.telemetry.stream_errors_total  # none is the agent's
        await agent.client.closed.wait()


async def test_an_agent_that_confirms_nothing_is_given_up(world: World) -> None:
    async with open_agent(world) as agent:
        tunnels(world)[0]._closing.update(range(1_000, 101_000))
        await agent.send(data(5, b"x"))
        assert await agent.status() == (14, "100001 connections not confirmed to be over")


async def test_an_agent_that_reads_no_control_packets_is_given_up(world: World) -> None:
    async with open_agent(world) as agent:
        agent.stream.reading = False
        await agent.client.flush()
        for number in range(1, 100_000, 200):
            await agent.send(*(data(cid, b"x") for cid in range(number, number + 200)))
            if agent.stream.error or not world.server.agents():
                break
        await world.until(lambda: not world.server.agents())
        errors = world.server.telemetry.stream_errors_total
        assert errors[FROM_AGENT, "ResourceExhausted", NO_PACKET] == 1


# -- several agents ---------------------------------------------------------------------------


async def test_agents_of_one_id_and_with_the_same_connect_ids_do_not_mix(world: World) -> None:
    async with (
        open_agent(world, "same") as first,
        open_agent(world, "same") as second,
        connected(world, first) as one,
        connected(world, second) as other,
    ):
        await first.send(data(1, b"first"))
        await second.send(data(1, b"second"))
        assert await receive(one, 5) == b"first"
        assert await receive(other, 6) == b"second"
        await other.send_all(b"to the second")
        assert await second.next() == data(1, b"to the second")
        await first.end()
        assert await cut(one)
        await second.send(data(1, b"still there"))
        assert await receive(other, 11) == b"still there"


async def test_an_agent_that_drains_gets_dials_only_as_the_last(world: World) -> None:
    async with open_agent(world, "draining") as draining:
        await draining.send(DRAIN, DRAIN)
        await world.until(lambda: tunnels(world)[0].draining)
        assert world.server.agents()[0]["state"] == "draining"
        async with connected(world, draining), open_agent(world, "other") as other:
            for cid in (1, 2, 3):
                async with connected(world, other, cid):
                    pass


async def test_packets_are_counted(world: World, agent: Call) -> None:
    async with connected(world, agent) as peer:
        await peer.send_all(b"question")
        await agent.next()
        await agent.send(data(1, b"answer"), close_rsp(1))
        assert await receive(peer, 7) == b"answer"
    counts = world.server.telemetry.stream_packets_total
    assert counts[TO_AGENT, "DIAL_REQ"] == counts[TO_AGENT, "DATA"] == 1
    assert counts[FROM_AGENT, "DIAL_RSP"] == counts[FROM_AGENT, "DATA"] == 1
