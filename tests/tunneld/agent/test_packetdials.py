"""What an agent does about a konnectivity server's packets."""

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from frames.packet import (
    CloseDial,
    CloseRequest,
    CloseResponse,
    Data,
    DialRequest,
    DialResponse,
    Unknown,
)
from tests.tunneld.agent.packetserver import Agent, PacketWorld, open_packet_world
from tests.tunneld.server.test_frontend import Full
from tunneld import sharedchannel
from tunneld.telemetry import (
    DIAL_TIMEOUT,
    DIAL_UNKNOWN,
    FROM_AGENT,
    TO_AGENT,
    TO_ENDPOINT,
)

BULK = bytes(range(256)) * 4096
"""1 MiB."""


@pytest.fixture
async def world(pki: Path) -> AsyncIterator[PacketWorld]:
    with trio.fail_after(30):
        async with open_packet_world(pki) as opened:
            yield opened


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)


class Endpoint:
    """Keeps its connections for the test to play with."""

    def __init__(self) -> None:
        self.send, self.receive = trio.open_memory_channel[trio.SocketStream](10)

    async def __call__(self, stream: trio.SocketStream) -> None:
        await self.send.send(stream)
        await trio.sleep_forever()

    async def accept(self) -> trio.SocketStream:
        return await self.receive.receive()


async def dialled(world: PacketWorld) -> tuple[Agent, trio.SocketStream]:
    """A connection of id 1, and the endpoint's end of it."""
    agent, endpoint = await world.ready(), Endpoint()
    address = f"127.0.0.1:{await world.endpoint(endpoint)}"
    assert await agent.dial(address) == DialResponse("", 1, 7)
    return agent, await endpoint.accept()


def reset(stream: trio.SocketStream) -> None:
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


# -- dials ------------------------------------------------------------------------------------


async def test_octets_go_both_ways(world: PacketWorld) -> None:
    agent = await world.ready()
    address = f"127.0.0.1:{await world.endpoint(echo)}"
    assert await agent.dial(address) == DialResponse("", 1, 7)
    pieces = [BULK[at : at + 30_000] for at in range(0, len(BULK), 30_000)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent.send, *(Data(1, piece, "") for piece in pieces))
        assert await agent.data(1, len(BULK)) == BULK
    (row,) = world.role.conns()
    assert row["client"] == "server"
    assert row["destination"] == address
    assert row["agent"] == "demo"
    assert row["state"] == "open"
    assert row["bytes_sent"] == row["bytes_received"] == len(BULK)


@pytest.mark.parametrize("number", [0, 1, -1, 2**63 - 1, -(2**63)])
async def test_the_number_of_a_dial_comes_back_as_it_is(number: int, world: PacketWorld) -> None:
    agent = await world.ready()
    address = f"127.0.0.1:{await world.endpoint(echo)}"
    assert await agent.dial(address, number) == DialResponse("", 1, number)


async def test_a_failed_dial_says_why(world: PacketWorld) -> None:
    agent = await world.ready()
    text = "dial tcp 127.0.0.1:1: connect: connection refused"
    assert await agent.dial("127.0.0.1:1") == DialResponse(text, 0, 7)
    address = f"127.0.0.1:{await world.endpoint(echo)}"
    assert await agent.dial(address) == DialResponse("", 1, 7)
    assert world.role.telemetry.endpoint_dial_failure_total[DIAL_UNKNOWN] == 1


async def test_only_tcp_is_dialled(world: PacketWorld) -> None:
    agent = await world.ready()
    answer = await agent.dial("/run/some.sock", protocol="unix")
    assert answer == DialResponse("dial unix: unknown network unix", 0, 7)
    answer = await agent.dial("127.0.0.1:1", protocol="tcp4")
    assert answer == DialResponse("dial tcp4 127.0.0.1:1: connect: connection refused", 0, 7)


async def test_a_dial_without_an_answer_times_out(pki: Path) -> None:
    async with open_packet_world(pki, connect_timeout=0.05) as world:
        agent = await world.ready()
        with closing(Full()) as full:
            text = f"dial tcp 127.0.0.1:{full.port}: i/o timeout"
            assert await agent.dial(f"127.0.0.1:{full.port}") == DialResponse(text, 0, 7)
        assert world.role.telemetry.endpoint_dial_failure_total[DIAL_TIMEOUT] == 1


async def test_a_slow_dial_holds_up_no_other(world: PacketWorld) -> None:
    agent = await world.ready()
    address = f"127.0.0.1:{await world.endpoint(echo)}"
    with closing(Full()) as full:
        await agent.send(DialRequest("tcp", f"127.0.0.1:{full.port}", 1))
        assert await agent.dial(address, 2) == DialResponse("", 1, 2)
        assert {row["state"] for row in world.role.conns()} == {"dialling", "open"}


