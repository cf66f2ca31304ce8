"""What we say: each call writes its frames, or raises and leaves no trace."""

from collections.abc import Callable

import pytest

from frames import (
    BufferedConnection,
    ConnectionState,
    ErrorCode,
    Headers,
    Limits,
    LocalProtocolError,
    Role,
    Setting,
    Stream,
    StreamState,
)
from frames.frame import PREFACE, Flag, FrameType
from tests.frames.peer import (
    CONNECT,
    EXTENDED,
    GET,
    HEAD,
    OK,
    POST,
    TRAILERS,
    begun,
    data,
    frames_in,
    goaway,
    requested,
    requesting,
    reset,
    sent_by,
    settings,
    window_update,
)

# -- the start ----------------------------------------------------------------------------------


def test_a_client_says_preface_settings_and_its_window() -> None:
    side = BufferedConnection(
        Role.CLIENT, settings={Setting.INITIAL_WINDOW_SIZE: 100_000}, receive_window=1_000_000
    )
    side.connection.initiate()
    octets = side.data_to_send()
    assert octets.startswith(PREFACE)
    assert octets[len(PREFACE) :] == (
        settings((6, 32768), (2, 0), (4, 100_000)) + window_update(0, 1_000_000 - 65535)
    )


def test_a_server_says_settings_at_once_and_how_many_streams() -> None:
    side = BufferedConnection(Role.SERVER, limits=Limits(max_concurrent_streams=7))
    side.connection.initiate()
    assert side.data_to_send() == settings((6, 32768), (3, 7))


@pytest.mark.parametrize("code", [Setting.ENABLE_PUSH, Setting.MAX_CONCURRENT_STREAMS])
def test_settings_that_limits_give_are_not_given_twice(code: Setting) -> None:
    with pytest.raises(LocalProtocolError, match=code.name):
        BufferedConnection(Role.SERVER, settings={code: 0})


def test_a_window_has_31_bits() -> None:
    with pytest.raises(LocalProtocolError, match="2147483647"):
        BufferedConnection(Role.SERVER, receive_window=1 << 31)


# -- streams ------------------------------------------------------------------------------------


def test_a_request_without_a_body_ends_its_side() -> None:
    side, peer = begun(Role.CLIENT)
    stream = side.open_stream(GET, end_stream=True)
    ((kind, flags, stream_id, block),) = sent_by(side)
    assert (kind, flags, stream_id) == (FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, 1)
    assert peer.decode(block) == GET
    assert stream.state is StreamState.HALF_CLOSED_LOCAL


def test_streams_of_a_client_are_odd_and_go_up() -> None:
    side, _ = begun(Role.CLIENT)
    assert [side.open_stream(GET).id for _ in range(4)] == [1, 3, 5, 7]


def test_a_server_opens_no_streams() -> None:
    side, _ = begun(Role.SERVER)
    with pytest.raises(LocalProtocolError, match="no push"):
        side.open_stream(GET)


def test_the_peers_limit_of_streams_is_kept() -> None:
    side, peer = begun(Role.CLIENT, (Setting.MAX_CONCURRENT_STREAMS, 2))
    connection = side.connection
    side.open_stream(GET)
    side.open_stream(GET, end_stream=True)
    assert not connection.can_open
    with pytest.raises(LocalProtocolError):
        side.open_stream(GET)
    side.receive_data(peer.headers(3, OK, end_stream=True))
    assert connection.can_open


def test_ids_that_are_used_up_open_no_more() -> None:
    side, _ = begun(Role.CLIENT)
    side.connection._ids._next = 2**31 - 1
    assert side.open_stream(GET).id == 2**31 - 1
    assert not side.connection.can_open
    with pytest.raises(LocalProtocolError):
        side.open_stream(GET)


def test_a_response_body_and_trailers_go_out_in_order() -> None:
    side, peer, stream = requested(GET, end_stream=True)
    side.connection.send_headers(stream, [(b":status", b"103")])
    side.connection.send_headers(stream, OK)
    side.connection.send_data(stream, b"body")
    side.connection.send_headers(stream, TRAILERS, end_stream=True)
    early, head, body, trailers = sent_by(side)
    assert peer.decode(early[3]) == [(b":status", b"103")]
    assert peer.decode(head[3]) == OK
    assert body == (FrameType.DATA, 0, 1, b"body")
    assert trailers[:2] == (FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM)
    assert peer.decode(trailers[3]) == TRAILERS
    assert not side.connection.streams


def test_long_header_sections_take_continuations() -> None:
    side, peer, stream = requested(GET, end_stream=True)
    headers = [*OK, *((b"x-%d" % n, b"\xff" * 1000) for n in range(30))]
    side.connection.send_headers(stream, headers, end_stream=True)
    frames = sent_by(side)
    assert [frame[0] for frame in frames[:2]] == [FrameType.HEADERS, FrameType.CONTINUATION]
    assert [frame[1] & Flag.END_HEADERS for frame in frames] == [0] * (len(frames) - 1) + [4]
    assert all(len(frame[3]) <= 16384 for frame in frames)
    assert peer.decode(b"".join(frame[3] for frame in frames)) == headers


