"""Windows both ways, and the settings that move them (RFC 9113 sections 5.2 and 6.9)."""

import itertools

import pytest

from frames import (
    BufferedConnection,
    ConnectionState,
    DataReceived,
    ErrorCode,
    Limits,
    LocalProtocolError,
    Role,
    Setting,
    Stream,
    StreamState,
    WindowOpened,
)
from frames.frame import MAX_WINDOW, Flag
from tests.frames.peer import (
    GET,
    POST,
    SETTINGS_ACK,
    Pair,
    begun,
    data,
    requested,
    requesting,
    sent_by,
    settings,
    window_update,
)

# -- DATA and windows ---------------------------------------------------------------------------


def test_data_is_cut_to_the_peers_frame_size() -> None:
    side, _, stream = requesting(POST, (Setting.MAX_FRAME_SIZE, 20_000))
    assert side.connection.send_data(stream, bytes(50_000), end_stream=True) == 50_000
    frames = sent_by(side)
    assert [(len(frame[3]), frame[1]) for frame in frames] == [
        (20_000, 0),
        (20_000, 0),
        (10_000, Flag.END_STREAM),
    ]


@pytest.mark.parametrize(
    ("stream_extra", "connection_extra", "sent"),
    [(0, 0, 65535), (1000, 0, 65535), (0, 1000, 65535), (1000, 1000, 66535)],
)
def test_data_stops_at_the_smaller_window(
    stream_extra: int, connection_extra: int, sent: int
) -> None:
    side, _, stream = requesting()
    for stream_id, extra in ((1, stream_extra), (0, connection_extra)):
        if extra:
            side.receive_data(window_update(stream_id, extra))
    assert side.connection.send_data(stream, bytes(100_000), end_stream=True) == sent
    assert side.connection.data_room(stream) == 0
    assert stream.state is StreamState.OPEN
    assert not any(frame[1] for frame in sent_by(side)), "no END_STREAM before the last octet"


def test_data_stops_when_the_buffer_is_full_and_goes_on_when_it_is_sent() -> None:
    side, _, stream = requesting(POST, (Setting.INITIAL_WINDOW_SIZE, MAX_WINDOW))
    side.receive_data(window_update(0, MAX_WINDOW - 65535))
    octets = bytes(range(256)) * 4096
    taken = side.connection.send_data(stream, octets, end_stream=True)
    assert 200_000 < taken < len(octets)
    carried = b"".join(frame[3] for frame in sent_by(side))
    while taken < len(octets):
        taken += side.connection.send_data(stream, octets[taken:], end_stream=True)
        carried += b"".join(frame[3] for frame in sent_by(side))
    assert carried == octets


def test_a_stream_can_end_however_full_the_buffer_and_the_windows() -> None:
    side, _, stream = requesting(POST, (Setting.INITIAL_WINDOW_SIZE, MAX_WINDOW))
    side.receive_data(window_update(0, MAX_WINDOW - 65535))
    while side.connection.send_data(stream, bytes(1_000_000)):
        pass
    while side.connection.tx.length < 272 * 1024:
        side.connection.send_ping(bytes(8))
    side.connection.commit_data(stream, 0, end_stream=True)
    assert side.data_to_send().endswith(data(1, b"", end_stream=True))
    assert stream.state is StreamState.HALF_CLOSED_LOCAL


def test_data_may_be_received_straight_into_its_frame() -> None:
    side, _, stream = requesting()
    connection = side.connection
    room = connection.data_room(stream)
    assert room == 16384
    connection.tx.payload_view(room)[:5] = b"hello"
    connection.commit_data(stream, 5)
    connection.commit_data(stream, 0, end_stream=True)
    assert side.data_to_send() == data(1, b"hello") + data(1, b"", end_stream=True)
    assert stream.send_window == connection.send_window == 65535 - 5


