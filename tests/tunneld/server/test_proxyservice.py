"""konnectivity's clients by gRPC: every packet in every state, and every end."""

from collections.abc import AsyncIterator
from pathlib import Path

import h2.settings
import pytest
import trio
from trio.testing import MockClock

from tests.tunneld.server.konnectivitypeers import (
    DRAIN,
    Call,
    GrpcClient,
    asked,
    close_req,
    close_rsp,
    data,
    dial_cls,
    dial_req,
    dial_rsp,
    dialled,
    end,
    failures,
    is_silent,
    leave,
    message,
    open_agent,
    open_client,
    open_server,
)
from tests.tunneld.tunnelworld import World
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
)


@pytest.fixture
async def world(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    with trio.fail_after(90):
        async with open_server(pki, tmp_path, half_close_grace=0.02, dial_timeout=0) as opened:
            yield opened


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


async def failed(front: Call, world: World, text: str, number: int = 7) -> None:
    """The dial failed and can be looked up, nothing more is heard, and the stream is the client's
    to end."""
    answer = await front.next()
    [record] = (await world.server.ask("trace.last", {}))["dials"]
    assert answer == dial_rsp(number, error=f"{text} (dial {record['dial']})")
    await front.send(dial_req("endpoint:80", 8), data(1, b"x"), close_req(1))
    assert await is_silent(front)
    await front.end()
    assert await front.status() == (0, "")


async def test_without_an_agent_the_dial_fails(world: World, client: GrpcClient) -> None:
    front = await client.proxy()
    await front.send(dial_req("endpoint:80"))
    await failed(front, world, "No agent available")
    assert failures(world) == {NO_AGENT: 1}


async def test_an_agent_s_error_is_passed_on_as_it_is(
    world: World, agent: Call, client: GrpcClient
) -> None:
    front = await client.proxy()
    await front.send(dial_req("endpoint:80", -(2**63)))
    text = "dial tcp 10.0.0.1:80: connect: connection refused — ünïcode"
    await agent.send(dial_rsp(await asked(agent), error=text))
    await failed(front, world, text, -(2**63))
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
        await failed(front, world, "timed out waiting for backend dial")
        assert await agent.next() == dial_cls(number)
        assert failures(world) == {BACKEND_DIAL_TIMEOUT: 1}


async def test_an_agent_that_goes_fails_the_dial_at_once(world: World, client: GrpcClient) -> None:
    async with open_agent(world) as agent:
        front = await client.proxy()
        await front.send(dial_req("endpoint:80"))
        await asked(agent)
        agent.reset()
        await failed(front, world, "Backend context error: context canceled")
        assert failures(world) == {BACKEND_CLOSE: 1}


@pytest.mark.parametrize("protocol", ["udp", "unix", "TCP", "ip4:icmp", ""])
async def test_only_tcp_is_dialled(
    world: World, agent: Call, client: GrpcClient, protocol: str
) -> None:
    front = await client.proxy()
    await front.send(dial_req("/run/socket", protocol=protocol))
    await failed(front, world, f"dial: unknown network {protocol}")
    assert await is_silent(agent)


@pytest.mark.parametrize("protocol", ["tcp", "tcp4", "tcp6"])
@pytest.mark.parametrize("address", ["endpoint:80", "[::1]:http", ":80", "no port", "ümlaut:1"])
async def test_address_and_protocol_go_to_the_agent_as_they_are(
    world: World, agent: Call, client: GrpcClient, protocol: str, address: str
) -> None:
    front = await client.proxy()
    await front.send(dial_req(address, protocol=protocol))
    await agent.send(dial_rsp(await asked(agent, address, protocol), error="no"))
    await failed(front, world, "no")


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


# -- calls that are none -----------------------------------------------------------------------


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
