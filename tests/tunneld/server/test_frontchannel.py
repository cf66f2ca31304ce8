"""Connections towards a konnectivity client: what it is told, and that its octets wait for room."""

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from frames.packet import CloseRequest, CloseResponse, Data
from tests.tunneld.packetpair import CarriedOne, Other, PacketPair, open_packets
from tunneld.server.frontchannel import FrontChannel
from tunneld.telemetry import PROXY, ServerTelemetry


class Carried(CarriedOne):
    """``other`` leads to the endpoint."""

    channel: FrontChannel
    other: "Dialled"

    def __init__(self, pair: PacketPair) -> None:
        self.telemetry = ServerTelemetry()
        other = Dialled()
        super().__init__(
            pair,
            other,
            lambda closed: FrontChannel(
                pair.packets, 1, pair.reactor, closed, other, self.telemetry
            ),
        )


class Dialled(Other):
    """The end that leads to an endpoint."""

    sent = 0

    def hold(self, early: int) -> None:
        raise AssertionError

    def release(self) -> None:
        raise AssertionError

    def room(self, source: object) -> int:
        raise AssertionError

    def view(self, size: int) -> memoryview:
        raise AssertionError

    def commit(self, size: int) -> None:
        raise AssertionError

    def finish(self) -> None:
        raise AssertionError


@pytest.fixture
async def pair() -> AsyncIterator[PacketPair]:
    async with open_packets() as opened:
        yield opened


async def begun(pair: PacketPair) -> Carried:
    carried = Carried(pair)
    await wait_all_tasks_blocked()
    return carried


# -- the endpoint ends ------------------------------------------------------------------------


async def test_an_endpoint_that_ends_closes_behind_its_octets(pair: PacketPair) -> None:
    carried = await begun(pair)
    carried.other.push(b"answer", end=True)
    assert await carried.said() == [Data(1, b"answer", ""), CloseResponse("", 1)]
    assert carried.other.ended
    assert carried.other.hung_up == 1
    assert carried.over
    assert carried.ended.error is None


async def test_its_octets_wait_for_the_client_and_the_close_for_them() -> None:
    async with open_packets(window=1_000) as pair:
        pair.peer.crediting = False
        carried = await begun(pair)
        carried.other.push(bytes(5_000), end=True)
        assert len(await carried.said()) == 1
        assert not carried.over
        pair.peer.open_window(10_000)
        assert (await carried.said())[-1] == CloseResponse("", 1)
        assert carried.over


async def test_a_close_that_crosses_the_client_s_is_said_once(pair: PacketPair) -> None:
    carried = await begun(pair)
    carried.other.push(end=True)
    await carried.peer_says(CloseRequest(1))
    assert await carried.said() == [CloseResponse("", 1)]


async def test_an_endpoint_that_ended_without_taking_all_is_waited_for_in_bounds(
    pair: PacketPair, autojump_clock: MockClock
) -> None:
    carried = await begun(pair)
    carried.other.taking = False
    await carried.peer_says(Data(1, bytes(10_000), ""))
    carried.other.push(b"that is enough", end=True)
    assert await carried.said() == [Data(1, b"that is enough", ""), CloseResponse("", 1)]
    assert not carried.over
    await trio.sleep(10.1)
    assert carried.over
    assert await carried.said() == []


# -- the client ends --------------------------------------------------------------------------


async def test_a_client_that_closes_gets_what_the_endpoint_still_says(pair: PacketPair) -> None:
    carried = await begun(pair)
    await carried.peer_says(Data(1, b"question", ""), CloseRequest(1))
    assert carried.other.got == b"question"
    assert carried.other.ended
    assert carried.other.hung_up == 1
    carried.other.push(b"answer", end=True)
    assert await carried.said() == [Data(1, b"answer", ""), CloseResponse("", 1)]
    assert carried.over
    assert carried.ended.error is None


async def test_a_client_that_closes_is_answered_within_a_second(
    pair: PacketPair, autojump_clock: MockClock
) -> None:
    carried = await begun(pair)
    await carried.peer_says(CloseRequest(1))
    await trio.sleep(0.9)
    assert await carried.said() == []
    await trio.sleep(0.2)
    assert await carried.said() == [CloseResponse("", 1)]
    assert carried.over
    assert carried.other.aborted == 1


