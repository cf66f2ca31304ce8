"""A stream of packets: whose turn it is, what goes ahead of what, and that all is credited."""

import itertools
from collections import Counter
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from trio.testing import wait_all_tasks_blocked

from frames import ErrorCode
from frames.grpc import MAX_MESSAGE, PREFIX_SIZE, GrpcError, Status, prefix
from frames.packet import (
    MAX_DATA_HEADER,
    CloseDial,
    CloseRequest,
    CloseResponse,
    Data,
    DialRequest,
    DialResponse,
    Drain,
    Packet,
    Unknown,
)
from tests.tunneld.packetpair import PacketPair, message, open_packets
from tunneld.packetstream import MAX_DATA, PacketStream, type_name
from tunneld.streamend import StreamEnd

OVERHEAD = PREFIX_SIZE + MAX_DATA_HEADER

ONE_OF_EACH: list[Packet] = [
    DialRequest("tcp", "a.example:80", 7),
    DialResponse("", 1, 7),
    DialResponse("dial tcp: refused", 0, -1),
    Data(1, b"octets", ""),
    CloseRequest(1),
    CloseResponse("why", 1),
    CloseDial(2**63 - 1),
    Drain(),
]


class Sender:
    """A connection with octets to send, one packet of them in each turn, as a socket's end."""

    def __init__(self, pair: PacketPair, connect_id: int, octets: bytes) -> None:
        self.pair = pair
        self.connect_id = connect_id
        self.left = octets
        self.rooms: list[int] = []

    def resume(self) -> None:
        packets = self.pair.packets
        if self.left and (room := packets.room(self)):
            self.rooms.append(room)
            piece, self.left = self.left[:room], self.left[room:]
            packets.view(OVERHEAD, len(piece))[:] = piece
            packets.commit(self.connect_id, OVERHEAD, len(piece))
            self.pair.reactor.call_next_turn(self, self.resume)

    def fail(self, error: Exception) -> None:
        raise error


# -- packets ----------------------------------------------------------------------------------


async def test_packets_of_all_kinds_arrive_and_are_counted_on_both_sides() -> None:
    async with open_packets() as pair:
        for packet in ONE_OF_EACH:
            pair.peer.push(message(packet))
        await wait_all_tasks_blocked()
        assert pair.user.take() == ONE_OF_EACH
        for packet in ONE_OF_EACH:
            pair.packets.send(packet)
        assert await pair.said() == ONE_OF_EACH
        names = Counter({"DIAL_RSP": 2, "DIAL_REQ": 1, "DATA": 1, "CLOSE_REQ": 1})
        names.update(["CLOSE_RSP", "DIAL_CLS", "DRAIN"])
        assert pair.counts == Counter(
            {(way, name): count for name, count in names.items() for way in ("in", "out")}
        )


async def test_what_came_before_it_started_is_taken_first() -> None:
    async with open_packets(start=False) as pair:
        pair.peer.start()
        pair.peer.push(message(CloseRequest(1)))
        await wait_all_tasks_blocked()
        assert pair.user.packets == []
        pair.packets.start()
        pair.peer.push(message(CloseRequest(2)))
        await wait_all_tasks_blocked()
        assert pair.user.take() == [CloseRequest(1), CloseRequest(2)]


async def test_a_stream_that_was_lost_before_it_started_says_so() -> None:
    async with open_packets(start=False) as pair:
        pair.peer.push(message(CloseRequest(1)))
        await wait_all_tasks_blocked()
        pair.peer.end.reset(ErrorCode.CANCEL)
        await wait_all_tasks_blocked()
        pair.packets.start()
        assert pair.user.take() == [CloseRequest(1)]
        [error] = pair.user.ends
        assert error is not None
        assert error.status is Status.UNAVAILABLE


async def test_data_without_octets_is_counted_and_no_more() -> None:
    """Upstream's reader takes it for the end; here nobody may mistake it for one."""
    async with open_packets() as pair:
        pair.peer.push(message(Data(1, b"", "")))
        await wait_all_tasks_blocked()
        assert pair.user.take() == []
        assert pair.counts["in", "DATA"] == 1


