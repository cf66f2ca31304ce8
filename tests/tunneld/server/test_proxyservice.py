"""konnectivity's clients by gRPC: every packet in every state, and every end."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import h2.settings
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.tunneld.peers import ESTABLISHED, client_context, open_tls, open_unix, receive_all
from tests.tunneld.server.konnectivitypeers import (
    DRAIN,
    Call,
    GrpcClient,
    Packet,
    close_req,
    close_rsp,
    data,
    dial_cls,
    dial_req,
    dial_rsp,
    dialled,
    is_clean,
    message,
    open_agent,
    open_client,
    open_server,
    tunnels,
)
from tests.tunneld.tunnelworld import World, open_world
from tunneld.telemetry import (
    BACKEND_CLOSE,
    BACKEND_DIAL_TIMEOUT,
    ERROR_RESPONSE,
    FROM_AGENT,
    FROM_CLIENT,
    FRONTEND_CLOSE,
    NO_AGENT,
    NO_PACKET,
    PROXY,
    TO_AGENT,
    TO_CLIENT,
)

BULK = bytes(range(256)) * 8_000
"""2 MiB."""


@pytest.fixture
async def world(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    with trio.fail_after(90):
        async with open_server(pki, tmp_path, half_close_grace=0.02, dial_timeout=0) as opened:
            yield opened


@pytest.fixture
async def agent(world: World) -> AsyncIterator[Call]:
    """At the end no connection may have left anything with its tunnel."""
    async with open_agent(world) as opened:
        yield opened
        if not opened.stream.ended:
            await world.until(lambda: is_clean(tunnels(world)[0]))


@pytest.fixture
async def client(world: World) -> AsyncIterator[GrpcClient]:
    async with open_client(world) as opened:
        yield opened


async def asked(agent: Call, address: str = "endpoint:80", protocol: str = "tcp") -> int:
    """The number of the next dial."""
    packet = await agent.next()
    assert packet == dial_req(address, packet.random, protocol)
    return packet.random


async def is_silent(*calls: Call) -> bool:
    """Whether nothing more comes on either."""
    await wait_all_tasks_blocked()
    return not any(call.parse() or call.stream.ended or call.stream.error for call in calls)


def failures(world: World) -> dict[str, int]:
    counts = world.server.telemetry.dial_failure_count
    return {reason: count for reason, count in counts.items() if count}


# -- before a dial ----------------------------------------------------------------------------


async def test_data_before_any_dial_ends_the_stream_s_use(agent: Call, client: GrpcClient) -> None:
    front = await client.proxy()
    await front.send(data(5, b"x"), data(5, b"y"), dial_req("endpoint:80"), close_req(5))
    assert await front.next() == close_rsp(5, "backend not initialized")
    assert await is_silent(front, agent)
    await front.end()
    assert await front.status() == (0, "")


async def test_data_of_no_connection_is_ignored(agent: Call, client: GrpcClient) -> None:
    front = await client.proxy()
    await front.send(data(0, b"x"), dial_req("endpoint:80"))
    number = await asked(agent)
    await agent.send(dial_rsp(number, 1))
    cid = (await front.next()).cid
    await front.send(data(0, b"x"), data(cid, b""), data(cid, b"y"))
    assert await agent.next() == data(1, b"y")
    await end(front, agent)


async def test_a_close_before_any_dial_is_answered_and_a_dial_may_follow(
    agent: Call, client: GrpcClient
) -> None:
    front = await client.proxy()
    await front.send(close_req(5))
    assert await front.next() == close_rsp(5, "backend uninitialized")
    await front.send(dial_req("endpoint:80"))
    await agent.send(dial_rsp(await asked(agent), 1))
    assert (await front.next()).cid
    await end(front, agent)


async def end(front: Call, agent: Call, cid: int = 1) -> None:
    """Half-close: the agent is asked to close, and the call ends well."""
    await front.end()
    assert await agent.next() == close_req(cid)
    await agent.send(close_rsp(cid))
    assert await front.status() == (0, "")


async def test_what_nobody_knows_is_ignored_in_every_state(agent: Call, client: GrpcClient) -> None:
    noise = message(b"\x08\x63") + message(DRAIN.encode()) + message(close_rsp(1).encode())
    noise += message(dial_rsp(7, 1).encode()) + message(b"\xa2\x06\x01x\x08\x06")
    front = await client.proxy()
    await front.send_octets(noise)
    await front.send(dial_req("endpoint:80"))
    number = await asked(agent)
    await front.send_octets(noise)
    await agent.send(dial_rsp(number, 1))
    cid = (await front.next()).cid
    await front.send_octets(noise)
    await front.send(data(cid, b"question"))
    assert await agent.next() == data(1, b"question")
    await end(front, agent)


async def test_a_call_that_says_nothing_ends_well(client: GrpcClient) -> None:
    front = await client.proxy()
    await front.end()
    assert await front.status() == (0, "")
    assert front.stream.headers["content-type"] == "application/grpc"


# -- dials that fail --------------------------------------------------------------------------


async def failed(front: Call, text: str, number: int = 7) -> None:
    """The dial failed, nothing more is heard, and the stream is the client's to end."""
    assert await front.next() == dial_rsp(number, error=text)
    await front.send(dial_req("endpoint:80", 8), data(1, b"x"), close_req(1))
    assert await is_silent(front)
    await front.end()
    assert await front.status() == (0, "")