async def test_the_answer_comes_before_all_that_the_endpoint_says(world: PacketWorld) -> None:
    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(b"hello")

    agent = await world.ready()
    address = f"127.0.0.1:{await world.endpoint(greet)}"
    for connect_id in range(1, 20):
        assert await agent.dial(address) == DialResponse("", connect_id, 7)
        assert await agent.data(connect_id, 5) == b"hello"
        assert await agent.next() == CloseResponse("", connect_id)


async def test_a_dial_that_is_given_up_is_not_answered(world: PacketWorld) -> None:
    agent = await world.ready()
    with closing(Full()) as full:
        await agent.send(DialRequest("tcp", f"127.0.0.1:{full.port}", 1), CloseDial(1))
        await agent.send(DialRequest("tcp", f"127.0.0.1:{full.port}", 2))
        await world.until(lambda: len(world.role.conns()) == 1)
        await agent.send(CloseDial(2), CloseDial(3))
        await world.until(lambda: not world.role.conns())
    assert await agent.dial("127.0.0.1") == DialResponse(
        "dial tcp: address 127.0.0.1: missing port in address", 0, 7
    )


async def test_a_dial_that_is_given_up_too_late_is_closed(world: PacketWorld) -> None:
    agent, endpoint = await dialled(world)
    await agent.send(CloseDial(7))
    assert await agent.next() == CloseResponse("", 1)
    assert await endpoint.receive_some() == b""
    await world.until(lambda: not world.role.conns())


async def test_dials_of_one_number_get_an_answer_each(world: PacketWorld) -> None:
    agent = await world.ready()
    address = f"127.0.0.1:{await world.endpoint(echo)}"
    await agent.dial(address, 1)
    request = DialRequest("tcp", address, 7)
    await agent.send(request, request)
    answers = {await agent.next(), await agent.next()}
    assert answers == {DialResponse("", 2, 7), DialResponse("", 3, 7)}
    await agent.send(CloseRequest(2), CloseRequest(3))
    closed = {await agent.next(), await agent.next()}
    assert closed == {CloseResponse("", 2), CloseResponse("", 3)}


# -- what does not fit ------------------------------------------------------------------------


async def test_connections_that_there_are_not_are_answered_for(world: PacketWorld) -> None:
    agent = await world.ready()
    await agent.send(Data(9, b"x", ""), CloseRequest(9))
    assert await agent.next() == CloseResponse("unrecognized connectID", 9)
    assert await agent.next() == CloseResponse("Unknown connectID", 9)


async def test_what_is_of_no_use_is_ignored(world: PacketWorld) -> None:
    agent = await world.ready()
    await agent.send(
        Data(0, b"x", ""),
        Data(1, b"", ""),
        CloseResponse("", 1),
        DialResponse("", 1, 2),
        Unknown(77, b"\x08\x4d"),
    )
    address = f"127.0.0.1:{await world.endpoint(echo)}"
    assert await agent.dial(address) == DialResponse("", 1, 7)


# -- the end of a connection ------------------------------------------------------------------


async def test_a_close_comes_after_all_that_was_sent_before(world: PacketWorld) -> None:
    agent, endpoint = await dialled(world)
    pieces = [BULK[at : at + 30_000] for at in range(0, len(BULK), 30_000)]
    await agent.send(*(Data(1, piece, "") for piece in pieces), CloseRequest(1))
    octets = b""
    while data := await endpoint.receive_some():
        octets += data
    assert octets == BULK
    assert await agent.next() == CloseResponse("", 1)
    await agent.close(1)
    assert await agent.next() == CloseResponse("Unknown connectID", 1)


async def test_an_endpoint_that_takes_nothing_holds_up_a_close_for_ten_seconds(
    pki: Path, autojump_clock: MockClock
) -> None:
    async with open_packet_world(pki) as world:
        agent, _ = await dialled(world)
        pieces = [Data(1, BULK[:30_000], "")] * 400
        await agent.send(*pieces, CloseRequest(1))
        begun = trio.current_time()
        assert await agent.next() == CloseResponse("", 1)
        assert trio.current_time() - begun == pytest.approx(10)
        await world.until(lambda: not world.role.conns())


async def test_the_end_of_an_endpoint_is_the_end_of_both_ways(world: PacketWorld) -> None:
    agent, endpoint = await dialled(world)
    await endpoint.send_all(b"last words")
    await endpoint.send_eof()
    assert await agent.data(1, 10) == b"last words"
    assert await agent.next() == CloseResponse("", 1)
    assert await endpoint.receive_some() == b""
    await world.until(lambda: not world.role.conns())
    await agent.send(Data(1, b"late", ""), CloseRequest(1))
    assert await agent.next() == CloseResponse("unrecognized connectID", 1)
    assert await agent.next() == CloseResponse("Unknown connectID", 1)