Call = Callable[[BufferedConnection, Stream], object]


def headers_call(headers: Headers, *, end_stream: bool = False) -> Call:
    return lambda side, stream: side.connection.send_headers(stream, headers, end_stream=end_stream)


REFUSED_BEFORE_THE_HEAD: dict[str, Call] = {
    "DATA": lambda side, stream: side.connection.send_data(stream, b"x"),
    "END_STREAM": lambda side, stream: side.connection.commit_data(stream, 0, end_stream=True),
    "trailers": headers_call(TRAILERS, end_stream=True),
    "a request": headers_call(GET),
    "1xx as the end": headers_call([(b":status", b"100")], end_stream=True),
    "101": headers_call([(b":status", b"101")]),
    "upper case": headers_call([*OK, (b"X-Up", b"1")]),
    "line feed": headers_call([*OK, (b"x", b"1\n2")]),
    "connection-specific": headers_call([*OK, (b"transfer-encoding", b"chunked")]),
    "a ping of 7 octets": lambda side, stream: side.connection.send_ping(bytes(7)),
    "a bad setting": lambda side, stream: side.connection.send_settings({5: 1}),
}


@pytest.mark.parametrize("call", REFUSED_BEFORE_THE_HEAD.values(), ids=REFUSED_BEFORE_THE_HEAD)
def test_a_refused_call_leaves_no_trace(call: Call) -> None:
    side, peer, stream = requested()
    side.data_to_send()
    with pytest.raises(LocalProtocolError):
        call(side, stream)
    assert side.data_to_send() == b""
    side.connection.send_headers(stream, OK, end_stream=True)
    ((_, _, _, block),) = sent_by(side)
    assert peer.decode(block) == OK
    assert side.connection.send_window == stream.send_window == 65535


REFUSED_AFTER_THE_HEAD: dict[str, Call] = {
    "a second response": headers_call(OK),
    "trailers that do not end": headers_call(TRAILERS),
    "1xx": headers_call([(b":status", b"100")]),
}


@pytest.mark.parametrize("call", REFUSED_AFTER_THE_HEAD.values(), ids=REFUSED_AFTER_THE_HEAD)
def test_only_trailers_follow_a_response(call: Call) -> None:
    side, _, stream = requested()
    side.connection.send_headers(stream, OK)
    side.data_to_send()
    with pytest.raises(LocalProtocolError):
        call(side, stream)
    assert side.data_to_send() == b""


REFUSED_AFTER_THE_END: dict[str, Call] = {
    "DATA": lambda side, stream: side.connection.send_data(stream, b"x"),
    "END_STREAM": lambda side, stream: side.connection.commit_data(stream, 0, end_stream=True),
    "trailers": headers_call(TRAILERS, end_stream=True),
}


@pytest.mark.parametrize("call", REFUSED_AFTER_THE_END.values(), ids=REFUSED_AFTER_THE_END)
@pytest.mark.parametrize("how", ["ended", "reset by us", "reset by the peer", "closed"])
def test_nothing_follows_the_end(call: Call, how: str) -> None:
    side, _, stream = requested()
    side.connection.send_headers(stream, OK, end_stream=how == "ended")
    if how == "reset by us":
        side.connection.reset_stream(stream, ErrorCode.CANCEL)
    elif how == "reset by the peer":
        side.receive_data(reset(1))
    elif how == "closed":
        side.connection.close()
    side.data_to_send()
    assert how == "ended" or not side.connection.data_room(stream)
    with pytest.raises(LocalProtocolError):
        call(side, stream)
    assert side.data_to_send() == b""


@pytest.mark.parametrize(
    "headers", [[], GET[1:], OK, [*GET, (b"Upper", b"x")], [(b":method", b"CONNECT")], EXTENDED]
)
def test_a_request_that_servers_refuse_is_not_sent(headers: Headers) -> None:
    side, peer = begun(Role.CLIENT)
    with pytest.raises(LocalProtocolError):
        side.open_stream(headers)
    assert side.data_to_send() == b""
    assert side.open_stream(GET).id == 1
    assert peer.decode(sent_by(side)[0][3]) == GET


def test_extended_connect_goes_to_who_announced_it() -> None:
    side, _ = begun(Role.CLIENT, (Setting.ENABLE_CONNECT_PROTOCOL, 1))
    assert side.open_stream(EXTENDED).is_connect


