"""Unary gRPC calls against `h2` in memory: statuses, framing, flow control, drain, garbage."""

import itertools
import struct

import h2.errors
import h2.events
import h2.settings
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tunneld.endpoints.grpc_client import Client, framed
from tunneld.endpoints.grpc import (
    MAX_HELD,
    MAX_MESSAGE,
    GrpcConnection,
    GrpcError,
    Status,
    percent_encode,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def fails(request: bytes) -> bytes:
    raise GrpcError(Status.INVALID_ARGUMENT, "100% wrong: ä\n")


def server() -> GrpcConnection:
    return GrpcConnection(
        {
            "/test.Service/Echo": bytes,
            "/test.Service/Repeat": lambda request: request * 1000,
            "/test.Service/Fails": fails,
        }
    )


@pytest.fixture
def client() -> Client:
    return Client(server())


def test_unary_call_is_answered_by_head_message_and_trailers(client: Client) -> None:
    reply = client.call(framed(b"hi"))
    assert reply.head == {":status": "200", "content-type": "application/grpc"}
    assert reply.body == framed(b"hi")
    assert reply.trailers == {"grpc-status": "0", "grpc-message": ""}
    assert reply.ended
    assert reply.reset is None


def test_settings_are_sent_before_anything_is_received() -> None:
    # RFC 9113 section 3.4: a server's preface is a SETTINGS frame (type 4, stream 0).
    assert server().data_to_send()[3:9] == b"\x04\x00\x00\x00\x00\x00"


def test_empty_message_is_a_message(client: Client) -> None:
    assert client.call(framed(b"")).body == framed(b"")


@given(st.binary(max_size=100), st.lists(st.integers(0, 100), max_size=5))
def test_request_may_be_cut_anywhere(message: bytes, cuts: list[int]) -> None:
    client = Client(server())
    stream_id = client.open()
    body = framed(message)
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    for start, end in itertools.pairwise(edges):
        client.h2.send_data(stream_id, body[start:end], pad_length=start % 7)
        client.exchange()
    client.send(stream_id, b"")
    assert client.replies[stream_id].body == body


@pytest.mark.parametrize(
    ("sent", "returned"),
    [
        ("application/grpc", "application/grpc"),
        ("application/grpc+proto", "application/grpc+proto"),
        ("Application/GRPC+Proto;charset=utf-8", "application/grpc+proto"),
    ],
)
def test_content_type_comes_back_with_its_subtype(client: Client, sent: str, returned: str) -> None:
    assert client.call(framed(b""), {"content-type": sent}).head["content-type"] == returned


@pytest.mark.parametrize(
    ("headers", "http_status", "grpc_status", "message"),
    [
        ({"content-type": "application/json"}, "415", 3, "content-type is not application/grpc"),
        ({"content-type": "application/grpcx"}, "415", 3, "content-type is not application/grpc"),
        ({"content-type": ""}, "415", 3, "content-type is not application/grpc"),
        ({":method": "GET"}, "405", 13, "the method of a gRPC call is POST"),
        ({":path": "/other.Service/X"}, "200", 12, "no service 'other.Service' here"),
        ({":path": "/test.Service/X"}, "200", 12, "service test.Service has no method 'X'"),
        ({":path": "/"}, "200", 12, "malformed method name: '/'"),
        ({":path": "*"}, "200", 12, "malformed method name: '*'"),
    ],
)
def test_call_that_cannot_be_is_refused_by_its_head_alone(
    client: Client, headers: dict[str, str], http_status: str, grpc_status: int, message: str
) -> None:
    stream_id = client.open(headers)
    client.exchange()
    reply = client.replies[stream_id]
    assert reply.head[":status"] == http_status
    assert (reply.status, reply.message) == (grpc_status, message)
    assert reply.trailers == {}
    assert reply.ended
    assert reply.reset == h2.errors.ErrorCodes.NO_ERROR


def test_refusal_of_a_complete_request_needs_no_reset(client: Client) -> None:
    stream_id = client.open({":path": "/other.Service/X"}, end_stream=True)
    client.exchange()
    assert client.replies[stream_id].status == 12
    assert client.replies[stream_id].reset is None


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"", {}, 13, "the request ended before its message"),
        (b"\x00\x00", {}, 13, "the request ended before its message"),
        (framed(b"abc")[:-1], {}, 13, "the request ended amid its message"),
        (framed(b"a") * 2, {}, 13, "more than one message in a unary request"),
        (framed(b"a", 2), {}, 13, "message with flag 2, expected 0 or 1"),
        (framed(b"a", 1), {}, 13, "compressed message without grpc-encoding"),
        (framed(b"a", 1), {"grpc-encoding": "identity"}, 13, "compressed message without"),
        (framed(b"a", 1), {"grpc-encoding": "gzip"}, 12, "no decompressor for grpc-encoding"),
        (struct.pack(">BI", 0, MAX_MESSAGE + 1), {}, 8, "message of 4194305 octets, limit"),
    ],
)
def test_bad_message_has_its_status(
    client: Client, body: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    reply = client.call(body, headers)
    assert reply.status == status
    assert reply.message.startswith(message)


def test_declared_encoding_without_compressed_message_is_fine(client: Client) -> None:
    assert client.call(framed(b"x"), {"grpc-encoding": "gzip"}).status == 0


def test_method_chooses_its_status_and_the_message_is_escaped(client: Client) -> None:
    reply = client.call(framed(b""), {":path": "/test.Service/Fails"})
    assert reply.status == 3
    assert reply.message == "100%25 wrong: %C3%A4%0A"


@given(st.text())
def test_any_status_message_is_printable_ascii(message: str) -> None:
    encoded = percent_encode(message)
    assert all(0x20 <= octet <= 0x7E for octet in encoded)


def test_request_that_ends_with_its_head_has_no_message(client: Client) -> None:
    stream_id = client.open(end_stream=True)
    client.exchange()
    assert client.replies[stream_id].status == 13


def test_many_calls_run_beside_each_other(client: Client) -> None:
    streams = [client.open() for _ in range(100)]
    for stream_id in reversed(streams):
        client.send(stream_id, framed(b"%d" % stream_id))
    assert all(client.replies[each].body == framed(b"%d" % each) for each in streams)


def test_thousand_calls_in_a_row_use_one_connection(client: Client) -> None:
    assert all(client.call(framed(b"x" * 500)).status == 0 for _ in range(1000))


def test_largest_message_passes_whole_both_ways(client: Client) -> None:
    message = bytes(MAX_MESSAGE)
    reply = client.call(framed(message))
    assert reply.body == framed(message)
    assert reply.status == 0


def test_answer_keeps_within_the_stream_window() -> None:
    client = Client(server(), initial_window=10)
    reply = client.call(framed(b"0123456789"))
    assert len(reply.body) == 10
    assert not reply.ended
    client.h2.increment_flow_control_window(3, 1)
    client.exchange()
    assert len(reply.body) == 13
    client.h2.increment_flow_control_window(2, 1)
    client.exchange()
    assert reply.body == framed(b"0123456789")
    assert reply.trailers["grpc-status"] == "0"


def test_answer_keeps_within_the_connection_window(client: Client) -> None:
    client.credits_data = False
    client.h2.increment_flow_control_window(1 << 20, None)
    client.exchange()
    first = client.call(framed(b"x" * 70), {":path": "/test.Service/Repeat"})
    assert len(first.body) == 65535  # the stream's window; the connection has 1 MiB left
    client.h2.increment_flow_control_window(1 << 20, 1)
    client.exchange()
    assert len(first.body) == 70005
    assert first.ended


def test_smaller_initial_window_stops_answers_under_way() -> None:
    """RFC 9113 section 6.9.2: the change applies to open streams, even below zero."""
    client = Client(server(), initial_window=10)
    reply = client.call(framed(b"0123456789"))
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    client.exchange()
    client.h2.increment_flow_control_window(10, 1)
    client.exchange()
    assert len(reply.body) == 10
    client.h2.increment_flow_control_window(5, 1)
    client.exchange()
    assert reply.ended


def test_stalled_answer_does_not_hold_up_another() -> None:
    client = Client(server(), initial_window=100)
    stalled = client.call(framed(b"x"), {":path": "/test.Service/Repeat"})
    assert not stalled.ended
    assert client.call(framed(b"y")).ended


def test_frames_are_never_larger_than_go_accepts(client: Client) -> None:
    client.h2.update_settings({h2.settings.SettingCodes.MAX_FRAME_SIZE: 1 << 20})
    client.exchange()
    client.wire.clear()
    client.call(framed(bytes(60_000)))
    lengths, rest = [], bytes(client.wire)
    while rest:
        lengths.append(int.from_bytes(rest[:3], "big"))
        rest = rest[9 + lengths[-1] :]
    assert max(lengths) == 16384


def test_what_one_connection_makes_us_keep_is_bounded() -> None:
    client = Client(server())
    half = framed(bytes(MAX_MESSAGE - 100))[:-1]
    streams = [client.open() for _ in range(3)]
    for stream_id in streams:
        client.send(stream_id, half, end_stream=False)
    *kept, refused = [client.replies[each] for each in streams]
    assert not any(each.ended for each in kept)
    assert refused.status == 8
    assert refused.message == f"this connection's calls hold {MAX_HELD} octets"
    client.send(streams[0], b"\x00")
    assert kept[0].status == 0


def test_answers_that_are_not_fetched_count_too() -> None:
    client = Client(server(), initial_window=0)
    calls = [client.call(framed(bytes(MAX_MESSAGE - 1000))) for _ in range(3)]
    assert [each.head.get("grpc-status") for each in calls] == [None, None, "8"]


def test_reset_call_is_forgotten(client: Client) -> None:
    stream_id = client.open()
    client.send(stream_id, framed(b"abc")[:-1], end_stream=False)
    client.h2.reset_stream(stream_id, h2.errors.ErrorCodes.CANCEL)
    client.exchange()
    client.server.drain()
    assert client.server.is_done


def test_call_that_is_opened_and_reset_in_one_read_is_ignored(client: Client) -> None:
    stream_id = client.open(end_stream=True)
    client.h2.reset_stream(stream_id, h2.errors.ErrorCodes.CANCEL)
    client.exchange()
    assert client.goaway is None
    assert client.call(framed(b"x")).status == 0


def test_drain_announces_itself_and_lets_open_calls_end(client: Client) -> None:
    stream_id = client.open()
    client.send(stream_id, framed(b"abc")[:4], end_stream=False)
    client.server.drain()
    assert not client.server.is_done
    wire = client.server.data_to_send()
    # RFC 9113 section 6.8: 8 octets, type 7, stream 0, last stream 1, NO_ERROR
    assert wire == bytes.fromhex("000008 07 00 00000000 00000001 00000000")
    client.send(stream_id, framed(b"abc")[4:])
    assert client.replies[stream_id].body == framed(b"abc")
    assert client.server.is_done


def test_call_after_the_drain_began_is_refused_as_not_begun(client: Client) -> None:
    held = client.open()
    client.exchange()
    client.server.drain()
    client.server.data_to_send()
    late = client.open()
    client.exchange()
    assert client.replies[late].reset == h2.errors.ErrorCodes.REFUSED_STREAM
    client.send(held, framed(b"x"))
    assert client.replies[held].status == 0


def test_drain_of_an_idle_connection_is_done_at_once(client: Client) -> None:
    client.server.drain()
    client.server.drain()
    assert client.server.is_done
    client.exchange()
    assert client.goaway is not None
    assert client.goaway.last_stream_id == 0


def test_client_that_says_goodbye_ends_the_connection(client: Client) -> None:
    client.h2.close_connection()
    client.exchange()
    assert client.server.is_done


def test_ping_is_answered_while_an_answer_is_stalled() -> None:
    client = Client(server(), initial_window=0)
    client.call(framed(b"x"))
    client.h2.ping(b"12345678")
    client.server.receive_data(client.h2.data_to_send())
    events = client.h2.receive_data(client.server.data_to_send())
    assert [type(each) for each in events] == [h2.events.PingAckReceived]


@pytest.mark.parametrize(
    "octets",
    [
        PREFACE + bytes.fromhex("000000 00 00 00000001"),  # DATA on an idle stream
        PREFACE + bytes.fromhex("000004 08 00 00000000 00000000"),  # WINDOW_UPDATE of 0
        PREFACE + bytes.fromhex("000005 04 00 00000000 0000000000"),  # SETTINGS of 5 octets
        PREFACE + bytes.fromhex("ffffff 00 00 00000001"),  # 16 MiB frame
        PREFACE + bytes.fromhex("000001 01 04 00000001 ff"),  # HPACK garbage
    ],
)
def test_what_breaks_http2_ends_the_connection_with_a_goaway(octets: bytes) -> None:
    connection = server()
    connection.data_to_send()
    connection.receive_data(octets)
    assert connection.is_done
    wire = connection.data_to_send()
    assert b"\x07\x00\x00\x00\x00\x00" in wire  # GOAWAY on stream 0


def test_what_is_not_http2_at_all_ends_the_connection() -> None:
    connection = server()
    connection.receive_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert connection.is_done


@given(st.lists(st.integers(0, 60), max_size=5))
def test_oversize_frame_is_refused_by_its_header_however_it_is_cut(cuts: list[int]) -> None:
    wire = PREFACE + bytes.fromhex("000000 04 00 00000000004001 00 00 00000001")
    connection = server()
    edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    for start, end in itertools.pairwise(edges):
        connection.receive_data(wire[start:end])
        assert connection.is_done == (end == len(wire))


@given(st.binary(max_size=300), st.booleans())
def test_garbage_does_no_harm(octets: bytes, greeted: bool) -> None:
    connection = server()
    connection.receive_data((PREFACE if greeted else b"") + octets)
    connection.data_to_send()
    assert isinstance(connection.is_done, bool)


frames = st.builds(
    lambda kind, flags, stream, payload: (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    ),
    st.integers(0, 10),
    st.integers(0, 255),
    st.sampled_from([0, 1, 2, 3, 5, 0x80000001]),
    st.one_of(st.binary(max_size=20), st.just(b"\x83\x86\x84\x41\x01x")),
)


@given(st.lists(frames, max_size=12))
def test_any_frames_in_any_order_do_no_harm(sequence: list[bytes]) -> None:
    client = Client(server())
    client.server.receive_data(b"".join(sequence))
    client.server.data_to_send()
    client.server.drain()
    client.server.data_to_send()
    assert Client(server()).call(framed(b"x")).status == 0