async def test_late_octets_do_not_follow_the_end_of_an_endpoint_that_is_slow(
    world: PacketWorld,
) -> None:
    """What the endpoint has not taken when it ends its way keeps the connection for a while."""
    agent, endpoint = await dialled(world)
    await agent.send(*[Data(1, BULK[:30_000], "")] * 400)
    await endpoint.send_eof()
    assert await agent.next() == CloseResponse("", 1)
    await agent.send(Data(1, b"late", ""), CloseRequest(1))
    assert await agent.next() == CloseResponse("unrecognized connectID", 1)
    assert await agent.next() == CloseResponse("Unknown connectID", 1)
    size = 0
    while data := await endpoint.receive_some():
        size += len(data)
    assert size == 400 * 30_000


async def test_a_reset_of_the_endpoint_has_its_reason(world: PacketWorld) -> None:
    agent, endpoint = await dialled(world)
    reset(endpoint)
    assert await agent.next() == CloseResponse("endpoint: Connection reset by peer", 1)


# -- sharing ----------------------------------------------------------------------------------


async def test_an_endpoint_that_takes_nothing_costs_nobody_else(world: PacketWorld) -> None:
    agent, stuck = await dialled(world)
    address = f"127.0.0.1:{await world.endpoint(echo)}"
    assert await agent.dial(address, 8) == DialResponse("", 2, 8)
    size = sharedchannel.MAX_QUEUE // 30_000 + 200
    await agent.send(*[Data(1, BULK[:30_000], "")] * size, Data(2, b"free", ""))
    closed = await agent.next()
    assert isinstance(closed, CloseResponse)
    assert closed.connect_id == 1
    assert "octets wait to be taken" in closed.error
    late = CloseResponse("unrecognized connectID", 1)
    while (packet := await agent.next()) == late:
        pass
    assert packet == Data(2, b"free", "")
    assert world.role.telemetry.tunneld_overrun_connections_total[TO_ENDPOINT] == 1
    await world.until(lambda: len(world.role.conns()) == 1)
    with pytest.raises(trio.BrokenResourceError):
        await stuck.send_all(b"x")


async def test_one_that_is_alone_is_waited_for_but_not_for_ever(
    pki: Path, autojump_clock: MockClock
) -> None:
    async with open_packet_world(pki) as world:
        agent, _ = await dialled(world)
        count = (sharedchannel.MAX_QUEUE + (6 << 20)) // 30_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent.send, *[Data(1, BULK[:30_000], "")] * count)
            begun = trio.current_time()
            closed = await agent.next()
            assert isinstance(closed, CloseResponse)
            assert "octets wait to be taken" in closed.error
            assert 5 <= trio.current_time() - begun < 10


# -- counting ---------------------------------------------------------------------------------


async def test_it_counts(world: PacketWorld) -> None:
    agent = await world.ready()
    telemetry = world.role.telemetry
    address = f"127.0.0.1:{await world.endpoint(echo)}"
    assert await agent.dial(address) == DialResponse("", 1, 7)
    assert telemetry.open_server_connections == telemetry.known_server_count == 1
    assert telemetry.open_endpoint_connections == 1
    await agent.send(Data(1, b"hello", ""))
    assert await agent.data(1, 5) == b"hello"
    await agent.close(1)
    assert await agent.next() == CloseResponse("", 1)
    await world.until(lambda: not telemetry.open_endpoint_connections)
    assert sum(telemetry.dial_duration_seconds.counts) == 1
    assert telemetry.tunneld_carried_bytes_total == {TO_AGENT: 5, FROM_AGENT: 5}
    assert telemetry.stream_packets_total == {
        (TO_AGENT, "DIAL_REQ"): 1,
        (FROM_AGENT, "DIAL_RSP"): 1,
        (TO_AGENT, "DATA"): 1,
        (FROM_AGENT, "DATA"): 1,
        (TO_AGENT, "CLOSE_REQ"): 1,
        (FROM_AGENT, "CLOSE_RSP"): 1,
    }


async def test_a_server_that_does_not_read_is_a_stall(pki: Path, autojump_clock: MockClock) -> None:
    async def flood(stream: trio.SocketStream) -> None:
        await stream.send_all(BULK)

    async with open_packet_world(pki) as world:
        agent = await world.ready()
        agent.crediting = False
        await agent.dial(f"127.0.0.1:{await world.endpoint(flood)}")
        await trio.sleep(2)
        stalls = world.role.telemetry.tunneld_stalls
        assert stalls.count == 1
        await agent.end(0)
        await world.until(lambda: not world.role.conns())
        assert stalls.count == 0
