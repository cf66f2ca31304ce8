"""Peers that make us work or store for nothing are cut off; busy honest ones never are."""

from collections.abc import Callable
from functools import partial

import pytest

from frames import (
    BufferedConnection,
    ConnectionState,
    ErrorCode,
    Limits,
    Rate,
    RequestReceived,
    Role,
    Setting,
    Work,
)
from frames.frame import MAX_WINDOW, Flag, FrameType, serialize
from frames.limits import DEFAULT_RATES, Allowances
from tests.frames.peer import (
    CONNECT,
    GET,
    OK,
    POST,
    SETTINGS_ACK,
    TRAILERS,
    Peer,
    begun,
    breaks,
    data,
    error_of,
    goaway,
    padded,
    ping,
    reset,
    settings,
    window_update,
)

BURST = 5
FRAME_SIZE = 16_384

Flood = Callable[[Peer, int], bytes]


def rapid_reset(peer: Peer, turn: int) -> bytes:
    """CVE-2023-44487: a request, and its cancellation at once."""
    return peer.headers(3 + 2 * turn, POST) + reset(3 + 2 * turn, ErrorCode.CANCEL)


def made_you_reset(peer: Peer, turn: int) -> bytes:
    """CVE-2025-8671: a request, and something that makes us reset it."""
    return peer.headers(3 + 2 * turn, POST) + window_update(3 + 2 * turn, 0)


FLOODS: dict[str, tuple[Work, Flood]] = {
    "rapid reset": (Work.RESET, rapid_reset),
    "made you reset": (Work.STREAM_ERROR, made_you_reset),
    "malformed requests": (
        Work.STREAM_ERROR,
        lambda peer, turn: peer.headers(3 + 2 * turn, OK, end_stream=True),
    ),
    "PING": (Work.PING, lambda peer, turn: ping()),
    "PING ACK": (Work.PING, lambda peer, turn: ping(ack=True)),
    "SETTINGS": (Work.SETTINGS, lambda peer, turn: settings()),
    "SETTINGS ACK": (Work.SETTINGS, lambda peer, turn: SETTINGS_ACK),
    "empty DATA": (Work.EMPTY_DATA, lambda peer, turn: data(1, b"")),
    "padding alone": (Work.EMPTY_DATA, lambda peer, turn: padded(1, b"", 255)),
    "WINDOW_UPDATE of a stream": (Work.WINDOW_UPDATE, lambda peer, turn: window_update(1, 1)),
    "WINDOW_UPDATE": (Work.WINDOW_UPDATE, lambda peer, turn: window_update(0, 1)),
    "PRIORITY": (
        Work.IGNORED,
        lambda peer, turn: serialize(FrameType.PRIORITY, 0, 2 * turn + 3, bytes(5)),
    ),
    "unknown frames": (Work.IGNORED, lambda peer, turn: serialize(0x42, 0, turn, b"x")),
    "GOAWAY": (Work.GOAWAY, lambda peer, turn: goaway(0)),
}


def turns_survived(
    side: BufferedConnection, peer: Peer, flood: Flood, *, reads: bool = True
) -> int:
    """How often ``flood`` was taken, from a peer that reads what it is told, or does not."""
    for turn in range(20_000):
        octets = flood(peer, turn)
        error = error_of(partial(side.receive_data, octets))
        if reads:
            side.data_to_send()
        if error is not None:
            assert error.code is ErrorCode.ENHANCE_YOUR_CALM
            assert side.connection.state is ConnectionState.CLOSED
            return turn
    raise AssertionError("not cut off")


def under_test(limits: Limits) -> tuple[BufferedConnection, Peer]:
    side, peer = begun(Role.SERVER, limits=limits)
    side.receive_data(peer.headers(1, CONNECT))
    side.connection._allowances = Allowances(limits.rates)
    return side, peer


@pytest.mark.parametrize(("work", "flood"), FLOODS.values(), ids=FLOODS)
def test_a_flood_ends_the_connection_once_its_allowance_is_spent(work: Work, flood: Flood) -> None:
    side, peer = under_test(Limits(rates=((work, Rate(BURST, 1)),)))
    free = flood is FLOODS["PING"][1]  # the first, as if DATA had gone out before it
    assert turns_survived(side, peer, flood) == BURST + free


@pytest.mark.parametrize(("work", "flood"), FLOODS.values(), ids=FLOODS)
def test_time_lets_the_same_frames_pass(work: Work, flood: Flood) -> None:
    side, peer = under_test(Limits(rates=((work, Rate(BURST, 1)),)))
    for turn in range(50):
        side.connection.refill(float(turn))
        side.receive_data(flood(peer, turn))
        side.data_to_send()


@pytest.mark.parametrize(("work", "flood"), FLOODS.values(), ids=FLOODS)
def test_the_same_floods_are_cut_off_by_default(work: Work, flood: Flood) -> None:
    burst = DEFAULT_RATES[work].burst
    side, peer = under_test(Limits())
    wire = b"".join(flood(peer, turn) for turn in range(burst + 2))
    for start in range(0, len(wire), 1_000):
        error = error_of(partial(side.receive_data, wire[start : start + 1_000]))
        if error is not None:
            assert work.value in str(error)
            return
        side.data_to_send()
    raise AssertionError("not cut off")