async def test_without_an_agent_the_dial_fails(world: World, client: GrpcClient) -> None:
    front = await client.proxy()
    await front.send(dial_req("endpoint:80"))
    await failed(front, "No agent available")
    assert failures(world) == {NO_AGENT: 1}


async def test_an_agent_s_error_is_passed_on_as_it_is(
    world: World, agent: Call, client: GrpcClient
) -> None:
    front = await client.proxy()
    await front.send(dial_req("endpoint:80", -(2**63)))
    text = "dial tcp 10.0.0.1:80: connect: connection refused — ünïcode"
    await agent.send(dial_rsp(await asked(agent), error=text))
    await failed(front, text, -(2**63))
    assert failures(world) == {ERROR_RESPONSE: 1}


async def test_an_agent_that_does_not_answer_fails_the_dial(
    pki: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with (
        open_server(pki, tmp_path, dial_timeout=3.0) as world,
        open_agent(world) as agent,
        open_client(world) as client,
    ):
        front = await client.proxy()
        await front.send(dial_req("endpoint:80"))
        number = await asked(agent)
        await failed(front, "timed out waiting for backend dial")
        assert await agent.next() == dial_cls(number)
        assert failures(world) == {BACKEND_DIAL_TIMEOUT: 1}


async def test_an_agent_that_goes_fails_the_dial_at_once(world: World, client: GrpcClient) -> None:
    async with open_agent(world) as agent:
        front = await client.proxy()
        await front.send(dial_req("endpoint:80"))
        await asked(agent)
        agent.reset()
        await failed(front, "Backend context error: context canceled")
        assert failures(world) == {BACKEND_CLOSE: 1}


@pytest.mark.parametrize("protocol", ["udp", "unix", "TCP", "ip4:icmp", ""])
async def test_only_tcp_is_dialled(agent: Call, client: GrpcClient, protocol: str) -> None:
    front = await client.proxy()
    await front.send(dial_req("/run/socket", protocol=protocol))
    await failed(front, f"dial: unknown network {protocol}")
    assert await is_silent(agent)


@pytest.mark.parametrize("protocol", ["tcp", "tcp4", "tcp6"])
@pytest.mark.parametrize("address", ["endpoint:80", "[::1]:http", ":80", "no port", "ümlaut:1"])
async def test_address_and_protocol_go_to_the_agent_as_they_are(
    agent: Call, client: GrpcClient, protocol: str, address: str
) -> None:
    front = await client.proxy()
    await front.send(dial_req(address, protocol=protocol))
    await agent.send(dial_rsp(await asked(agent, address, protocol), error="no"))
    await failed(front, "no")


# -- dials that are given up ------------------------------------------------------------------


async def test_a_dial_that_the_client_gives_up_is_given_up_at_the_agent(
    world: World, agent: Call, client: GrpcClient
) -> None:
    front = await client.proxy()
    await front.send(dial_req("endpoint:80", 7), dial_cls(8))
    number = await asked(agent)
    assert await is_silent(front, agent)
    await front.send(dial_cls(7))
    assert await agent.next() == dial_cls(number)
    await agent.send(dial_rsp(number, 1))
    assert await agent.next() == close_req(1)
    await agent.send(close_rsp(1))
    assert await is_silent(front, agent)
    await front.end()
    assert await front.status() == (0, "")
    assert failures(world)[FRONTEND_CLOSE] == 1


@pytest.mark.parametrize("how", ["end", "reset", "close"])
async def test_a_client_that_goes_amid_a_dial_gives_it_up(
    world: World, agent: Call, how: str
) -> None:
    async with open_client(world) as client:
        front = await client.proxy()
        await front.send(dial_req("endpoint:80"))
        number = await asked(agent)
        await leave(front, how)
        assert await agent.next() == dial_cls(number)
        if how == "end":
            assert await front.status() == (0, "")
        await world.until(lambda: not world.server.telemetry.grpc_connections[PROXY])
    assert failures(world) == {FRONTEND_CLOSE: 1}


async def leave(front: Call, how: str) -> None:
    match how:
        case "end":
            await front.end()
        case "reset":
            front.reset()
        case "close":
            await front.client.peer.stream.send_eof()


async def test_a_dial_and_its_end_at_once_leave_nothing(agent: Call, client: GrpcClient) -> None:
    front = await client.proxy()
    client.connection.send_data(
        front.stream.id, message(dial_req("endpoint:80").encode()), end_stream=True
    )
    await client.flush()
    number = await asked(agent)
    assert await agent.next() == dial_cls(number)
    assert await front.status() == (0, "")


async def test_a_giving_up_of_a_connection_that_stands_is_ignored(
    agent: Call, client: GrpcClient
) -> None:
    """The client closes it by another word."""
    front, cid = await dialled(client, agent)
    await front.send(dial_cls(71), data(cid, b"question"))
    assert await agent.next() == data(1, b"question")
    await end(front, agent)


async def test_data_amid_a_dial_gives_it_up(agent: Call, client: GrpcClient) -> None:
    """No client can know the connect id yet."""
    front = await client.proxy()
    await front.send(dial_req("endpoint:80"))
    number = await asked(agent)
    await front.send(data(1, b"x"))
    assert await front.next() == close_rsp(1, "mismatched connection IDs")
    assert await agent.next() == dial_cls(number)
    await front.end()
    assert await front.status() == (0, "")


async def test_a_close_amid_a_dial_closes_nothing(agent: Call, client: GrpcClient) -> None:
    front = await client.proxy()
    await front.send(dial_req("endpoint:80"), close_req(1))
    number = await asked(agent)
    assert await front.next() == close_rsp(1, "Unknown connectID")
    await agent.send(dial_rsp(number, 1))
    assert (await front.next()).kind == "DIAL_RSP"
    await end(front, agent)


# -- connections ------------------------------------------------------------------------------


async def test_octets_go_both_ways_until_the_client_closes(
    world: World, agent: Call, client: GrpcClient
) -> None:
    front, cid = await dialled(client, agent)
    telemetry = world.server.telemetry
    assert telemetry.grpc_connections[PROXY] == telemetry.established_connections == 1
    assert telemetry.pending_backend_dials == 0
    await front.send(data(cid, b"question"))
    assert await agent.next() == data(1, b"question")
    await agent.send(data(1, b"answer"))
    assert await front.next() == data(cid, b"answer")
    [row] = world.server.conns()
    assert (row["bytes_sent"], row["bytes_received"]) == (8, 6)
    await front.send(close_req(cid))
    assert await agent.next() == close_req(1)
    await front.send(data(cid, b"too late"), close_req(cid))
    await agent.send(data(1, b"last words"), close_rsp(1))
    assert await front.next() == data(cid, b"last words")
    assert await front.next() == close_rsp(cid)
    assert await is_silent(front, agent)
    await front.end()
    assert await front.status() == (0, "")
    assert telemetry.tunneld_carried_bytes_total == {TO_AGENT: 8, FROM_AGENT: 16}


async def test_the_agent_may_close_and_the_client_s_close_comes_late(
    agent: Call, client: GrpcClient
) -> None:
    front, cid = await dialled(client, agent)
    await agent.send(data(1, b"all there is"), close_rsp(1))
    assert await front.next() == data(cid, b"all there is")
    assert await front.next() == close_rsp(cid)
    await front.send(close_req(cid), data(cid, b"x"))
    assert await front.next() == close_rsp(cid)
    assert await is_silent(front, agent)
    await front.end()
    assert await front.status() == (0, "")


async def test_a_client_that_does_not_end_is_told_again_that_its_connection_is_over(
    agent: Call, client: GrpcClient
) -> None:
    """Go's client drops a CLOSE_RSP that it reads before it has noted the dial's answer."""
    front, cid = await dialled(client, agent)
    await agent.send(close_rsp(1))
    assert await front.next() == close_rsp(cid)
    assert await front.next() == close_rsp(cid)


async def test_an_agent_s_error_at_the_end_is_passed_on(agent: Call, client: GrpcClient) -> None:
    front, cid = await dialled(client, agent)
    await agent.send(close_rsp(1, "unrecognized connectID"))
    packet = await front.next()
    assert packet == close_rsp(cid, packet.error)
    assert "unrecognized connectID" in packet.error


async def test_an_agent_that_goes_closes_the_connection(world: World, client: GrpcClient) -> None:
    async with open_agent(world) as agent:
        front, cid = await dialled(client, agent)
        agent.reset()
        packet = await front.next()
        assert packet == close_rsp(cid, packet.error)
        assert packet.error.startswith("tunnel of agent demo lost")
        await front.send(close_req(cid))
        await front.end()
        assert await front.status() == (0, "")


async def test_a_close_whose_answer_is_lost_with_the_agent_is_answered(
    world: World, client: GrpcClient
) -> None:
    async with open_agent(world) as agent:
        front, cid = await dialled(client, agent)
        await front.send(close_req(cid))
        assert await agent.next() == close_req(1)
        agent.reset()
        packet = await front.next()
        assert packet == close_rsp(cid, packet.error)


async def test_a_close_that_the_agent_does_not_answer_is_answered_in_a_second(
    pki: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with (
        open_server(pki, tmp_path) as world,
        open_agent(world) as agent,
        open_client(world) as client,
    ):
        front, cid = await dialled(client, agent)
        begun = trio.current_time()
        await front.send(close_req(cid))
        assert await front.next() == close_rsp(cid)
        assert trio.current_time() - begun == pytest.approx(1, abs=0.1)
        assert await agent.next() == close_req(1)


async def test_another_connect_id_closes_both(agent: Call, client: GrpcClient) -> None:
    front, cid = await dialled(client, agent)
    await front.send(data(cid + 1, b"x"), data(cid, b"y"))
    assert await front.next() == close_rsp(cid + 1, "mismatched connection IDs")
    assert await front.next() == close_rsp(cid, "mismatched connection IDs")
    assert await agent.next() == close_req(1)
    await agent.send(close_rsp(1))
    await front.send(data(cid, b"x"), close_req(cid))
    assert await front.next() == close_rsp(cid)
    assert await is_silent(front, agent)


async def test_a_close_of_another_connect_id_closes_nothing(
    agent: Call, client: GrpcClient
) -> None:
    front, cid = await dialled(client, agent)
    await front.send(close_req(cid + 1), data(cid, b"still there"))
    assert await front.next() == close_rsp(cid + 1, "Unknown connectID")
    assert await agent.next() == data(1, b"still there")
    await end(front, agent)


@pytest.mark.parametrize("pending", [True, False])
async def test_a_stream_has_one_dial(agent: Call, client: GrpcClient, pending: bool) -> None:
    front = await client.proxy()
    await front.send(dial_req("endpoint:80"))
    number = await asked(agent)
    if not pending:
        await agent.send(dial_rsp(number, 1))
        assert (await front.next()).cid
    await front.send(dial_req("other:80", 8))
    text = "this stream has made its dial: open another stream"
    assert await front.next() == dial_rsp(8, error=text)
    if pending:
        await agent.send(dial_rsp(number, 1))
        assert (await front.next()).cid
    await end(front, agent)


@pytest.mark.parametrize("how", ["end", "reset", "close"])
async def test_a_client_that_goes_closes_its_connection(
    world: World, agent: Call, how: str
) -> None:
    async with open_client(world) as client:
        front, cid = await dialled(client, agent)
        await front.send(data(cid, b"last words"))
        await leave(front, how)
        assert await agent.next() == data(1, b"last words")
        assert await agent.next() == close_req(1)
        await agent.send(data(1, b"crossing"), close_rsp(1))
        if how == "end":
            assert await front.status() == (0, "")
        await world.until(lambda: not world.server.telemetry.grpc_connections[PROXY])
    errors = world.server.telemetry.stream_errors_total
    assert errors[FROM_CLIENT, "Canceled", NO_PACKET] == int(how != "end")


@pytest.mark.parametrize(
    ("octets", "status", "text"),
    [
        (
            b"\0" + (4_194_305).to_bytes(4, "big"),
            8,
            "grpc: received message larger than max (4194305 vs. 4194304)",
        ),
        (message(b"\x12\xff"), 13, "grpc: failed to unmarshal the received message: "),
    ],
)
async def test_a_client_that_breaks_the_protocol_loses_its_stream_alone(
    agent: Call, client: GrpcClient, octets: bytes, status: int, text: str
) -> None:
    front, _ = await dialled(client, agent, 1)
    other, cid = await dialled(client, agent, 2)
    await front.send_octets(octets)
    seen, why = await front.status()
    assert seen == status
    assert why.startswith(text)
    assert await agent.next() == close_req(1)
    await agent.send(close_rsp(1))
    await other.send(data(cid, b"unharmed"))
    assert await agent.next() == data(2, b"unharmed")
    await end(other, agent, 2)


# -- deadlines --------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["idle", "pending", "established"])
async def test_a_deadline_ends_the_call(
    pki: Path, tmp_path: Path, autojump_clock: MockClock, state: str
) -> None:
    async with (
        open_server(pki, tmp_path) as world,
        open_agent(world) as agent,
        open_client(world) as client,
    ):
        begun = trio.current_time()
        front = await client.proxy(("grpc-timeout", "2500m"))
        if state != "idle":
            await front.send(dial_req("endpoint:80"))
            number = await asked(agent)
        if state == "established":
            await agent.send(dial_rsp(number, 1))
            cid = (await front.next()).cid
            packet = await front.next()
            assert packet == close_rsp(cid, packet.error)
        assert await front.status() == (4, "context deadline exceeded")
        assert trio.current_time() - begun == pytest.approx(2.5, abs=0.1)
        if state == "pending":
            assert await agent.next() == dial_cls(number)
        if state == "established":
            assert await agent.next() == close_req(1)


async def test_a_deadline_that_has_passed_ends_the_call_at_once(client: GrpcClient) -> None:
    front = await client.proxy(("grpc-timeout", "0n"))
    assert await front.status() == (4, "context deadline exceeded")


async def test_a_deadline_that_is_none_is_told_so(client: GrpcClient) -> None:
    front = await client.proxy(("grpc-timeout", "soon"))
    assert (await front.status())[0] == 13
    assert front.stream.headers[":status"] == "400"


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
    assert await refused.next() == dial_rsp(7, error=text)
    other = await client.proxy()
    await other.send(dial_req(f"127.0.0.1:{port}", protocol="tcp4"))
    text = "dial: unknown network tcp4: agent demo knows tcp"
    assert await other.next() == dial_rsp(7, error=text)
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


# -- beside CONNECT ---------------------------------------------------------------------------


@pytest.mark.parametrize("unix", [True, False])
async def test_calls_and_connects_share_a_port_and_a_connection(
    world: World, agent: Call, unix: bool
) -> None:
    async with open_client(world, unix=unix) as client:
        front = await client.proxy(authority="%2Frun%2Ffront.sock", scheme="http")
        await front.send(dial_req("endpoint:80"))
        await agent.send(dial_rsp(await asked(agent), 1))
        cid = (await front.next()).cid
        stream = await client.connect("endpoint:80")
        await agent.send(dial_rsp(await asked(agent), 2))
        assert (await stream.response())[":status"] == "200"
        raw = await (
            open_unix(world.unix_frontend) if unix else open_tls(world.frontend, world.pki)
        )
        await raw.send_all(b"CONNECT endpoint:80 HTTP/1.1\r\n\r\n")
        await agent.send(dial_rsp(await asked(agent), 3))
        assert await raw.receive_some() == ESTABLISHED
        await agent.send(data(1, b"one"), data(2, b"two"), data(3, b"three"))
        assert await front.next() == data(cid, b"one")
        assert await stream.receive_some() == b"two"
        assert await raw.receive_some() == b"three"
        await agent.send(close_rsp(1), close_rsp(2), close_rsp(3))
        assert await front.next() == close_rsp(cid)
        assert await receive_all(raw) == b""
        await trio.aclose_forcefully(raw.stream)


async def test_a_server_for_calls_serves_nothing_else(pki: Path, tmp_path: Path) -> None:
    async with open_server(pki, tmp_path, mode="grpc") as world, open_agent(world) as agent:
        peer = await open_tls(world.frontend, world.pki, "http/1.1", "h2")
        assert peer.tls.selected_alpn_protocol() == "h2"
        await trio.aclose_forcefully(peer.stream)
        for unix in (True, False):
            async with open_client(world, unix=unix) as client:
                stream = await client.connect("endpoint:80")
                assert (await stream.response())[":status"] == "415"
                front, _ = await dialled(client, agent, 1 + unix)
                await end(front, agent, 1 + unix)
        raw = await open_unix(world.unix_frontend)
        await raw.send_all(b"CONNECT endpoint:80 HTTP/1.1\r\n\r\n")
        reply = await receive_all(raw)
        assert reply.startswith(b"HTTP/1.1 505 HTTP Version Not Supported\r\nConnection: close\r\n")
        await trio.aclose_forcefully(raw.stream)


async def test_a_server_for_connect_serves_no_calls(pki: Path, tmp_path: Path) -> None:
    async with open_server(pki, tmp_path, mode="http-connect") as world, open_agent(world) as agent:
        peer = await open_tls(world.frontend, world.pki, "h2", "http/1.1")
        assert peer.tls.selected_alpn_protocol() == "http/1.1"
        await trio.aclose_forcefully(peer.stream)
        raw = await open_unix(world.unix_frontend)
        await raw.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        reply = await receive_all(raw)
        assert reply.startswith(b"HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\n")
        assert reply.endswith(b"\r\n\r\nthis proxy only supports CONNECT passthrough\n")
        await trio.aclose_forcefully(raw.stream)
        raw = await open_unix(world.unix_frontend)
        await raw.send_all(b"CONNECT endpoint:80 HTTP/1.1\r\n\r\n")
        await agent.send(dial_rsp(await asked(agent), 1))
        assert await raw.receive_some() == ESTABLISHED
        await trio.aclose_forcefully(raw.stream)


async def test_a_client_that_offers_http2_alone_gets_none_from_a_server_for_connect(
    pki: Path, tmp_path: Path
) -> None:
    async with open_server(pki, tmp_path, mode="http-connect") as world:
        stream = await trio.open_tcp_stream(*world.frontend)
        context = client_context(world.pki, "h2")
        try:
            peer = await open_tls(world.frontend, world.pki, context=context)
            assert peer.tls.selected_alpn_protocol() is None
            await trio.aclose_forcefully(peer.stream)
        except ssl.SSLError:
            pass
        await trio.aclose_forcefully(stream)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/AgentService/Connect", "unknown service AgentService"),
        ("/ProxyService/Nope", "unknown method Nope for service ProxyService"),
    ],
)
async def test_other_calls_are_unimplemented(client: GrpcClient, path: str, text: str) -> None:
    assert await (await client.call(path)).status() == (12, text)