async def test_a_packet_of_no_known_type_is_passed_on_and_counted_by_its_number() -> None:
    async with open_packets() as pair:
        raw = b"\x08\x40\xa2\x06\x01x"
        pair.peer.push(prefix(len(raw)) + raw + message(CloseRequest(1)))
        await wait_all_tasks_blocked()
        assert pair.user.take() == [Unknown(64, raw), CloseRequest(1)]
        assert pair.counts["in", "64"] == 1


def test_packets_are_named_as_metrics_have_them() -> None:
    names = [type_name(packet) for packet in ONE_OF_EACH]
    assert names == [
        *("DIAL_REQ", "DIAL_RSP", "DIAL_RSP", "DATA"),
        *("CLOSE_REQ", "CLOSE_RSP", "DIAL_CLS", "DRAIN"),
    ]
    assert type_name(Unknown(-5, b"")) == "-5"


@pytest.mark.parametrize("connect_id", [0, 1, 127, 128, 2**31, 2**63 - 1, -1])
@pytest.mark.parametrize("size", [1, 127, 128, MAX_DATA])
async def test_data_arrives_whole_however_short_its_header_becomes(
    connect_id: int, size: int
) -> None:
    octets = (bytes(range(251)) * 70)[:size]
    async with open_packets() as pair:
        packets = pair.packets
        assert packets.room(Sender(pair, 1, b"")) == MAX_DATA
        packets.view(OVERHEAD, MAX_DATA)[:size] = octets
        packets.commit(connect_id, OVERHEAD, size)
        assert await pair.said() == [Data(connect_id, octets, "")]
        assert pair.counts["out", "DATA"] == 1


async def test_a_packet_fits_one_frame_that_go_takes() -> None:
    async with open_packets() as pair:
        sender = Sender(pair, 2**63 - 1, bytes(100_000))
        frames = pair.end.session.connection.data_frames_sent
        sender.resume()
        assert pair.end.session.connection.data_frames_sent == frames + 1
        assert MAX_DATA + OVERHEAD <= 16_384


# -- turns ------------------------------------------------------------------------------------


def senders(pair: PacketPair, size: int, count: int) -> list[Sender]:
    made = [Sender(pair, number, bytes([number]) * size) for number in range(1, count + 1)]
    for sender in made:
        sender.resume()
    return made


def order(packets: list[Packet]) -> list[int]:
    return [packet.connect_id for packet in packets if isinstance(packet, Data)]


def octets_of(packets: list[Packet], connect_id: int) -> bytes:
    found = [each for each in packets if isinstance(each, Data) and each.connect_id == connect_id]
    return b"".join(bytes(packet.data) for packet in found)


async def test_those_who_wait_send_in_turn() -> None:
    async with open_packets(window=1_000) as pair:
        waiting = senders(pair, 5_000, 3)
        packets = await pair.said()
        assert all(sender.left == b"" for sender in waiting)
        assert order(packets)[:9] == [1, 2, 3] * 3
        for number in (1, 2, 3):
            assert octets_of(packets, number) == bytes([number]) * 5_000


async def test_whoever_comes_waits_behind_those_who_do() -> None:
    async with open_packets(window=1_000) as pair:
        pair.peer.crediting = False
        senders(pair, 1_500, 2)
        await wait_all_tasks_blocked()
        Sender(pair, 9, bytes(100)).resume()
        for _ in range(3):
            pair.peer.open_window(1_000)
            await wait_all_tasks_blocked()
        assert order(await pair.said()) == [1, 2, 1, 9, 2, 2]


async def test_one_that_says_nothing_in_its_turn_gives_it_up() -> None:
    async with open_packets(window=1_000) as pair:
        silent = Sender(pair, 1, b"")
        senders(pair, 972, 1)
        assert pair.packets.room(silent) == 0
        Sender(pair, 3, bytes(100)).resume()
        assert order(await pair.said()) == [1, 3]


@pytest.mark.parametrize(("beyond", "room"), [(0, 0), (1, 1), (50, 50), (100_000, MAX_DATA)])
async def test_room_is_for_a_header_and_an_octet_at_least(beyond: int, room: int) -> None:
    async with open_packets(window=OVERHEAD + beyond) as pair:
        assert pair.packets.room(Sender(pair, 1, b"")) == room


