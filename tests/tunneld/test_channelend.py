"""A connection of a stream of packets as one end of a relay: what all kinds have in common."""

from dataclasses import dataclass, field

import pytest
from trio.testing import wait_all_tasks_blocked

from frames import ErrorCode
from frames.packet import CloseRequest, CloseResponse, Data, Packet
from tests.tunneld.packetpair import Other, PacketPair, carry, open_packets
from tests.tunneld.sessionpair import Ended
from tunneld.channelend import ChannelEnd
from tunneld.packetstream import MAX_DATA

PATTERN = bytes(range(251)) * 4_200
"""About 1 MiB."""


class Channel(ChannelEnd):
    """As simple as one can be: it asks at once, and holds nothing back."""

    def _close_packet(self, error: str) -> Packet:
        return CloseResponse(error, self.connect_id)

    def _source_ended(self) -> None:
        self._say_close()

    def peer_closed(self, error: str) -> None:
        self._closed_by_peer = True
        self._deliver_end()

    def _hold_back(self, size: int) -> int:
        return 0


@dataclass
class Carried:
    """A channel and what is at its other end."""

    pair: PacketPair
    channel: Channel
    other: Other = field(default_factory=Other)
    ended: Ended = field(default_factory=Ended)
    closed: list[int] = field(default_factory=list)

    def carry(self) -> None:
        self.ended = carry(self.pair, self.other, self.channel)

    @property
    def result(self) -> str | None:
        """The relay's error, which must be over."""
        assert self.ended.event.is_set()
        return self.ended.error


def made(pair: PacketPair, connect_id: int = 1) -> Carried:
    def on_closed() -> None:
        carried.closed.append(connect_id)
        del pair.user.channels[connect_id]

    channel = Channel(pair.packets, connect_id, pair.reactor, on_closed)
    pair.user.channels[connect_id] = channel
    carried = Carried(pair, channel)
    return carried


async def begun(pair: PacketPair, connect_id: int = 1) -> Carried:
    """Its relay is under way."""
    carried = made(pair, connect_id)
    carried.carry()
    await wait_all_tasks_blocked()
    return carried


def octets_of(packets: list[Packet], connect_id: int = 1) -> bytes:
    found = [each for each in packets if isinstance(each, Data) and each.connect_id == connect_id]
    return b"".join(bytes(packet.data) for packet in found)


# -- octets -----------------------------------------------------------------------------------


async def test_octets_go_both_ways() -> None:
    async with open_packets() as pair:
        carried = await begun(pair)
        carried.other.say(b"question")
        assert await pair.said() == [Data(1, b"question", "")]
        pair.peer.send(Data(1, b"ans", ""), Data(1, b"wer", ""))
        await wait_all_tasks_blocked()
        assert carried.other.got == b"answer"
        assert (carried.channel.sent, carried.channel.received) == (8, 6)


@pytest.mark.parametrize("window", [40, 1_000, 70_000])
@pytest.mark.parametrize("way", ["socket", "stream"])
async def test_much_waits_for_the_window_and_its_end_for_all_of_it(window: int, way: str) -> None:
    octets = PATTERN[: 200 * window]
    async with open_packets(window) as pair:
        carried = await begun(pair)
        if way == "socket":
            carried.other.say(octets, end=True)
        else:
            carried.other.push(octets[:10])
            carried.other.push(octets[10:], end=True)
        packets = await pair.said()
        assert octets_of(packets) == octets
        assert packets[-1] == CloseResponse("", 1)
        assert all(len(each.data) <= MAX_DATA for each in packets if isinstance(each, Data))
        assert carried.other.credited == (len(octets) if way == "stream" else 0)
        assert carried.channel.has_all


async def test_a_stream_is_credited_for_what_has_left() -> None:
    async with open_packets(window=1_000) as pair:
        pair.peer.crediting = False
        carried = await begun(pair)
        carried.other.push(bytes(5_000))
        assert carried.other.credited == 972
        pair.peer.open_window(1_000)
        await wait_all_tasks_blocked()
        assert carried.other.credited == len(octets_of(await pair.said()))