async def test_a_call_that_would_compress_is_refused(client: GrpcClient) -> None:
    front = await client.proxy(("grpc-encoding", "gzip"))
    assert await front.status() == (
        12,
        'grpc: Decompressor is not installed for grpc-encoding "gzip"',
    )


async def test_a_client_that_takes_no_head_leaves_nothing(world: World) -> None:
    async with open_client(world) as client:
        codes = h2.settings.SettingCodes
        client.connection.update_settings({codes.MAX_HEADER_LIST_SIZE: 10})
        await client.flush()
        front = await client.proxy()
        with pytest.raises(ConnectionError, match="reset"):
            await front.stream.response()
        await world.until(lambda: not world.server.telemetry.grpc_connections[PROXY])


# -- HTTP/1.1 ---------------------------------------------------------------------------------


async def reply_to_connect(world: World, agent: Call | None, *answers: Packet) -> bytes:
    """What a client of HTTP/1.1 gets for a dial; ``answers`` of the agent get its number."""
    raw = await open_unix(world.unix_frontend)
    try:
        await raw.send_all(b"CONNECT endpoint:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        if agent is not None:
            number = await asked(agent)
            for answer in answers:
                await agent.send(Packet(answer.kind, random=number, error=answer.error))
        return await receive_all(raw)
    finally:
        await trio.aclose_forcefully(raw.stream)


def split(reply: bytes) -> tuple[str, dict[str, str], str]:
    """Status line, headers and body."""
    head, _, body = reply.decode().partition("\r\n\r\n")
    line, *fields = head.split("\r\n")
    return line, dict(field.split(": ", 1) for field in fields), body


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("dial tcp 10.0.0.1:80: i/o timeout", "504 Gateway Timeout"),
        ("context DEADLINE exceeded", "504 Gateway Timeout"),
        ("dial tcp: lookup x on y:53: read udp: i/o Timeout", "504 Gateway Timeout"),
        ("accept: too many open files", "503 Service Unavailable"),
        ("dial tcp 127.0.0.1:1: connect: connection refused", "502 Bad Gateway"),
        ("dial tcp: lookup nosuch on 10.0.0.10:53: no such host", "502 Bad Gateway"),
        ("dial tcp 10.0.0.1:80: connect: network is unreachable", "502 Bad Gateway"),
        ("dial tcp: address 127.0.0.1: missing port in address", "502 Bad Gateway"),
        ("anything else — ünïcode", "502 Bad Gateway"),
    ],
)
@pytest.mark.parametrize("wording", [True, False])
async def test_an_agent_s_error_decides_the_status_and_is_the_body(
    pki: Path, tmp_path: Path, text: str, line: str, wording: bool
) -> None:
    async with (
        open_server(pki, tmp_path, konnectivity_wording=wording) as world,
        open_agent(world) as agent,
    ):
        reply = await reply_to_connect(world, agent, dial_rsp(0, error=text))
        status, fields, body = split(reply)
        assert status == f"HTTP/1.1 {line}"
        assert body == text
        assert fields["Connection"] == "close"
        assert fields["Content-Type"] == "text/plain; charset=utf-8"
        assert int(fields["Content-Length"]) == len(text.encode())
        assert failures(world) == {ERROR_RESPONSE: 1}