async def test_a_window_that_opens_too_little_gives_no_turn() -> None:
    async with open_packets(window=100) as pair:
        pair.peer.crediting = False
        sender = Sender(pair, 1, bytes(500))
        sender.resume()
        await wait_all_tasks_blocked()
        assert sender.rooms == [72]
        left = pair.end.stream.send_window
        pair.peer.open_window(OVERHEAD - left)
        await wait_all_tasks_blocked()
        assert sender.rooms == [72]
        pair.peer.open_window(1)
        await wait_all_tasks_blocked()
        assert sender.rooms == [72, 1]


async def test_the_connection_s_window_is_waited_for_too() -> None:
    """All streams share it; the peer credits it when half of it is used."""
    async with open_packets(window=1 << 20, connection_window=1 << 16) as pair:
        senders(pair, 400_000, 2)
        packets = await pair.said()
        assert [len(octets_of(packets, number)) for number in (1, 2)] == [400_000] * 2


# -- control packets --------------------------------------------------------------------------


async def test_a_control_packet_goes_ahead_of_data_that_waits_but_of_none_that_was_sent() -> None:
    async with open_packets(window=1_000) as pair:
        senders(pair, 2_000, 2)
        pair.packets.send(CloseRequest(5))
        kinds = [type(packet).__name__ for packet in await pair.said()]
        assert kinds[:3] == ["Data", "CloseRequest", "Data"]


async def test_control_packets_are_sent_in_parts_where_the_window_is_tiny() -> None:
    async with open_packets(window=10) as pair:
        wanted = [each for each in ONE_OF_EACH if not isinstance(each, Data)]
        for packet in wanted:
            pair.packets.send(packet)
        assert pair.end.backlog > 0
        assert pair.packets.starved
        assert await pair.said() == wanted
        assert pair.end.backlog == 0


async def test_data_waits_for_the_rest_of_a_control_packet() -> None:
    async with open_packets(window=100) as pair:
        pair.peer.crediting = False
        first = CloseResponse("x" * 150, 1)
        pair.packets.send(first)
        sender = Sender(pair, 1, bytes(60))
        sender.resume()
        pair.packets.send(CloseRequest(2))
        pair.peer.open_window(40)
        await wait_all_tasks_blocked()
        assert sender.rooms == []
        pair.peer.open_window(200)
        assert await pair.said() == [first, CloseRequest(2), Data(1, bytes(60), "")]


async def test_too_many_unread_control_packets_end_the_stream() -> None:
    async with open_packets(window=100) as pair:
        pair.peer.crediting = False
        for _ in range(20):
            pair.packets.send(CloseResponse("x" * 60_000, 1))
        [error] = pair.user.ends
        assert error is not None
        assert error.status is Status.RESOURCE_EXHAUSTED
        assert error.message.endswith("octets of control packets wait to be read")
        assert pair.packets.over


async def test_nothing_is_sent_on_a_stream_that_is_gone() -> None:
    async with open_packets() as pair:
        pair.peer.end.reset(ErrorCode.CANCEL)
        await wait_all_tasks_blocked()
        pair.packets.send(CloseRequest(1))
        assert pair.packets.room(Sender(pair, 1, b"")) == 0
        assert pair.counts == {}


async def test_it_is_starved_while_somebody_waits_and_the_peer_opens_no_window() -> None:
    async with open_packets(window=100) as pair:
        pair.peer.crediting = False
        assert not pair.packets.starved
        pair.packets.send(CloseResponse("x" * 50, 1))
        await wait_all_tasks_blocked()
        assert pair.end.stream.send_window <= 100 - 60
        assert not pair.packets.starved  # nobody waits
        Sender(pair, 1, bytes(100)).resume()
        await wait_all_tasks_blocked()
        assert pair.packets.starved
        pair.peer.open_window(500)
        await wait_all_tasks_blocked()
        assert not pair.packets.starved


# -- ends -------------------------------------------------------------------------------------


