"""Connections towards a konnectivity server: what came before an end gets to the endpoint."""

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from frames.packet import CloseRequest, CloseResponse, Data
from tests.tunneld.packetpair import Alone, CarriedOne, Other, PacketPair, open_packets
from tunneld.agent.endpointchannel import EndpointChannel


class Carried(CarriedOne):
    """``other`` is the endpoint."""

    channel: EndpointChannel

    def __init__(self, pair: PacketPair) -> None:
        super().__init__(
            pair,
            Other(),
            lambda closed: EndpointChannel(pair.packets, 1, pair.reactor, closed, Alone()),
        )


@pytest.fixture
async def pair() -> AsyncIterator[PacketPair]:
    async with open_packets() as opened:
        yield opened


async def begun(pair: PacketPair) -> Carried:
    carried = Carried(pair)
    await wait_all_tasks_blocked()
    return carried


# -- the server closes ------------------------------------------------------------------------


async def test_a_close_is_answered_at_once_if_the_endpoint_has_all(
    pair: PacketPair, autojump_clock: MockClock
) -> None:
    carried = await begun(pair)
    await carried.peer_says(Data(1, b"question", ""), CloseRequest(1))
    assert await carried.said() == [CloseResponse("", 1)]
    assert carried.other.got == b"question"
    assert carried.other.ended
    assert not carried.over
    carried.other.say(b"nobody hears this")
    await trio.sleep(1.1)
    assert carried.over
    assert carried.ended.error is None
    assert await carried.said() == []


async def test_a_close_waits_for_the_endpoint_to_take_what_came(
    pair: PacketPair, autojump_clock: MockClock
) -> None:
    carried = await begun(pair)
    carried.other.taking = False
    await carried.peer_says(Data(1, bytes(50_000), ""), CloseRequest(1))
    await trio.sleep(9)
    assert await carried.said() == []
    carried.other.take(49_999)
    assert await carried.said() == []
    carried.other.take(1)
    assert await carried.said() == [CloseResponse("", 1)]
    carried.other.say(end=True)
    await wait_all_tasks_blocked()
    assert carried.over
    assert carried.ended.error is None


async def test_an_endpoint_that_takes_nothing_is_not_waited_for_longer(
    pair: PacketPair, autojump_clock: MockClock
) -> None:
    carried = await begun(pair)
    carried.other.taking = False
    await carried.peer_says(Data(1, bytes(50_000), ""), CloseRequest(1))
    await trio.sleep(10.1)
    assert await carried.said() == [CloseResponse("", 1)]
    assert carried.over
    assert carried.ended.error == "endpoint: octets not taken in 10 s"


async def test_an_endpoint_that_is_reset_when_the_server_closes_is_no_error_there(
    pair: PacketPair,
) -> None:
    carried = await begun(pair)
    carried.other.taking = False
    await carried.peer_says(Data(1, bytes(50_000), ""), CloseRequest(1))
    carried.other.relay.fail("endpoint: Connection reset by peer")
    assert await carried.said() == [CloseResponse("", 1)]
    assert carried.over


async def test_data_behind_the_close_is_dropped(pair: PacketPair) -> None:
    carried = await begun(pair)
    carried.other.taking = False
    await carried.peer_says(Data(1, b"before", ""), CloseRequest(1), Data(1, b"behind", ""))
    carried.other.take()
    assert carried.other.got == b"before"
    assert await carried.said() == [CloseResponse("", 1)]
    carried.channel.abort()


# -- the endpoint ends ------------------------------------------------------------------------


async def test_an_endpoint_that_ends_closes_behind_its_octets(pair: PacketPair) -> None:
    carried = await begun(pair)
    carried.other.say(b"answer", end=True)
    assert await carried.said() == [Data(1, b"answer", ""), CloseResponse("", 1)]
    assert carried.over
    assert carried.ended.error is None


async def test_an_endpoint_that_ends_may_take_what_came_before(
    pair: PacketPair, autojump_clock: MockClock
) -> None:
    carried = await begun(pair)
    carried.other.taking = False
    await carried.peer_says(Data(1, bytes(50_000), ""))
    carried.other.say(end=True)
    assert await carried.said() == [CloseResponse("", 1)]
    await trio.sleep(9)
    assert not carried.over
    carried.other.take()
    await wait_all_tasks_blocked()
    assert carried.over
    assert carried.ended.error is None


async def test_what_the_server_says_of_a_closed_connection_is_answered_as_upstream_does(
    pair: PacketPair, autojump_clock: MockClock
) -> None:
    carried = await begun(pair)
    carried.other.taking = False
    await carried.peer_says(Data(1, bytes(50_000), ""))
    carried.other.say(end=True)
    await carried.peer_says(Data(1, b"more", ""), CloseRequest(1))
    assert await carried.said() == [
        CloseResponse("", 1),
        CloseResponse("unrecognized connectID", 1),
        CloseResponse("Unknown connectID", 1),
    ]
    assert len(carried.other.got) == 50_000
    await trio.sleep(10.1)
    assert carried.over


async def test_an_endpoint_that_is_reset_is_an_error(pair: PacketPair) -> None:
    carried = await begun(pair)
    carried.other.relay.fail("endpoint: Connection reset by peer")
    assert await carried.said() == [CloseResponse("endpoint: Connection reset by peer", 1)]
    assert carried.over


async def test_a_tunnel_that_is_lost_resets_the_endpoint(pair: PacketPair) -> None:
    carried = await begun(pair)
    carried.channel.lose("tunnel lost")
    await wait_all_tasks_blocked()
    assert carried.over
    assert carried.other.aborted == 1
    assert await carried.said() == []