async def test_connections_that_have_much_to_send_share_the_window() -> None:
    async with open_packets(window=1_000) as pair:
        several = [await begun(pair, number) for number in (1, 2, 3)]
        for carried in several:
            carried.other.push(bytes(20_000), end=True)
        packets = await pair.said()
        assert [len(octets_of(packets, number)) for number in (1, 2, 3)] == [20_000] * 3
        half = packets[: len(packets) // 2]
        shares = [len(octets_of(half, number)) for number in (1, 2, 3)]
        assert max(shares) - min(shares) <= 2_000


async def test_an_end_alone_is_carried() -> None:
    async with open_packets() as pair:
        carried = await begun(pair)
        carried.other.push(end=True)
        assert await pair.said() == [CloseResponse("", 1)]
        pair.peer.send(CloseRequest(1))
        await wait_all_tasks_blocked()
        assert carried.other.ended
        assert carried.result is None
        assert (carried.other.closed, carried.other.aborted, carried.closed) == (1, 0, [1])


# -- before the relay, and holds --------------------------------------------------------------


async def test_what_comes_before_the_relay_is_kept_for_it() -> None:
    async with open_packets() as pair:
        carried = made(pair)
        pair.peer.send(Data(1, b"early ", ""))
        await wait_all_tasks_blocked()
        carried.carry()
        await wait_all_tasks_blocked()
        pair.peer.send(Data(1, b"late", ""))
        await wait_all_tasks_blocked()
        assert carried.other.got == b"early late"


async def test_a_whole_answer_with_its_end_may_come_before_the_relay() -> None:
    async with open_packets() as pair:
        carried = made(pair)
        pair.peer.send(Data(1, b"all of it", ""), CloseRequest(1))
        await wait_all_tasks_blocked()
        carried.carry()
        await wait_all_tasks_blocked()
        assert carried.other.got == b"all of it"
        assert carried.other.ended


async def test_what_is_held_comes_when_it_is_released() -> None:
    async with open_packets() as pair:
        carried = made(pair)
        carried.channel.hold(0)
        pair.peer.send(Data(1, b"ban", ""))
        await wait_all_tasks_blocked()
        carried.carry()
        await wait_all_tasks_blocked()
        pair.peer.send(Data(1, b"ner", ""), CloseRequest(1))
        await wait_all_tasks_blocked()
        assert carried.other.got == b""
        carried.channel.release()
        carried.channel.release()
        assert carried.other.got == b"banner"
        assert carried.other.ended


async def test_a_client_that_speaks_needs_no_hold() -> None:
    async with open_packets() as pair:
        carried = made(pair)
        carried.channel.hold(5)
        pair.peer.send(Data(1, b"banner", ""))
        await wait_all_tasks_blocked()
        carried.carry()
        await wait_all_tasks_blocked()
        carried.other.say(b"early")
        assert carried.other.got == b""
        carried.other.say(b"!")
        assert carried.other.got == b"banner"


async def test_a_hold_that_ends_before_the_relay_is_none() -> None:
    async with open_packets() as pair:
        carried = made(pair)
        carried.channel.hold(0)
        carried.channel.release()
        pair.peer.send(Data(1, b"banner", ""))
        carried.carry()
        await wait_all_tasks_blocked()
        assert carried.other.got == b"banner"


# -- resets -----------------------------------------------------------------------------------


async def test_giving_up_before_the_relay_is_told_once() -> None:
    async with open_packets() as pair:
        carried = made(pair)
        pair.peer.send(Data(1, b"unheard", ""))
        await wait_all_tasks_blocked()
        carried.channel.abort()
        carried.channel.abort()
        assert await pair.said() == [CloseResponse("connection reset", 1)]
        assert carried.closed == [1]
        assert pair.uncredited == 0


async def test_a_relay_that_fails_says_why() -> None:
    async with open_packets() as pair:
        carried = await begun(pair)
        carried.other.relay.fail("client: Connection reset by peer")
        assert await pair.said() == [CloseResponse("client: Connection reset by peer", 1)]
        assert carried.result == "client: Connection reset by peer"
        assert (carried.other.aborted, carried.closed) == (1, [1])


async def test_a_reset_gets_ahead_of_what_waits_and_drops_it() -> None:
    async with open_packets(window=1_000) as pair:
        pair.peer.crediting = False
        carried = await begun(pair)
        carried.other.push(bytes(5_000))
        await wait_all_tasks_blocked()
        carried.other.relay.fail("enough")
        pair.peer.open_window(10_000)
        first, *rest = await pair.said()
        assert isinstance(first, Data)
        assert rest == [CloseResponse("enough", 1)]


async def test_a_stream_that_is_lost_ends_the_relay_and_nothing_is_said() -> None:
    async with open_packets() as pair:
        carried = await begun(pair)
        pair.peer.send(Data(1, b"last words", ""))
        pair.peer.end.reset(ErrorCode.CANCEL)
        await wait_all_tasks_blocked()
        assert carried.result == "tunnel lost"
        assert carried.other.got == b"last words"
        assert carried.closed == [1]
        assert ("out", "CLOSE_RSP") not in pair.counts


async def test_a_stream_that_is_lost_before_the_relay_fails_it_behind_what_came() -> None:
    async with open_packets() as pair:
        carried = made(pair)
        pair.peer.send(Data(1, b"last words", ""))
        pair.peer.end.reset(ErrorCode.CANCEL)
        await wait_all_tasks_blocked()
        assert carried.closed == []
        carried.carry()
        await wait_all_tasks_blocked()
        assert carried.result == "tunnel lost"
        assert carried.other.got == b"last words"
        assert carried.closed == [1]


async def test_the_loss_of_a_stream_waits_behind_what_is_held() -> None:
    async with open_packets() as pair:
        carried = made(pair)
        carried.channel.hold(0)
        carried.carry()
        pair.peer.send(Data(1, b"last words", ""))
        await wait_all_tasks_blocked()
        pair.peer.end.reset(ErrorCode.CANCEL)
        await wait_all_tasks_blocked()
        assert carried.other.got == b""
        carried.channel.release()
        await wait_all_tasks_blocked()
        assert carried.other.got == b"last words"
        assert carried.result == "tunnel lost"


async def test_nothing_more_is_kept_for_a_relay_that_can_only_fail() -> None:
    async with open_packets() as pair:
        carried = made(pair)
        pair.peer.send(Data(1, b"before", ""))
        await wait_all_tasks_blocked()
        carried.channel._fail("overrun")
        pair.peer.send(Data(1, b"after", ""))
        await wait_all_tasks_blocked()
        carried.carry()
        await wait_all_tasks_blocked()
        assert carried.other.got == b"before"
        assert carried.result == "overrun"
        assert await pair.said() == [CloseResponse("overrun", 1)]


async def test_an_error_of_ours_ends_the_relay() -> None:
    async with open_packets() as pair:
        carried = await begun(pair)
        carried.channel.fail(ZeroDivisionError("division by zero"))
        await wait_all_tasks_blocked()
        assert carried.result == "internal error: division by zero"


# -- when it is over --------------------------------------------------------------------------


async def test_what_the_other_end_says_to_nobody_is_swallowed() -> None:
    async with open_packets(window=1_000) as pair:
        pair.peer.crediting = False
        carried = await begun(pair)
        carried.other.push(bytes(2_000))
        pair.peer.send(CloseRequest(1))
        await wait_all_tasks_blocked()
        carried.other.push(bytes(100_000))
        carried.other.say(bytes(100_000))
        assert carried.other.to_send == b""
        carried.channel._drop_outbox()
        assert carried.other.credited == 102_000
        assert len(octets_of(await pair.said())) == 972
        carried.other.say(end=True)
        await wait_all_tasks_blocked()
        assert carried.result is None


async def test_one_whose_turn_comes_when_it_is_over_says_nothing() -> None:
    async with open_packets(window=1_000) as pair:
        pair.peer.crediting = False
        first, second = await begun(pair, 1), await begun(pair, 2)
        first.other.push(bytes(2_000))
        second.other.push(bytes(500))
        first.channel.abort()
        pair.peer.open_window(5_000)
        packets = await pair.said()
        assert octets_of(packets, 1) == bytes(972)
        assert octets_of(packets, 2) == bytes(500)


async def test_late_events_are_no_events() -> None:
    async with open_packets() as pair:
        carried = await begun(pair)
        channel = carried.channel
        channel.hold(0)
        carried.other.relay.fail("over")
        await pair.said()
        channel.release()
        channel.resume()
        channel.lose("again")
        channel.fail(ZeroDivisionError())
        channel.credit(5)
        channel.close()
        channel.abort()
        channel._stop()
        carried.other.push(b"late")
        carried.other.say(b"late")
        assert channel.receive(memoryview(b"late")) == 0
        assert await pair.said() == []
        assert carried.closed == [1]
        assert carried.result == "over"


async def test_an_end_that_comes_amid_its_own_octets_is_one() -> None:
    """What waits gets its turn, and that ends a hold behind which the connection was lost."""
    async with open_packets(window=30) as pair:
        pair.peer.crediting = False
        first, carried = await begun(pair, 1), made(pair, 2)
        first.other.push(b"xx")
        carried.channel.hold(0)
        carried.carry()
        await wait_all_tasks_blocked()
        carried.other.push(bytes(5_000))
        carried.channel._fail("overrun")
        await wait_all_tasks_blocked()
        pair.peer.open_window(2_000)
        await wait_all_tasks_blocked()
        assert carried.result == "overrun"
        assert carried.other.credited == 5_000
        pair.peer.open_window(2_000)
        assert (await pair.said())[-1] == CloseResponse("overrun", 2)
        assert not first.ended.event.is_set()