async def test_the_peer_s_end_is_told_once() -> None:
    async with open_packets() as pair:
        pair.peer.push(message(CloseRequest(1)), end=True)
        assert await pair.heard() == [CloseRequest(1)]
        pair.peer.end.reset(ErrorCode.CANCEL)
        await wait_all_tasks_blocked()
        assert pair.user.ends == [None]
        pair.packets.send(CloseResponse("", 1))  # our side is open all the same


async def test_an_end_amid_a_message_is_an_error() -> None:
    async with open_packets() as pair:
        pair.peer.push(message(CloseRequest(1))[:-1], end=True)
        assert await pair.heard() == []
        assert summary(pair.user.ends) == [(Status.INTERNAL, "the stream ended amid a message")]


async def test_a_stream_that_is_reset_is_lost() -> None:
    async with open_packets() as pair:
        pair.peer.end.reset(ErrorCode.CANCEL)
        await wait_all_tasks_blocked()
        why = "stream reset by the other end (CANCEL)"
        assert summary(pair.user.ends) == [(Status.UNAVAILABLE, why)]


async def test_a_session_that_is_lost_takes_its_streams_along() -> None:
    async with open_packets() as pair:
        pair.pair.client.refuse("tired")
        await pair.pair.server_end.event.wait()
        why = "ended by the other end: tired (PROTOCOL_ERROR)"
        assert summary(pair.user.ends) == [(Status.UNAVAILABLE, why)]


def summary(ends: list[GrpcError | None]) -> list[tuple[Status, str]]:
    return [(error.status, error.message) for error in ends if error is not None]


@pytest.mark.parametrize(
    ("octets", "status", "text"),
    [
        (
            prefix(MAX_MESSAGE + 1),
            Status.RESOURCE_EXHAUSTED,
            "grpc: received message larger than max (4194305 vs. 4194304)",
        ),
        (
            b"\x01\0\0\0\x01x",
            Status.INTERNAL,
            "grpc: compressed flag set with identity or empty encoding",
        ),
        (
            prefix(3) + b"\x0a\xff\xff",
            Status.INTERNAL,
            "grpc: failed to unmarshal the received message: ",
        ),
        (
            prefix(5) + b"\x12\x03\x0a\x01\xff",
            Status.INTERNAL,
            "grpc: failed to unmarshal the received message: protocol is not UTF-8",
        ),
    ],
)
async def test_what_is_no_packet_ends_the_stream_behind_those_that_were(
    octets: bytes, status: Status, text: str
) -> None:
    async with open_packets() as pair:
        pair.peer.push(message(CloseRequest(1)) + octets + message(CloseRequest(2)))
        assert await pair.heard() == [CloseRequest(1)]
        [(seen, why)] = summary(pair.user.ends)
        assert seen is status
        assert why.startswith(text)
        pair.peer.push(message(CloseRequest(3)), end=True)
        assert await pair.heard() == []
        assert len(pair.user.ends) == 1


async def test_what_nobody_wants_any_more_is_credited() -> None:
    async with open_packets() as pair:
        pair.peer.push(prefix(MAX_MESSAGE + 1))
        await wait_all_tasks_blocked()
        for _ in range(100):
            pair.peer.push(bytes(100_000))
            await wait_all_tasks_blocked()
        assert pair.peer.end.backlog == 0
        assert pair.uncredited == 0


# -- credit -----------------------------------------------------------------------------------


class CountingEnd:
    """A stream that counts its credit, and refuses what the peer never sent."""

    def __init__(self) -> None:
        self.came = 0
        self.credited = 0
        self.stream = SimpleNamespace(can_send=True, can_receive=True, send_window=0)

    def credit(self, size: int) -> None:
        assert size > 0
        self.credited += size
        assert self.credited <= self.came


class Holding:
    """A user whose octets are used up later, at once, or even before it has said so."""

    def __init__(self) -> None:
        self.got: list[Packet] = []
        self.held = 0
        self.at_once = 0
        """Of each payload, how many octets are released before `on_data` returns."""
        self.holds = 0
        """Of each payload, how many are held back."""
        self.packets: PacketStream

    def on_data(self, connect_id: int, data: memoryview) -> int:
        self.got.append(Data(connect_id, bytes(data), ""))
        holds = min(self.holds, len(data))
        at_once = min(self.at_once, holds)
        if at_once:
            self.packets.release(at_once)
        self.held += holds - at_once
        return holds

    def on_packet(self, packet: Packet) -> None:
        self.got.append(packet)

    def on_end(self, error: GrpcError | None) -> None:
        raise AssertionError(error)