def test_a_header_list_that_the_peer_does_not_take_is_not_sent() -> None:
    side, _ = begun(Role.CLIENT, (Setting.MAX_HEADER_LIST_SIZE, 200))
    with pytest.raises(LocalProtocolError, match="the peer takes 200"):
        side.open_stream([*GET, (b"x", bytes(200).replace(b"\0", b"v"))])
    assert side.data_to_send() == b""


def test_no_trailers_follow_a_tunnel() -> None:
    side, _, stream = requested(CONNECT)
    side.connection.send_headers(stream, OK)
    with pytest.raises(LocalProtocolError, match="CONNECT"):
        side.connection.send_headers(stream, TRAILERS, end_stream=True)


def test_trailers_may_follow_the_refusal_of_a_tunnel() -> None:
    side, _, stream = requested(CONNECT)
    side.connection.send_headers(stream, [(b":status", b"502")])
    side.connection.send_headers(stream, TRAILERS, end_stream=True)
    assert stream.state is StreamState.HALF_CLOSED_LOCAL


def test_a_reset_goes_out_once() -> None:
    side, _, stream = requested()
    side.connection.reset_stream(stream, ErrorCode.CONNECT_ERROR)
    side.connection.reset_stream(stream, ErrorCode.CANCEL)
    assert side.data_to_send() == reset(1, ErrorCode.CONNECT_ERROR)
    assert stream.receiver is None


# -- PING, GOAWAY, close ------------------------------------------------------------------------


def test_drain_then_goaway_names_all_streams_then_the_last_one() -> None:
    side, peer, _ = requested()
    side.data_to_send()
    side.connection.drain()
    side.connection.drain()
    assert side.data_to_send() == goaway(2**31 - 1)
    side.receive_data(peer.headers(3, POST))
    assert 3 in side.connection.streams
    side.connection.send_goaway()
    assert side.data_to_send() == goaway(3)
    side.receive_data(peer.headers(5, POST) + data(5, b"ignored"))
    assert 5 not in side.connection.streams
    side.connection.send_goaway(ErrorCode.INTERNAL_ERROR)
    assert side.data_to_send() == goaway(3, ErrorCode.INTERNAL_ERROR), "the id must not go up"


def test_a_goaway_cannot_be_taken_back_by_a_drain() -> None:
    side, _, _ = requested()
    side.connection.send_goaway()
    side.data_to_send()
    side.connection.drain()
    assert side.data_to_send() == b""


def test_a_server_can_drain_after_its_client_said_goaway() -> None:
    side, _, _ = requested()
    side.receive_data(goaway(0))
    side.data_to_send()
    side.connection.drain()
    assert side.data_to_send() == goaway(2**31 - 1)


def test_a_draining_client_opens_nothing_and_finishes_what_is_open() -> None:
    side, peer, stream = requesting()
    side.connection.drain()
    assert not side.connection.can_open
    assert not side.connection.drained
    with pytest.raises(LocalProtocolError, match="draining"):
        side.open_stream(GET)
    side.connection.send_data(stream, b"still", end_stream=True)
    side.receive_data(peer.headers(1, OK, end_stream=True))
    assert side.connection.drained


CLOSERS: dict[str, Callable[[BufferedConnection], None]] = {
    "close": lambda side: side.connection.close(),
    "GOAWAY": lambda side: side.connection.send_goaway(ErrorCode.INTERNAL_ERROR),
}


@pytest.mark.parametrize("close", CLOSERS.values(), ids=CLOSERS)
def test_closing_ends_every_stream_and_says_nothing_more(
    close: Callable[[BufferedConnection], None],
) -> None:
    side, peer, stream = requested()
    side.receive_data(peer.headers(3, POST))
    close(side)
    side.data_to_send()
    connection = side.connection
    assert connection.state is ConnectionState.CLOSED
    assert connection.drained
    assert stream.state is StreamState.CLOSED
    connection.reset_stream(stream, ErrorCode.CANCEL)
    connection.consume(stream, 100)
    connection.send_goaway()
    connection.drain()
    close(side)
    with pytest.raises(LocalProtocolError, match="closed"):
        connection.send_ping(bytes(8))
    with pytest.raises(LocalProtocolError, match="closed"):
        connection.send_settings({})
    with pytest.raises(LocalProtocolError, match="closed"):
        connection.send_headers(stream, OK)
    assert side.data_to_send() == b""
    assert side.receive_data(peer.headers(5, GET) + b"garbage") == []


def test_closing_gives_the_buffer_back() -> None:
    side, _, _ = requested()
    side.connection.send_ping(bytes(8))
    side.connection.close()
    assert side.connection.tx._buffer is None


def test_a_head_request_is_remembered_for_its_response() -> None:
    side, peer, _ = requesting(HEAD, end_stream=True)
    side.receive_data(peer.headers(1, [*OK, (b"content-length", b"5")], end_stream=True))
    assert frames_in(side.data_to_send()) == []