def test_a_window_goes_below_zero_and_comes_back() -> None:
    """RFC 9113 section 6.9.2: 60 KB sent, then the initial window becomes 16 KB: -44 KB."""
    side, _, stream = requesting(POST, (Setting.INITIAL_WINDOW_SIZE, 61_440))
    side.connection.send_data(stream, bytes(61_440))
    assert stream.send_window == 0
    stream.blocked = True
    assert side.receive_data(settings((Setting.INITIAL_WINDOW_SIZE, 16_384)))[1:] == []
    assert stream.send_window == -45_056
    assert side.receive_data(window_update(1, 45_056)) == []
    assert side.connection.data_room(stream) == 0
    assert side.receive_data(window_update(1, 1)) == [WindowOpened(1)]
    assert side.connection.data_room(stream) == 1


def test_a_raised_initial_window_opens_the_streams_that_wait() -> None:
    side, _ = begun(Role.CLIENT, (Setting.INITIAL_WINDOW_SIZE, 0))
    first, second, third = (side.open_stream(POST) for _ in range(3))
    first.blocked = third.blocked = True
    events = side.receive_data(settings((Setting.INITIAL_WINDOW_SIZE, 10)))
    assert events[1:] == [WindowOpened(first.id), WindowOpened(third.id)]
    assert [stream.send_window for stream in (first, second, third)] == [10, 10, 10]


def test_a_sender_that_waits_for_the_connection_is_told_once() -> None:
    side, _, stream = requesting(POST, (Setting.INITIAL_WINDOW_SIZE, MAX_WINDOW))
    side.connection.send_data(stream, bytes(100_000))
    side.connection.blocked = True
    assert side.receive_data(window_update(0, 5)) == [WindowOpened(0)]
    assert side.receive_data(window_update(0, 5)) == []


def test_a_stream_that_is_gone_waits_for_nothing() -> None:
    side, _ = begun(Role.CLIENT, (Setting.INITIAL_WINDOW_SIZE, 0))
    stream = side.open_stream(POST)
    stream.blocked = True
    side.connection.reset_stream(stream, ErrorCode.CANCEL)
    assert side.receive_data(settings((Setting.INITIAL_WINDOW_SIZE, 10)))[1:] == []


# -- our settings -------------------------------------------------------------------------------


def windows(stream: Stream) -> tuple[int, int]:
    return stream.receive_window, stream.window_size


def test_a_larger_window_of_ours_counts_at_once() -> None:
    side, _, stream = requested()
    side.connection.send_settings({Setting.INITIAL_WINDOW_SIZE: 100_000})
    assert windows(stream) == (100_000, 100_000)
    side.receive_data(SETTINGS_ACK)
    assert windows(stream) == (100_000, 100_000)


def test_a_smaller_window_of_ours_counts_once_acknowledged() -> None:
    side, peer, stream = requested()
    side.connection.send_settings({Setting.INITIAL_WINDOW_SIZE: 1_000})
    side.receive_data(data(1, bytes(5_000)) + peer.headers(3, POST))
    second = side.connection.streams[3]
    assert windows(second) == (65535, 65535)
    side.receive_data(SETTINGS_ACK)
    assert windows(stream) == (-4_000, 1_000)
    assert windows(second) == (1_000, 1_000)
    assert side.connection.state is ConnectionState.OPEN


def test_a_stream_may_end_while_its_window_is_below_zero() -> None:
    """Section 6.9.1: an empty frame needs no window."""
    side, _, stream = requested()
    side.connection.send_settings({Setting.INITIAL_WINDOW_SIZE: 0})
    side.receive_data(data(1, b"x") + SETTINGS_ACK)
    assert stream.receive_window == -1
    assert side.receive_data(data(1, b"", end_stream=True)) == [DataReceived(1, b"", True)]


def test_a_smaller_window_at_the_start_does_not_bind_the_peer_too_early() -> None:
    side = BufferedConnection(Role.SERVER, settings={Setting.INITIAL_WINDOW_SIZE: 10})
    peer = begun(Role.SERVER)[1]
    side.connection.initiate()
    wire = peer.hello() + peer.headers(1, POST) + data(1, bytes(1000)) + SETTINGS_ACK
    side.receive_data(wire)
    assert side.connection.streams[1].window_size == 10