def counting() -> tuple[PacketStream, CountingEnd, Holding]:
    end, user = CountingEnd(), Holding()
    packets = PacketStream(cast(StreamEnd, end), user, Counter(), incoming="in", outgoing="out")
    user.packets = packets
    return packets, end, user


def feed(packets: PacketStream, end: CountingEnd, octets: bytes) -> None:
    end.came += len(octets)
    packets.deliver(memoryview(octets), False)


@given(
    st.lists(st.integers(0, 3_000), max_size=20),
    st.lists(st.sampled_from(range(len(ONE_OF_EACH))), min_size=1, max_size=12),
)
def test_it_does_not_matter_how_the_octets_are_cut(cuts: list[int], which: list[int]) -> None:
    wanted = [ONE_OF_EACH[index] for index in which] + [Data(1, bytes(2_000), "")]
    wire = b"".join(map(message, wanted))
    packets, end, user = counting()
    places = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    for start, stop in itertools.pairwise(places):
        feed(packets, end, wire[start:stop])
    assert user.got == wanted
    assert end.credited == end.came == len(wire)


class Crediting(RuleBasedStateMachine):
    """Messages of every length in pieces of every length, held back and released in any order:
    no credit is given for what has not come, and in the end there is credit for all."""

    def __init__(self) -> None:
        super().__init__()
        self.packets, self.end, self.user = counting()
        self.wire = b""

    @rule(size=st.sampled_from([1, 10, 1_000, 16_000, 70_000, 1_000_000]))
    def write_data(self, size: int) -> None:
        self.wire += message(Data(1, bytes(size), ""))

    @rule()
    def write_control(self) -> None:
        self.wire += message(CloseRequest(1))

    @rule(holds=st.sampled_from([0, 5, 1 << 30]), at_once=st.sampled_from([0, 3, 1 << 30]))
    def choose(self, holds: int, at_once: int) -> None:
        self.user.holds, self.user.at_once = holds, at_once

    @precondition(lambda self: self.wire)
    @rule(size=st.sampled_from([1, 5, 9, 100, 16_384, 200_000]))
    def deliver(self, size: int) -> None:
        piece, self.wire = self.wire[:size], self.wire[size:]
        feed(self.packets, self.end, piece)

    @precondition(lambda self: self.user.held)
    @rule(share=st.floats(0.01, 1))
    def release(self, share: float) -> None:
        size = max(1, int(self.user.held * share))
        self.user.held -= size
        self.packets.release(size)

    @invariant()
    def nothing_is_kept_but_what_is_held(self) -> None:
        assert self.end.came - self.end.credited <= self.user.held

    def teardown(self) -> None:
        feed(self.packets, self.end, self.wire)
        held, self.user.held = self.user.held, 0
        self.packets.release(held)
        assert self.end.credited == self.end.came


def test_credit_is_given_for_all_that_came_and_for_no_more() -> None:
    run_state_machine_as_test(Crediting)


async def test_what_is_held_back_of_a_long_message_is_owed_by_those_that_follow() -> None:
    """Its first parts have been credited before anybody could say that it is to be held."""
    packets, end, user = counting()
    user.holds = 1 << 30
    wire = message(Data(1, bytes(50_000), ""))
    for start in range(0, len(wire), 10_000):
        feed(packets, end, wire[start : start + 10_000])
    assert end.credited == 50_000
    user.holds = 0
    feed(packets, end, message(Data(1, bytes(9_000), "")))
    assert end.credited == 50_000
    packets.release(50_000)
    assert end.credited == end.came


async def test_a_stream_that_the_peer_has_ended_is_not_credited() -> None:
    packets, end, user = counting()
    user.holds = 10
    feed(packets, end, message(Data(1, bytes(10), "")))
    credited = end.credited
    end.stream.can_receive = False
    packets.release(10)
    assert end.credited == credited