async def test_a_client_that_closes_is_answered_though_the_tunnel_is_lost(
    pair: PacketPair, autojump_clock: MockClock
) -> None:
    carried = await begun(pair)
    await carried.peer_says(CloseRequest(1))
    carried.other.relay.fail("tunnel of agent demo lost: ended")
    assert await carried.said() == [CloseResponse("tunnel of agent demo lost: ended", 1)]
    assert carried.over
    await trio.sleep(5)
    assert await carried.said() == []


async def test_data_behind_its_close_is_dropped(pair: PacketPair) -> None:
    carried = await begun(pair)
    await carried.peer_says(CloseRequest(1), Data(1, bytes(50_000), ""), CloseRequest(1))
    assert carried.other.got == b""
    assert carried.other.hung_up == 1
    assert pair.uncredited == 0


# -- resets -----------------------------------------------------------------------------------


async def test_a_reset_tells_the_client_why(pair: PacketPair) -> None:
    carried = await begun(pair)
    carried.other.relay.fail("agent: endpoint: reset")
    assert await carried.said() == [CloseResponse("agent: endpoint: reset", 1)]
    assert carried.over


async def test_a_client_that_breaks_the_protocol_is_told_so(pair: PacketPair) -> None:
    carried = await begun(pair)
    carried.channel.reject("mismatched connection IDs")
    carried.channel.reject("mismatched connection IDs")
    assert await carried.said() == [CloseResponse("mismatched connection IDs", 1)]
    assert carried.over
    assert carried.ended.error == "mismatched connection IDs"
    assert carried.other.aborted == 1


async def test_a_client_that_is_lost_is_told_nothing(pair: PacketPair) -> None:
    carried = await begun(pair)
    carried.channel.lose("client: stream reset")
    await wait_all_tasks_blocked()
    assert carried.over
    assert carried.ended.error == "client: stream reset"
    assert await carried.said() == []


# -- credit -----------------------------------------------------------------------------------


async def test_the_client_waits_for_the_endpoint(pair: PacketPair) -> None:
    carried = await begun(pair)
    carried.other.taking = False
    for _ in range(200):
        carried.pair.peer.send(Data(1, bytes(16_000), ""))
    await wait_all_tasks_blocked()
    waiting = len(carried.other.got)
    assert 0 < waiting < pair.end.stream.window_size
    assert pair.peer.end.backlog > 0
    while len(carried.other.got) < 200 * 16_000:
        carried.other.take()
        await wait_all_tasks_blocked()
    carried.other.take()
    await wait_all_tasks_blocked()
    assert pair.uncredited == 0


async def test_one_long_message_waits_as_a_whole(pair: PacketPair) -> None:
    """A client's write is one message, however long; its first parts cannot be held back."""
    carried = await begun(pair)
    carried.other.taking = False
    octets = bytes(range(256)) * 8_000
    await carried.peer_says(Data(1, octets, ""))
    assert carried.other.got == octets
    assert pair.uncredited > 0
    carried.other.take()
    await wait_all_tasks_blocked()
    assert pair.uncredited == 0


@pytest.mark.parametrize("how", ["abort", "lose", "reject", "close"])
async def test_what_waited_is_credited_however_it_ends(
    pair: PacketPair, how: str, autojump_clock: MockClock
) -> None:
    """The client may have more to say behind it on its stream."""
    carried = await begun(pair)
    carried.other.taking = False
    for _ in range(200):
        carried.pair.peer.send(Data(1, bytes(16_000), ""))
    await wait_all_tasks_blocked()
    match how:
        case "abort":
            carried.other.relay.fail("broken")
        case "lose":
            carried.channel.lose("gone")
        case "reject":
            carried.channel.reject("mismatched")
        case "close":
            carried.channel.peer_closed("")
            await trio.sleep(2)
    await wait_all_tasks_blocked()
    assert carried.over
    assert pair.peer.end.backlog == 0
    assert pair.uncredited == 0


async def test_a_client_that_waits_for_the_endpoint_is_counted(pair: PacketPair) -> None:
    carried = await begun(pair)
    full = carried.telemetry.full_receive_channels
    carried.other.taking = False
    await carried.peer_says(Data(1, bytes(10 * 32_768), ""))
    assert full[PROXY] == 0
    await carried.peer_says(Data(1, bytes(1), ""), Data(1, bytes(1), ""))
    assert full[PROXY] == 1
    carried.other.take(2)
    assert full[PROXY] == 0
    await carried.peer_says(Data(1, bytes(1), ""))
    assert full[PROXY] == 1
    carried.other.relay.fail("broken")
    assert full[PROXY] == 0