def test_smaller_then_larger_ends_as_the_larger() -> None:
    side, _, stream = requested()
    side.connection.send_settings({Setting.INITIAL_WINDOW_SIZE: 10})
    side.connection.send_settings({Setting.INITIAL_WINDOW_SIZE: 200_000})
    for _ in range(2):
        side.receive_data(SETTINGS_ACK)
        assert windows(stream) == (200_000, 200_000)


def test_larger_frames_are_taken_once_announced() -> None:
    side, _, stream = requested()
    side.connection.send_settings({Setting.MAX_FRAME_SIZE: 20_000})
    side.receive_data(data(1, bytes(20_000)))
    side.receive_data(SETTINGS_ACK)
    side.connection.send_settings({Setting.MAX_FRAME_SIZE: 16_384})
    side.receive_data(data(1, bytes(20_000)))
    side.receive_data(SETTINGS_ACK)
    assert side.connection.max_frame == 16_384
    assert stream.state is StreamState.OPEN


def test_a_window_that_would_lift_a_grown_one_too_far_is_refused() -> None:
    side, _, stream = requested()
    for _ in range(8):
        side.receive_data(data(1, bytes(16_384)))
    assert stream.window_size > 65535
    side.data_to_send()
    with pytest.raises(LocalProtocolError, match="INITIAL_WINDOW_SIZE"):
        side.connection.send_settings({Setting.INITIAL_WINDOW_SIZE: MAX_WINDOW})
    assert side.data_to_send() == b""


# -- credit -------------------------------------------------------------------------------------


def test_credit_goes_out_half_a_window_at_a_time() -> None:
    side, _, stream = requested()
    side.data_to_send()
    stream.receiver = lambda octets, end_stream: None
    side.connection.limits = Limits(max_window=0)
    side.receive_data(data(1, bytes(16_384)) + data(1, bytes(16_384)))
    side.data_to_send()
    side.connection.consume(stream, 32_766)
    assert side.data_to_send() == b""
    side.connection.consume(stream, 1)
    assert side.data_to_send() == window_update(1, 32_767)


def test_nothing_is_credited_when_nothing_was_consumed() -> None:
    """A window of 0 or 1 octets is "half used" by none; a WINDOW_UPDATE of 0 is an error."""
    side, _ = begun(Role.CLIENT, ours={Setting.INITIAL_WINDOW_SIZE: 0})
    stream = side.open_stream(GET)
    side.data_to_send()
    side.connection.consume(stream, 0)
    assert side.data_to_send() == b""


def test_more_than_came_cannot_be_consumed() -> None:
    side, _, stream = requested()
    side.receive_data(data(1, bytes(10)))
    with pytest.raises(LocalProtocolError, match="more consumed than came"):
        side.connection.consume(stream, 40_000)


def test_a_stream_whose_peer_has_ended_gets_no_credit() -> None:
    side, _, stream = requested()
    stream.receiver = lambda octets, end_stream: None
    side.receive_data(data(1, bytes(16_384)) * 3 + data(1, b"", end_stream=True))
    side.data_to_send()
    side.connection.consume(stream, 3 * 16_384)
    assert side.data_to_send() == b""


def test_a_window_grows_while_its_octets_are_consumed_up_to_its_limit() -> None:
    pair = Pair(receive_window=1 << 22)
    sending, receiving = pair.open()
    sizes = [receiving.window_size]
    for _ in range(1_500):
        pair.client.connection.send_data(sending, bytes(16_384))
        pair.exchange()
        sizes.append(receiving.window_size)
    assert sizes[-1] == pair.server.connection.limits.max_window == 4 << 20
    assert sorted(sizes) == sizes
    grown = [b for a, b in itertools.pairwise(sizes) if a != b]
    assert len(grown) == 7, "doubles from 64 KiB to 4 MiB"
    # Below half of the window credit is still on its way; the sender has the rest.
    assert sending.send_window + receiving.unacked == receiving.window_size


def test_a_stream_that_nobody_reads_does_not_grow() -> None:
    pair = Pair()
    sending, receiving = pair.open()
    receiving.receiver = lambda octets, end_stream: None
    assert pair.client.connection.send_data(sending, bytes(100_000)) == 65535
    pair.exchange()
    assert windows(receiving) == (0, 65535)
    assert pair.client.connection.send_data(sending, bytes(1)) == 0