def test_informational_responses_are_counted() -> None:
    side, peer = begun(Role.CLIENT, limits=Limits(rates=((Work.INFORMATIONAL, Rate(5, 1)),)))
    side.open_stream(GET)
    early = [(b":status", b"103")]
    assert turns_survived(side, peer, lambda peer, turn: peer.headers(1, early)) == 5


def test_resets_of_streams_that_are_gone_are_counted() -> None:
    side, peer = under_test(Limits(rates=((Work.IGNORED, Rate(5, 1)),)))
    side.receive_data(reset(1))
    assert turns_survived(side, peer, lambda peer, turn: reset(1)) == 5


def test_streams_over_the_limit_are_counted() -> None:
    limits = Limits(max_concurrent_streams=1, rates=((Work.STREAM_ERROR, Rate(5, 1)),))
    side, peer = under_test(limits)
    assert turns_survived(side, peer, lambda peer, turn: peer.headers(3 + 2 * turn, POST)) == 5
    assert not side.connection.streams


# -- things to store ------------------------------------------------------------------------------


def test_a_flood_of_continuations_is_cut_off() -> None:
    """CVE-2024-27316: a header block that never ends."""
    side, peer = under_test(Limits())
    side.receive_data(serialize(FrameType.HEADERS, 0, 3, b""))
    flood = serialize(FrameType.CONTINUATION, 0, 3, b"")
    assert turns_survived(side, peer, lambda peer, turn: flood) == Limits().max_continuations


def test_a_header_block_is_not_kept_beyond_its_limit() -> None:
    side, peer = under_test(Limits(max_continuations=1_000))
    side.receive_data(serialize(FrameType.HEADERS, 0, 3, b""))
    flood = serialize(FrameType.CONTINUATION, 0, 3, bytes(1024))
    assert turns_survived(side, peer, lambda peer, turn: flood) == 32


def test_a_header_bomb_is_cut_off() -> None:
    """A 4000-octet field, put in the table once and named 20,000 times: 80 MB from 24 KB."""
    side, _ = under_test(Limits())
    bomb = b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000 + b"\xbe" * 12_000
    wire = serialize(FrameType.HEADERS, Flag.END_HEADERS, 3, bomb)
    assert breaks(side, wire) is ErrorCode.ENHANCE_YOUR_CALM


def test_answers_that_nobody_reads_are_not_piled_up() -> None:
    side, _ = under_test(Limits(max_queued_replies=10))
    side.receive_data(ping() * 10)
    side.data_to_send()
    side.receive_data(ping() * 10)
    assert breaks(side, ping()) is ErrorCode.ENHANCE_YOUR_CALM
    assert len(side.connection.tx.waiting()) < 100


def test_responses_that_nobody_reads_are_not_piled_up() -> None:
    """Streams end when their responses are in the buffer, so the limit of streams is no bound."""
    limits = Limits(max_unsent=100_000)
    side, peer = begun(Role.SERVER, limits=limits)
    connection = side.connection

    def answer(peer: Peer, turn: int) -> bytes:
        if turn:
            stream = connection.streams[2 * turn - 1]
            connection.send_headers(stream, OK, end_stream=True)
        return peer.headers(2 * turn + 1, GET, end_stream=True)

    assert turns_survived(side, peer, answer, reads=False) > 1_000
    assert connection.tx.length < limits.max_unsent + 1_000


def test_credit_that_nobody_reads_is_not_piled_up() -> None:
    """A peer may guess that it has been given credit, and never read of it."""
    side, peer = under_test(Limits(max_unsent=10_000))
    frame = data(1, bytes(FRAME_SIZE))
    assert turns_survived(side, peer, lambda peer, turn: frame, reads=False) > 500
    assert side.connection.tx.length < 11_000


# -- honest traffic: no clock, so bursts alone have to do ------------------------------------------

MANY = 12_000


def drain(side: BufferedConnection) -> None:
    side.data_to_send()


def test_answers_to_our_own_pings_are_no_flood_and_leave_the_peer_its_own() -> None:
    side, _ = under_test(Limits())
    stream = side.connection.streams[1]
    side.connection.send_headers(stream, OK)
    for _ in range(MANY):
        side.connection.send_data(stream, b"answer")
        side.connection.send_ping(b"have you")
        side.receive_data(ping(ack=True) + ping() + window_update(0, 6) + window_update(1, 6))
        drain(side)
    assert stream.can_receive


def test_a_ping_for_each_round_trip_is_no_flood() -> None:
    """grpc-go estimates the bandwidth by a PING for the DATA it gets, one at a time."""
    side, _ = under_test(Limits())
    stream = side.connection.streams[1]
    side.connection.send_headers(stream, OK)
    wire = data(1, b"request") + ping(b"\x02\x04\x10\x10\x09\x0e\x07\x07")
    for _ in range(MANY):
        side.receive_data(wire + window_update(0, 8) + window_update(1, 8))
        side.connection.send_data(stream, b"response")
        drain(side)
    assert stream.can_receive


