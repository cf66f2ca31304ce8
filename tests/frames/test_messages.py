"""Requests, responses and trailers: what comes in header blocks (RFC 9113 section 8)."""

from collections.abc import Callable

import pytest

from frames import (
    ErrorCode,
    Headers,
    InformationalReceived,
    Limits,
    RequestReceived,
    ResponseReceived,
    Role,
    Setting,
    StreamReset,
    StreamState,
    TrailersReceived,
)
from frames.frame import Flag, FrameType, serialize
from tests.frames.peer import (
    CONNECT,
    EXTENDED,
    GET,
    HEAD,
    OK,
    POST,
    TRAILERS,
    Peer,
    begun,
    breaks,
    data,
    requested,
    requesting,
    reset,
)

# -- requests -----------------------------------------------------------------------------------


def test_a_request_is_an_event_and_a_stream() -> None:
    side, peer = begun(Role.SERVER)
    assert side.receive_data(peer.headers(1, POST)) == [RequestReceived(1, POST, False)]
    assert side.connection.streams[1].state is StreamState.OPEN


def test_a_request_without_a_body_half_closes_its_stream() -> None:
    side, peer = begun(Role.SERVER)
    events = side.receive_data(peer.headers(1, GET, end_stream=True))
    assert events == [RequestReceived(1, GET, True)]
    assert side.connection.streams[1].state is StreamState.HALF_CLOSED_REMOTE


def test_trailers_end_the_request() -> None:
    side, peer, stream = requested()
    events = side.receive_data(data(1, b"x") + peer.headers(1, TRAILERS, end_stream=True))
    assert events[1:] == [TrailersReceived(1, TRAILERS)]
    assert stream.state is StreamState.HALF_CLOSED_REMOTE


def test_a_header_block_may_come_in_pieces() -> None:
    side, peer = begun(Role.SERVER)
    block = peer.encoder.encode(POST)
    wire = serialize(FrameType.HEADERS, Flag.END_STREAM, 1, block[:3])
    wire += serialize(FrameType.CONTINUATION, 0, 1, block[3:5])
    wire += serialize(FrameType.CONTINUATION, Flag.END_HEADERS, 1, block[5:])
    assert side.receive_data(wire) == [RequestReceived(1, POST, True)]


def test_padding_and_priority_come_off_a_header_block() -> None:
    side, peer = begun(Role.SERVER)
    block = peer.encoder.encode(POST)
    payload = b"\x07" + bytes.fromhex("80000003 10") + block + bytes(7)
    flags = Flag.END_HEADERS | Flag.PADDED | Flag.PRIORITY
    wire = serialize(FrameType.HEADERS, flags, 1, payload)
    assert side.receive_data(wire) == [RequestReceived(1, POST, False)]


def test_a_connect_request_is_a_tunnel() -> None:
    side, peer = begun(Role.SERVER)
    headers = [*CONNECT, (b"content-length", b"5")]
    assert side.receive_data(peer.headers(1, headers)) == [RequestReceived(1, headers, False)]
    stream = side.connection.streams[1]
    assert stream.is_connect
    assert stream.body_left is None, "section 8.5: content-length means nothing in a tunnel"


def test_extended_connect_comes_where_it_was_announced() -> None:
    side, peer = begun(Role.SERVER, ours={Setting.ENABLE_CONNECT_PROTOCOL: 1})
    assert side.receive_data(peer.headers(1, EXTENDED)) == [RequestReceived(1, EXTENDED, False)]
    assert side.connection.streams[1].is_connect


def test_extended_connect_is_refused_elsewhere() -> None:
    side, peer = begun(Role.SERVER)
    assert side.receive_data(peer.headers(1, EXTENDED)) == []
    assert side.data_to_send() == reset(1, ErrorCode.PROTOCOL_ERROR)


def test_trailers_in_a_tunnel_break_its_stream() -> None:
    side, peer, _ = requested(CONNECT)
    (event,) = side.receive_data(peer.headers(1, TRAILERS, end_stream=True))
    assert isinstance(event, StreamReset)
    assert (event.stream_id, event.code, event.by_peer) == (1, ErrorCode.PROTOCOL_ERROR, False)


