"""Draining, by the peer and by us (RFC 9113 section 6.8)."""

from frames import (
    ConnectionState,
    ErrorCode,
    GoAwayReceived,
    Limits,
    RequestReceived,
    Role,
    StreamReset,
    StreamState,
    TrailersReceived,
)
from frames.frame import FrameType
from tests.frames.peer import (
    GET,
    OK,
    POST,
    TRAILERS,
    begun,
    data,
    goaway,
    ping,
    requested,
    requesting,
    reset,
    sent_by,
    window_update,
)

# -- GOAWAY -------------------------------------------------------------------------------------


def test_a_goaway_lets_open_streams_finish_and_refuses_the_rest() -> None:
    side, peer = begun(Role.CLIENT)
    first, second, third = (side.open_stream(POST) for _ in range(3))
    events = side.receive_data(goaway(3, ErrorCode.NO_ERROR, b"max_age"))
    assert events == [
        GoAwayReceived(3, 0, b"max_age"),
        StreamReset(5, ErrorCode.REFUSED_STREAM, by_peer=True),
    ]
    assert third.state is StreamState.CLOSED
    assert not side.connection.can_open
    for stream in (first, second):
        assert not side.connection.drained
        side.connection.send_data(stream, b"the rest", end_stream=True)
        octets = data(stream.id, b"x" * 100)
        wire = peer.headers(stream.id, OK) + octets + peer.headers(stream.id, TRAILERS, end_stream=True)  # fmt: skip  # noqa: E501
        assert side.receive_data(wire)[-1] == TrailersReceived(stream.id, TRAILERS)
    assert side.connection.drained
    assert side.connection.state is ConnectionState.DRAINING


def test_a_drain_of_two_steps_loses_nothing() -> None:
    """grpc-go: GOAWAY(2^31-1) and a PING; after its answer GOAWAY(last)."""
    side, peer, stream = requesting()
    assert side.receive_data(goaway(2**31 - 1) + ping(b"\x01\x06\x01\x08\x00\x03\x03\x09")) == [
        GoAwayReceived(2**31 - 1, 0, b"")
    ]
    assert side.data_to_send() == ping(b"\x01\x06\x01\x08\x00\x03\x03\x09", ack=True)
    assert side.receive_data(goaway(1)) == [GoAwayReceived(1, 0, b"")]
    assert stream.state is StreamState.OPEN
    side.connection.send_data(stream, b"x", end_stream=True)
    side.receive_data(peer.headers(1, OK, end_stream=True))
    assert side.connection.drained


def test_what_comes_on_a_refused_stream_is_ignored() -> None:
    side, peer, _ = requesting()
    side.receive_data(goaway(0))
    wire = peer.headers(1, OK) + data(1, b"late") + window_update(1, 1) + reset(1)
    assert side.receive_data(wire) == []


def test_a_server_whose_client_goes_away_finishes_its_requests() -> None:
    """A Go client names its own highest id, which means nothing here."""
    side, peer, stream = requested()
    events = side.receive_data(goaway(1, 0, b"client transport shutdown") + peer.headers(3, GET))
    assert events[0] == GoAwayReceived(1, 0, b"client transport shutdown")
    assert isinstance(events[1], RequestReceived)
    side.connection.send_headers(stream, OK, end_stream=True)
    assert not side.connection.drained


def test_the_text_of_a_goaway_is_kept_in_part() -> None:
    side, _ = begun(Role.SERVER, limits=Limits(max_debug_data=5))
    assert side.receive_data(goaway(0, 2, b"x" * 16_000)) == [GoAwayReceived(0, 2, b"xxxxx")]


def test_requests_after_our_last_goaway_are_ignored() -> None:
    side, peer, _ = requested()
    side.connection.send_goaway()
    side.data_to_send()
    custom = [*POST, (b"x-new", b"goes into the table")]
    wire = peer.headers(3, custom) + data(3, bytes(16_384)) + reset(3) + window_update(3, 1)
    assert side.receive_data(wire) == []
    assert side.receive_data(peer.headers(5, custom) + data(5, bytes(16_384))) == []
    assert sent_by(side) == [(FrameType.WINDOW_UPDATE, 0, 0, (32_768).to_bytes(4))], (
        "what nobody wants is credited to the connection all the same"
    )
    assert side.connection.streams.keys() == {1}