def test_credit_for_each_small_frame_is_no_flood() -> None:
    """All that is in flight, in small frames, credited frame by frame, on both levels."""
    side, _ = under_test(Limits())
    side.receive_data(window_update(0, 1 << 22) + settings((Setting.INITIAL_WINDOW_SIZE, 1 << 22)))
    stream = side.connection.streams[1]
    side.connection.send_headers(stream, OK)
    for _ in range(3):
        for _ in range(3 * MANY):
            if not side.connection.send_data(stream, bytes(64)):
                drain(side)
        drain(side)
        side.receive_data((window_update(0, 64) + window_update(1, 64)) * 3 * MANY)
    assert stream.can_send


def test_credit_for_each_piece_of_a_large_frame_is_no_flood() -> None:
    side, _ = under_test(Limits())
    side.receive_data(settings((Setting.MAX_FRAME_SIZE, 1 << 20)))
    stream = side.connection.streams[1]
    side.connection.send_headers(stream, OK)
    side.connection._allowances._left[Work.WINDOW_UPDATE] = 10.0
    for _ in range(1_000):
        assert side.connection.send_data(stream, bytes(65_535)) == 65_535
        drain(side)
        side.receive_data((window_update(0, 4_369) + window_update(1, 4_369)) * 15)


def test_a_window_opened_by_hand_for_each_request_is_no_flood() -> None:
    """Browsers; they also send a PRIORITY_UPDATE (RFC 9218) with each."""
    side, peer = begun(Role.SERVER)
    priority_update = serialize(0x10, 0, 0, bytes(4) + b"u=3")
    for stream_id in range(1, 2 * MANY, 2):
        wire = peer.headers(stream_id, GET, end_stream=True)
        side.receive_data(wire + window_update(stream_id, 1 << 20) + priority_update)
        stream = side.connection.streams[stream_id]
        side.connection.send_headers(stream, OK, end_stream=True)
        drain(side)


def test_resets_of_answered_streams_are_no_flood() -> None:
    """Tunnels that end by an abort; gRPC's RST_STREAM(NO_ERROR) behind the trailers."""
    side, peer = begun(Role.SERVER)
    for stream_id in range(1, 2 * MANY, 2):
        side.receive_data(peer.headers(stream_id, CONNECT))
        side.connection.send_headers(side.connection.streams[stream_id], OK)
        drain(side)
        side.receive_data(reset(stream_id, ErrorCode.NO_ERROR))


def test_resets_of_many_streams_of_ours_at_once_are_no_flood() -> None:
    """An endpoint restarts, and all its tunnels end."""
    side, _ = begun(Role.CLIENT)
    streams = [side.open_stream(CONNECT).id for _ in range(5_000)]
    drain(side)
    side.receive_data(b"".join(map(reset, streams)))
    assert not side.connection.streams


def test_resets_that_cross_the_end_of_their_streams_are_no_flood() -> None:
    side, peer = begun(Role.SERVER)
    for stream_id in range(1, 2 * MANY, 2):
        side.receive_data(peer.headers(stream_id, GET, end_stream=True))
        side.connection.send_headers(side.connection.streams[stream_id], OK, end_stream=True)
        drain(side)
        side.receive_data(reset(stream_id, ErrorCode.NO_ERROR))


def test_a_growing_window_is_no_flood_of_settings() -> None:
    """grpc-go announces each new estimate: a dozen times until it is at 16 MiB."""
    side, _ = under_test(Limits())
    for size in range(20):
        wire = settings((Setting.INITIAL_WINDOW_SIZE, 65_535 << min(size, 8)))
        side.receive_data(wire + window_update(0, 65_535))
        drain(side)


def test_hints_before_each_response_are_no_flood() -> None:
    side, peer = begun(Role.CLIENT)
    for _ in range(MANY):
        stream = side.open_stream(GET, end_stream=True)
        drain(side)
        early = peer.headers(stream.id, [(b":status", b"103")])
        side.receive_data(early * 2 + peer.headers(stream.id, OK, end_stream=True))


def test_unary_calls_are_no_flood() -> None:
    """grpc-go: message, empty DATA with END_STREAM, a PING each way, credit at once."""
    side, peer = begun(Role.SERVER)
    for stream_id in range(1, MANY, 2):
        wire = peer.headers(stream_id, POST) + data(stream_id, bytes(25))
        events = side.receive_data(
            wire + data(stream_id, b"", end_stream=True) + window_update(0, 9)
        )
        assert events[0] == RequestReceived(stream_id, POST, False)
        stream = side.connection.streams[stream_id]
        side.connection.send_headers(stream, OK)
        side.connection.send_data(stream, bytes(9))
        side.connection.send_headers(stream, TRAILERS, end_stream=True)
        drain(side)
        side.receive_data(ping() + reset(stream_id, ErrorCode.NO_ERROR))
    assert side.connection.send_window <= MAX_WINDOW
