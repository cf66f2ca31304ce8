import pytest

from frames import BufferedConnection, DataReceived, RemoteProtocolError, RequestReceived, Role
from tests.frames.peer import GET, OK, POST, Pair, begun, data, window_update


def test_events_come_in_order_with_octets_among_them() -> None:
    pair = Pair()
    stream = pair.client.open_stream(POST)
    pair.client.connection.send_data(stream, b"question", end_stream=True)
    pair.exchange()
    assert pair.server_events == [
        RequestReceived(1, POST, False),
        DataReceived(1, b"question", True),
    ]
    answering = pair.server.connection.streams[1]
    pair.server.connection.send_headers(answering, OK)
    pair.server.connection.send_data(answering, b"answer", end_stream=True)
    pair.exchange()
    assert pair.client_events[-1] == DataReceived(1, b"answer", True)


def test_octets_count_as_consumed_once_they_are_an_event() -> None:
    side, peer = begun(Role.SERVER)
    side.receive_data(peer.headers(1, POST) + data(1, bytes(16_000)) * 2)
    assert side.connection.streams[1].unacked == 2 * 16_000
    side.receive_data(data(1, bytes(16_000)))
    assert side.connection.streams[1].unacked == 0


def test_events_before_an_error_can_still_be_taken() -> None:
    side, peer = begun(Role.SERVER)
    with pytest.raises(RemoteProtocolError):
        side.receive_data(peer.headers(1, GET, end_stream=True) + window_update(0, 0))
    assert side.take_events() == [RequestReceived(1, GET, True)]
    assert side.take_events() == []


def test_half_a_frame_is_kept_for_the_next_call() -> None:
    side, peer = begun(Role.SERVER)
    wire = peer.headers(1, GET, end_stream=True)
    assert side.receive_data(wire[:-1]) == []
    assert side.receive_data(wire[-1:]) == [RequestReceived(1, GET, True)]


def test_octets_are_sent_once() -> None:
    side = BufferedConnection(Role.CLIENT)
    side.connection.initiate()
    assert side.data_to_send() != b""
    assert side.data_to_send() == b""