def test_a_malformed_request_is_reset_and_the_others_go_on() -> None:
    side, peer = begun(Role.SERVER)
    wire = peer.headers(1, GET[1:]) + peer.headers(3, GET, end_stream=True)
    assert side.receive_data(wire) == [RequestReceived(3, GET, True)]
    assert side.data_to_send() == reset(1, ErrorCode.PROTOCOL_ERROR)
    assert side.receive_data(data(1, b"what crossed the reset") + reset(1)) == []
    assert side.data_to_send() == b""


@pytest.mark.parametrize("length", [b"5", b"x"])
def test_a_request_whose_body_cannot_fit_never_becomes_a_stream(length: bytes) -> None:
    side, peer = begun(Role.SERVER)
    headers = [*POST, (b"content-length", length)]
    assert side.receive_data(peer.headers(1, headers, end_stream=True)) == []
    assert side.data_to_send() == reset(1, ErrorCode.PROTOCOL_ERROR)
    assert not side.connection.streams


def test_streams_over_the_limit_are_refused_and_may_be_tried_again() -> None:
    side, peer = begun(Role.SERVER, limits=Limits(max_concurrent_streams=2))
    wire = b"".join(peer.headers(stream_id, POST) for stream_id in (1, 3, 5))
    assert [event.stream_id for event in side.receive_data(wire) if isinstance(event, RequestReceived)] == [1, 3]  # fmt: skip  # noqa: E501
    assert side.data_to_send() == reset(5, ErrorCode.REFUSED_STREAM)
    side.receive_data(reset(1))
    assert side.receive_data(peer.headers(7, POST)) == [RequestReceived(7, POST, False)]


def test_headers_after_the_end_break_the_stream_while_it_is_half_closed() -> None:
    side, peer, _ = requested(GET, end_stream=True)
    (event,) = side.receive_data(peer.headers(1, TRAILERS, end_stream=True))
    assert isinstance(event, StreamReset)
    assert event.code == ErrorCode.STREAM_CLOSED


def test_headers_that_cross_our_reset_are_decoded_and_ignored() -> None:
    side, peer, stream = requested()
    side.connection.reset_stream(stream, ErrorCode.CANCEL)
    side.data_to_send()
    custom = [(b"x-new", b"goes into the table")]
    assert side.receive_data(peer.headers(1, custom, end_stream=True)) == []
    headers = [*GET, *custom]
    assert side.receive_data(peer.headers(3, headers)) == [RequestReceived(3, headers, False)]


# -- responses ----------------------------------------------------------------------------------


def test_a_response_with_all_its_parts() -> None:
    side, peer, stream = requesting(GET, end_stream=True)
    hints = [(b":status", b"103"), (b"link", b"</style.css>")]
    assert side.receive_data(peer.headers(1, hints)) == [InformationalReceived(1, hints)]
    assert side.receive_data(peer.headers(1, OK)) == [ResponseReceived(1, OK, False)]
    side.receive_data(data(1, b"body"))
    wire = peer.headers(1, TRAILERS, end_stream=True)
    assert side.receive_data(wire) == [TrailersReceived(1, TRAILERS)]
    assert stream.state is StreamState.CLOSED
    assert not side.connection.streams


def test_a_response_of_one_frame_may_come_before_the_request_has_ended() -> None:
    """gRPC's Trailers-Only, and then RST_STREAM(NO_ERROR) (RFC 9113 section 8.1)."""
    side, peer, stream = requesting()
    wire = peer.headers(1, OK, end_stream=True)
    assert side.receive_data(wire) == [ResponseReceived(1, OK, True)]
    assert stream.can_send
    assert side.receive_data(reset(1)) == [StreamReset(1, ErrorCode.NO_ERROR, by_peer=True)]
    assert not stream.can_send
    assert side.receive_data(reset(1)) == []


@pytest.mark.parametrize("end_stream", [False, True])
def test_the_response_to_head_has_no_body_whatever_its_length(end_stream: bool) -> None:
    side, peer, _ = requesting(HEAD, end_stream=True)
    headers = [*OK, (b"content-length", b"1000")]
    wire = peer.headers(1, headers, end_stream=end_stream)
    assert side.receive_data(wire) == [ResponseReceived(1, headers, end_stream)]
    if not end_stream:
        side.receive_data(data(1, b"", end_stream=True))
    assert side.data_to_send() == b""
    assert not side.connection.streams


