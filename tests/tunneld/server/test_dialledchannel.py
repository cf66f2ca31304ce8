"""Connections towards a konnectivity agent: who says that one is over, and when."""

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from frames.packet import CloseRequest, CloseResponse, Data
from tests.tunneld.packetpair import Alone, CarriedOne, Other, PacketPair, open_packets
from tunneld.server.dialledchannel import DialledChannel
from tunneld.telemetry import Histogram

GRACE = 2.0


class Carried(CarriedOne):
    """``other`` is at the client's end."""

    channel: DialledChannel

    def __init__(self, pair: PacketPair, grace: float) -> None:
        self.writes = Histogram([1.0])
        super().__init__(
            pair,
            Other(),
            lambda closed: DialledChannel(
                pair.packets, 1, pair.reactor, closed, Alone(), grace, self.writes
            ),
        )


@pytest.fixture
async def pair() -> AsyncIterator[PacketPair]:
    async with open_packets() as opened:
        yield opened


async def begun(pair: PacketPair, grace: float = GRACE) -> Carried:
    carried = Carried(pair, grace)
    await wait_all_tasks_blocked()
    return carried


# -- the client ends --------------------------------------------------------------------------


async def test_a_client_that_ends_is_answered_until_the_endpoint_is_silent(
    pair: PacketPair, autojump_clock: MockClock
) -> None:
    carried = await begun(pair)
    carried.other.say(b"question", end=True)
    assert await carried.said() == [Data(1, b"question", "")]
    for _ in range(5):
        await trio.sleep(GRACE - 0.5)
        await carried.peer_says(Data(1, b"answer", ""))
    assert await carried.said() == []
    await trio.sleep(GRACE + 0.5)  # it was asked in mid-silence, and asks again
    await trio.sleep(GRACE)
    assert await carried.said() == [CloseRequest(1)]
    assert not carried.over
    await carried.peer_says(Data(1, b"!", ""), CloseResponse("", 1))
    assert carried.other.got == b"answer" * 5 + b"!"
    assert carried.other.ended
    assert carried.over
    assert carried.ended.error is None
    assert await carried.said() == []


async def test_an_agent_that_is_done_within_the_grace_is_asked_for_nothing(
    pair: PacketPair, autojump_clock: MockClock
) -> None:
    carried = await begun(pair)
    carried.other.say(end=True)
    await carried.peer_says(Data(1, b"answer", ""), CloseResponse("", 1))
    assert carried.over
    assert carried.ended.error is None
    await trio.sleep(60)
    assert await carried.said() == []


async def test_without_a_grace_it_is_asked_when_it_has_had_time_for_the_data(
    pair: PacketPair, autojump_clock: MockClock
) -> None:
    """Go's agent drops what its endpoint has not taken when it is asked to close."""
    carried = await begun(pair, grace=0)
    carried.other.say(b"question", end=True)
    assert await carried.said() == [Data(1, b"question", "")]
    await trio.sleep(0.2)
    assert await carried.said() == [CloseRequest(1)]


async def test_without_a_grace_and_without_data_it_is_asked_at_once(pair: PacketPair) -> None:
    carried = await begun(pair, grace=0)
    carried.other.say(end=True)
    assert await carried.said() == [CloseRequest(1)]


@pytest.mark.parametrize("before", [True, False])
async def test_a_client_that_has_hung_up_gets_no_grace(
    pair: PacketPair, before: bool, autojump_clock: MockClock
) -> None:
    carried = await begun(pair)
    if before:
        carried.channel.hang_up()
        assert await carried.said() == []
    carried.other.say(end=True)
    if not before:
        assert await carried.said() == []
        carried.channel.hang_up()
    assert await carried.said() == [CloseRequest(1)]
    carried.channel.hang_up()
    await trio.sleep(GRACE * 2)
    assert await carried.said() == []


async def test_an_agent_that_does_not_answer_is_given_up(
    pair: PacketPair, autojump_clock: MockClock
) -> None:
    carried = await begun(pair, grace=0)
    carried.other.say(end=True)
    await trio.sleep(9.9)
    assert not carried.over
    await trio.sleep(0.2)
    assert carried.over
    assert carried.ended.error == "agent: no answer to CLOSE_REQ in 10 s"
    assert not carried.channel.closed_by_peer
    assert await carried.said() == [CloseRequest(1)]


async def test_an_answer_is_one_though_the_client_takes_its_time(
    pair: PacketPair, autojump_clock: MockClock
) -> None:
    carried = await begun(pair, grace=0)
    carried.other.taking = False
    carried.other.say(end=True)
    await carried.peer_says(Data(1, bytes(50_000), ""), CloseResponse("", 1))
    await trio.sleep(60)
    assert not carried.over
    carried.other.take()
    await wait_all_tasks_blocked()
    assert carried.over
    assert carried.ended.error is None


# -- the agent ends ---------------------------------------------------------------------------