@pytest.mark.parametrize(
    ("wording", "line", "text"),
    [
        (
            True,
            "500 Internal Server Error",
            "currently no tunnels available: No agent available",
        ),
        (
            False,
            "503 Service Unavailable",
            "currently no tunnels available: No agent available (none is connected)",
        ),
    ],
)
async def test_without_an_agent_the_status_is_ours_or_upstream_s(
    pki: Path, tmp_path: Path, wording: bool, line: str, text: str
) -> None:
    async with open_server(pki, tmp_path, konnectivity_wording=wording) as world:
        status, _, body = split(await reply_to_connect(world, None))
        assert (status, body) == (f"HTTP/1.1 {line}", text)


@pytest.mark.parametrize(
    ("wording", "text"),
    [
        (True, "Backend dial timeout: timed out waiting for backend dial\r\n"),
        (False, "timed out waiting for backend dial: no answer of agent demo in 3 s"),
    ],
)
async def test_an_agent_that_does_not_answer_is_a_gateway_timeout(
    pki: Path, tmp_path: Path, autojump_clock: MockClock, wording: bool, text: str
) -> None:
    options = {"konnectivity_wording": wording, "dial_timeout": 3.0}
    async with open_server(pki, tmp_path, **options) as world, open_agent(world) as agent:
        status, _, body = split(await reply_to_connect(world, agent))
        assert (status, body) == ("HTTP/1.1 504 Gateway Timeout", text)