def test_the_success_of_connect_is_a_tunnel_whatever_its_length() -> None:
    side, peer, stream = requesting(CONNECT)
    side.receive_data(peer.headers(1, [*OK, (b"content-length", b"0")]))
    assert stream.is_connect
    assert side.receive_data(data(1, b"octets")) != []
    assert stream.state is StreamState.OPEN


def test_the_failure_of_connect_is_a_response_like_any_other() -> None:
    side, peer, stream = requesting(CONNECT)
    side.receive_data(peer.headers(1, [(b":status", b"502"), (b"content-length", b"3")]))
    assert not stream.is_connect
    side.receive_data(data(1, b"why"))
    wire = peer.headers(1, TRAILERS, end_stream=True)
    assert side.receive_data(wire) == [TrailersReceived(1, TRAILERS)]


Wire = Callable[[Peer], bytes]

BAD_RESPONSES: dict[str, tuple[Headers, Wire]] = {
    "DATA before HEADERS": (POST, lambda peer: data(1, b"x")),
    "no status": (POST, lambda peer: peer.headers(1, [(b"server", b"x")])),
    "101": (POST, lambda peer: peer.headers(1, [(b":status", b"101")])),
    "1xx ends it": (POST, lambda peer: peer.headers(1, [(b":status", b"100")], end_stream=True)),
    "second response": (POST, lambda peer: peer.headers(1, OK) + peer.headers(1, OK)),
    "1xx after the response": (
        POST,
        lambda peer: peer.headers(1, OK) + peer.headers(1, [(b":status", b"100")]),
    ),
    "trailers with a status": (
        POST,
        lambda peer: peer.headers(1, OK) + peer.headers(1, OK, end_stream=True),
    ),
    "body of HEAD": (HEAD, lambda peer: peer.headers(1, OK) + data(1, b"x")),
    "body of 204": (GET, lambda peer: peer.headers(1, [(b":status", b"204")]) + data(1, b"x")),
    "body too long": (
        GET,
        lambda peer: peer.headers(1, [*OK, (b"content-length", b"1")]) + data(1, b"xy"),
    ),
    "body too short": (
        GET,
        lambda peer: (
            peer.headers(1, [*OK, (b"content-length", b"2")]) + data(1, b"x", end_stream=True)
        ),
    ),
    "body cut short by trailers": (
        GET,
        lambda peer: (
            peer.headers(1, [*OK, (b"content-length", b"2")])
            + peer.headers(1, TRAILERS, end_stream=True)
        ),
    ),
    "no body": (
        GET,
        lambda peer: peer.headers(1, [*OK, (b"content-length", b"2")], end_stream=True),
    ),
    "trailers in a tunnel": (
        CONNECT,
        lambda peer: peer.headers(1, OK) + peer.headers(1, TRAILERS, end_stream=True),
    ),
}


@pytest.mark.parametrize(("request_", "wire"), BAD_RESPONSES.values(), ids=BAD_RESPONSES)
def test_a_bad_response_breaks_its_stream_alone(request_: Headers, wire: Wire) -> None:
    side, peer, stream = requesting(request_)
    other = side.open_stream(GET, end_stream=True)
    side.data_to_send()
    last = side.receive_data(wire(peer))[-1]
    assert isinstance(last, StreamReset)
    assert (last.stream_id, last.by_peer) == (1, False)
    assert last.code == ErrorCode.PROTOCOL_ERROR
    assert last.reason
    assert side.data_to_send() == reset(1, ErrorCode.PROTOCOL_ERROR)
    assert stream.state is StreamState.CLOSED
    assert side.receive_data(peer.headers(other.id, OK)) == [ResponseReceived(3, OK, False)]


def test_a_server_opens_no_streams_towards_us() -> None:
    side, peer, _ = requesting()
    assert breaks(side, peer.headers(2, OK)) is ErrorCode.PROTOCOL_ERROR


def test_headers_on_a_stream_we_never_opened_break_the_connection() -> None:
    side, peer, _ = requesting()
    assert breaks(side, peer.headers(3, OK)) is ErrorCode.PROTOCOL_ERROR