async def test_an_agent_that_ends_is_asked_for_nothing(pair: PacketPair) -> None:
    carried = await begun(pair)
    await carried.peer_says(Data(1, b"banner", ""), CloseResponse("", 1))
    assert carried.other.got == b"banner"
    assert carried.other.ended
    assert not carried.over
    carried.other.say(b"nobody hears this", end=True)
    await wait_all_tasks_blocked()
    assert carried.over
    assert carried.ended.error is None
    assert await carried.said() == []


async def test_a_client_that_does_not_end_then_is_ended(
    pair: PacketPair, autojump_clock: MockClock
) -> None:
    carried = await begun(pair)
    await carried.peer_says(CloseResponse("", 1))
    await trio.sleep(0.9)
    assert not carried.over
    await trio.sleep(0.2)
    assert carried.over
    assert carried.ended.error is None
    assert carried.other.closed == 1


async def test_a_client_that_does_not_end_then_may_still_take_its_octets(
    pair: PacketPair, autojump_clock: MockClock
) -> None:
    carried = await begun(pair)
    carried.other.taking = False
    await carried.peer_says(Data(1, bytes(50_000), ""), CloseResponse("", 1))
    await trio.sleep(30)
    assert not carried.over
    carried.other.take()
    await wait_all_tasks_blocked()
    assert carried.over
    assert carried.ended.error is None


async def test_what_waits_for_an_agent_that_has_ended_is_dropped() -> None:
    async with open_packets(window=1_000) as pair:
        pair.peer.crediting = False
        carried = await begun(pair)
        carried.other.push(bytes(5_000), end=True)
        await carried.peer_says(CloseResponse("", 1))
        await wait_all_tasks_blocked()
        assert carried.other.credited == 5_000
        carried.pair.peer.open_window(10_000)
        packets = await carried.said()
        assert [len(each.data) for each in packets if isinstance(each, Data)] == [972]


async def test_an_error_of_the_agent_s_is_one(pair: PacketPair) -> None:
    carried = await begun(pair)
    await carried.peer_says(Data(1, b"half", ""), CloseResponse("endpoint: reset", 1))
    assert carried.over
    assert carried.ended.error == "agent: endpoint: reset"
    assert carried.other.got == b"half"
    assert carried.other.aborted == 1
    assert carried.channel.closed_by_peer
    assert await carried.said() == []


# -- both end ---------------------------------------------------------------------------------


async def test_ends_that_cross_are_no_error(pair: PacketPair) -> None:
    """Upstream's agent answers CLOSE_REQ for what it has closed by an error."""
    carried = await begun(pair, grace=0)
    carried.other.say(end=True)
    assert await carried.said() == [CloseRequest(1)]
    await carried.peer_says(CloseResponse("", 1), CloseResponse("Unknown connectID", 1))
    assert carried.over
    assert carried.ended.error is None


async def test_an_error_in_answer_to_a_close_is_none(pair: PacketPair) -> None:
    carried = await begun(pair, grace=0)
    carried.other.say(end=True)
    await carried.peer_says(CloseResponse("Unknown connectID", 1))
    assert carried.over
    assert carried.ended.error is None


async def test_data_behind_the_agent_s_end_is_dropped(pair: PacketPair) -> None:
    carried = await begun(pair)
    await carried.peer_says(CloseResponse("", 1), Data(1, b"late", ""))
    assert carried.other.got == b""
    assert pair.uncredited == 0


@pytest.mark.parametrize("asked", [True, False])
async def test_a_client_that_is_reset_closes_once(
    pair: PacketPair, asked: bool, autojump_clock: MockClock
) -> None:
    carried = await begun(pair, grace=0)
    if asked:
        carried.other.say(end=True)
    carried.other.relay.fail("client: reset")
    await wait_all_tasks_blocked()
    assert await carried.said() == [CloseRequest(1)]
    assert carried.over
    assert carried.channel.closed_by_peer is False
    await trio.sleep(60)
    assert await carried.said() == []


async def test_a_tunnel_that_is_lost_in_any_state_ends_it(
    pair: PacketPair, autojump_clock: MockClock
) -> None:
    carried = await begun(pair)
    carried.other.say(end=True)
    carried.channel.lose("tunnel of agent demo lost: ended")
    await wait_all_tasks_blocked()
    assert carried.over
    assert carried.ended.error == "tunnel of agent demo lost: ended"
    await trio.sleep(60)
    assert await carried.said() == []


async def test_how_long_the_client_takes_is_observed(pair: PacketPair) -> None:
    carried = await begun(pair)
    await carried.peer_says(Data(1, b"taken at once", ""))
    carried.other.taking = False
    await carried.peer_says(Data(1, b"taken", ""), Data(1, b"together", ""))
    assert sum(carried.writes.counts) == 1
    carried.other.take(5)
    assert sum(carried.writes.counts) == 1
    carried.other.take()
    assert sum(carried.writes.counts) == 2
    carried.channel.abort()