async def test_without_a_limit_the_client_decides_how_long_a_dial_takes(
    pki: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_server(pki, tmp_path, dial_timeout=0) as world, open_agent(world) as agent:
        raw = await open_unix(world.unix_frontend)
        await raw.send_all(b"CONNECT endpoint:80 HTTP/1.1\r\n\r\n")
        number = await asked(agent)
        await trio.sleep(3_000)
        await agent.send(dial_rsp(number, 1))
        assert await raw.receive_some() == ESTABLISHED
        await trio.aclose_forcefully(raw.stream)


async def test_a_client_that_is_lost_amid_the_dial_gives_it_up(world: World, agent: Call) -> None:
    raw = await open_tls(world.frontend, world.pki)
    await raw.send_all(b"CONNECT endpoint:80 HTTP/1.1\r\n\r\n")
    number = await asked(agent)
    raw.reset()
    assert await agent.next() == dial_cls(number)
    assert failures(world) == {FRONTEND_CLOSE: 1}


async def test_a_client_that_half_closes_gets_the_answer_within_the_grace(
    pki: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with (
        open_server(pki, tmp_path, half_close_grace=5.0) as world,
        open_agent(world) as agent,
    ):
        raw = await open_unix(world.unix_frontend)
        await raw.send_all(b"CONNECT endpoint:80 HTTP/1.1\r\n\r\nquestion")
        await agent.send(dial_rsp(await asked(agent), 1))
        assert await raw.receive_some() == ESTABLISHED
        await raw.send_eof()
        assert await agent.next() == data(1, b"question")
        await trio.sleep(4)
        await agent.send(data(1, b"answer"))
        assert await raw.receive_some() == b"answer"
        begun = trio.current_time()
        assert await agent.next() == close_req(1)
        assert 5 <= trio.current_time() - begun <= 7
        await agent.send(close_rsp(1))
        assert await raw.receive_some() == b""
        await trio.aclose_forcefully(raw.stream)
