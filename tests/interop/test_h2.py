"""Our connection against the `h2` library in memory: what is worth a test by its name."""

import hashlib
import itertools
import random

import h2.exceptions
import pytest

from frames import ErrorCode, Headers, Role, Setting, StreamState
from tests.interop.ends import End, OurEnd, TheirEnd, exchange, pair

GET: Headers = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"example.com"),
    (b":path", b"/"),
]
POST: Headers = [(b":method", b"POST"), *GET[1:]]
OK: Headers = [(b":status", b"200")]


def sides(ours: OurEnd, theirs: TheirEnd, we_are: Role) -> tuple[End, End]:
    """Client, server."""
    return (ours, theirs) if we_are is Role.CLIENT else (theirs, ours)


@pytest.mark.parametrize("we_are", Role)
@pytest.mark.parametrize(
    ("method", "status", "length", "body"),
    [
        (b"HEAD", b"200", b"1234", b""),
        (b"GET", b"204", None, b""),
        (b"GET", b"304", b"77", b""),
        (b"GET", b"200", b"5", b"12345"),
        (b"GET", b"200", b"0", b""),
        (b"POST", b"404", None, b"why"),
    ],
)
def test_responses_of_every_kind_of_length(
    we_are: Role, method: bytes, status: bytes, length: bytes | None, body: bytes
) -> None:
    ours, theirs = pair(we_are)
    client, server = sides(ours, theirs, we_are)
    stream_id = client.open([(b":method", method), *GET[1:]], end_stream=True)
    exchange(client, server)
    head = [(b":status", status)]
    if length is not None:
        head.append((b"content-length", length))
    server.send_headers(stream_id, head, end_stream=not body)
    if body:
        server.send(stream_id, body)
        server.finish(stream_id)
    exchange(client, server)
    assert client.log.heads[stream_id] == head
    assert client.log.octets[stream_id] == body
    assert stream_id in client.log.ended
    assert not client.log.resets
    assert not ours.connection.streams


@pytest.mark.parametrize("we_are", Role)
def test_a_megabyte_each_way_at_once_arrives_whole(we_are: Role) -> None:
    ours, theirs = pair(we_are, {Setting.MAX_FRAME_SIZE: 40_000})
    client, server = sides(ours, theirs, we_are)
    stream_id = client.open([(b":method", b"CONNECT"), GET[2]], end_stream=False)
    exchange(client, server)
    server.send_headers(stream_id, OK, end_stream=False)
    exchange(client, server)
    dice = random.Random(1)
    contents = {end: dice.randbytes(1 << 20) for end in (client, server)}
    sent = dict.fromkeys(contents, 0)
    while min(sent.values()) < 1 << 20:
        for end, content in contents.items():
            size = min(end.room(stream_id), dice.randint(1, 30_000))
            end.send(stream_id, content[sent[end] : sent[end] + size])
            sent[end] = min(sent[end] + size, 1 << 20)
        for end, other in itertools.permutations((client, server)):
            octets = end.give()
            cut = dice.randint(0, len(octets))
            other.take(octets[:cut])
            other.take(octets[cut:])
            other.consume(stream_id, other.unconsumed[stream_id])
    for end in (client, server):
        end.finish(stream_id)
    exchange(client, server)
    for end, other in itertools.permutations((client, server)):
        assert hashlib.sha256(other.log.octets[stream_id]).digest() == (
            hashlib.sha256(contents[end]).digest()
        )
    assert stream_id in client.log.ended & server.log.ended


def test_extended_connect_as_a_server() -> None:
    ours, theirs = pair(Role.SERVER, {Setting.ENABLE_CONNECT_PROTOCOL: 1})
    assert theirs.connection.remote_settings.enable_connect_protocol == 1
    head = [(b":method", b"CONNECT"), (b":protocol", b"connect-udp"), *GET[1:]]
    stream_id = theirs.open(head, end_stream=False)
    exchange(ours, theirs)
    assert ours.log.heads[stream_id] == head
    assert ours.streams[stream_id].is_connect


def test_extended_connect_as_a_client() -> None:
    ours = OurEnd(Role.CLIENT)
    theirs = TheirEnd(Role.SERVER, {Setting.ENABLE_CONNECT_PROTOCOL: 1})
    exchange(ours, theirs)
    head = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]
    stream_id = ours.open(head, end_stream=False)
    exchange(ours, theirs)
    assert theirs.log.heads[stream_id] == head


@pytest.mark.parametrize("we_are", Role)
def test_a_stalled_stream_stalls_only_itself(we_are: Role) -> None:
    """h2 credits the connection only as its user reads, so it is ours that must keep going."""
    ours, theirs = pair(we_are)
    client, server = sides(ours, theirs, we_are)
    streams = [client.open(POST, end_stream=False) for _ in range(4)]
    exchange(client, server)
    for stream_id in streams:
        server.send_headers(stream_id, OK, end_stream=False)
    exchange(client, server)
    stalled, *others = streams
    for stream_id in streams:
        while (room := theirs.room(stream_id)) and room > 20_000:
            theirs.send(stream_id, bytes(20_000))
            exchange(client, server)
    for stream_id in others:
        ours.consume(stream_id, ours.unconsumed[stream_id])
    exchange(client, server)
    assert theirs.room(stalled) < 20_000
    assert all(theirs.room(stream_id) > 20_000 for stream_id in others)


def test_our_goaway_is_understood() -> None:
    ours, theirs = pair(Role.SERVER)
    stream_id = theirs.open(POST, end_stream=False)
    exchange(ours, theirs)
    ours.connection.send_goaway()
    theirs.take(ours.give())
    assert theirs.log.goaway == (stream_id, ErrorCode.NO_ERROR)


@pytest.mark.parametrize("we_are", Role)
def test_their_goaway_lets_our_streams_finish(we_are: Role) -> None:
    ours, theirs = pair(we_are)
    client, server = sides(ours, theirs, we_are)
    stream_id = client.open(POST, end_stream=False)
    exchange(client, server)
    last = stream_id if we_are is Role.CLIENT else 0
    theirs.connection.close_connection(last_stream_id=last)
    ours.take(theirs.give())
    assert ours.log.goaway == (last, ErrorCode.NO_ERROR)
    assert ours.streams[stream_id].state is StreamState.OPEN
    assert not ours.connection.drained


def test_what_breaks_them_is_named_in_their_goaway() -> None:
    ours, theirs = pair(Role.CLIENT)
    with pytest.raises(h2.exceptions.ProtocolError):
        theirs.take(bytes.fromhex("000000 00 00 00000001"))
    ours.take(theirs.give())
    assert ours.log.goaway == (0, ErrorCode.PROTOCOL_ERROR)


@pytest.mark.parametrize("we_are", Role)
def test_headers_keep_their_order_and_their_octets(we_are: Role) -> None:
    ours, theirs = pair(we_are)
    client, server = sides(ours, theirs, we_are)
    odd = [(b"x", b""), (b"a", b'\x80\xff~!"\\'), (b"x", b"again"), (b"!#$%&'*+-.^_`|~0z", b"1")]
    stream_id = client.open([*GET, *odd], end_stream=True)
    exchange(client, server)
    server.send_headers(stream_id, [*OK, *odd], end_stream=False)
    server.send_headers(stream_id, odd, end_stream=True)
    exchange(client, server)
    assert server.log.heads[stream_id] == [*GET, *odd]
    assert client.log.heads[stream_id] == [*OK, *odd]
    assert client.log.trailers[stream_id] == odd
