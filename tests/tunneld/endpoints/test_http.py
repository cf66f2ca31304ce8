"""The HTTP endpoint: its page, 404, and whatever else a peer may send."""

import itertools

import h11
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from tests.tunneld.endpoints.conftest import Running
from tunneld.config import HttpConfig
from tunneld.endpoints.http import HEAD_TIMEOUT, MAX_HEAD, HttpRole, serve_request
from tunneld.role import Host

HOST = b"Host: x\r\n"


async def exchange(*pieces: bytes, eof: bool = True) -> bytes:
    """All that comes back for octets sent in these pieces."""
    ours, theirs = memory_stream_pair()
    received = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_and_close, ours)
        for piece in pieces:
            await theirs.send_all(piece)
        if eof:
            await theirs.send_eof()
        async for chunk in theirs:
            received += chunk
        await theirs.aclose()
    return bytes(received)


async def serve_and_close(stream: trio.StapledStream) -> None:  # type: ignore[type-arg]
    try:
        await serve_request(stream)
    except trio.BrokenResourceError:
        pass  # `exchange` has gone away, which the role takes as it comes
    await stream.aclose()


def parse(method: str, octets: bytes) -> tuple[h11.Response, bytes]:
    """A whole response, as an HTTP client understands it."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(octets)
    client.receive_data(b"")
    response = client.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    return response, body


async def test_ok_is_a_page_with_its_length() -> None:
    octets = await exchange(b"GET /ok HTTP/1.1\r\n" + HOST + b"\r\n")
    assert octets.startswith(b"HTTP/1.1 200 OK\r\n")
    response, body = parse("GET", octets)
    assert b"Everything is ok" in body
    headers = dict(response.headers)
    assert headers[b"content-length"] == str(len(body)).encode()
    assert headers[b"content-type"] == b"text/html; charset=utf-8"
    assert headers[b"connection"] == b"close"
    assert headers[b"date"].endswith(b" GMT")


async def test_head_is_the_same_without_the_page() -> None:
    page = await exchange(b"GET /ok HTTP/1.1\r\n" + HOST + b"\r\n")
    octets = await exchange(b"HEAD /ok HTTP/1.1\r\n" + HOST + b"\r\n")
    _, body = parse("GET", page)
    response, nothing = parse("HEAD", octets)
    assert nothing == b""
    assert dict(response.headers)[b"content-length"] == str(len(body)).encode()


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1",
        b"GET /ok/ HTTP/1.1",
        b"GET /OK HTTP/1.1",
        b"GET /ok?x HTTP/1.1",
        b"POST /ok HTTP/1.1",
        b"CONNECT x:80 HTTP/1.1",
        b"GET http://[x/ok HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
    ],
)
async def test_everything_else_is_not_found(line: bytes) -> None:
    octets = await exchange(line + b"\r\n" + HOST + b"\r\n")
    assert octets.startswith(b"HTTP/1.1 404 NOT FOUND\r\n")


@pytest.mark.parametrize(
    "head",
    [b"GET http://x:8080/ok HTTP/1.1\r\n" + HOST, b"GET /ok HTTP/1.0\r\n"],
)
async def test_proxies_and_old_clients_find_the_page(head: bytes) -> None:
    octets = await exchange(head + b"\r\n")
    assert octets.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 3 + b"\r\n\r\n", 400),
        (b"GET /ok HTTP/1.1\r\n\r\n", 400),
        (b"GET /ok HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /ok HTTP/2.0\r\n" + HOST + b"\r\n", 505),
        (b"GET /ok HTTP/1.1\r\nHo", 400),
        (b"GET /ok HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: br\r\n\r\n", 501),
        (b"GET /" + b"x" * MAX_HEAD, 431),
    ],
)
async def test_bad_request_is_answered_as_such(octets: bytes, status: int) -> None:
    response, body = parse("GET", await exchange(octets))
    assert response.status_code == status
    assert body.endswith(b"\n")


async def test_connection_that_says_nothing_gets_nothing() -> None:
    assert await exchange() == b""


async def test_head_that_does_not_come_times_out(autojump_clock: MockClock) -> None:
    started = trio.current_time()
    octets = await exchange(b"GET /ok HTTP/1.1\r\nHost: slow", eof=False)
    assert octets.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert trio.current_time() - started == pytest.approx(HEAD_TIMEOUT, abs=1.1)


async def test_timeout_is_for_the_whole_head_not_for_each_octet(
    autojump_clock: MockClock,
) -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_and_close, ours)
        for octet in b"GET /ok HT":
            await theirs.send_all(bytes([octet]))
            await trio.sleep(HEAD_TIMEOUT / 10)
        assert b" 408 " in bytes(await theirs.receive_some())
        await theirs.aclose()


async def test_second_request_of_a_connection_is_not_answered(host: Host) -> None:
    request = b"GET /ok HTTP/1.1\r\n" + HOST + b"\r\n"
    assert (await exchange(request + request)).count(b"HTTP/1.1 ") == 1


async def test_answer_survives_a_body_that_nobody_reads(host: Host, running: Running) -> None:
    """Closing with the body unread would reset the connection, and the answer could be lost."""
    role = HttpRole(HttpConfig(name="http", listen="127.0.0.1:0"), host)
    body = b"x" * 1_000_000
    head = b"POST /ok HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body)
    received = b""
    async with running(role) as address, trio.open_nursery() as nursery:
        client = await trio.open_tcp_stream(*address)
        nursery.start_soon(client.send_all, head + body)
        async for chunk in client:
            received += chunk
        assert received.startswith(b"HTTP/1.1 404 NOT FOUND\r\n")
    await client.aclose()


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=3))
async def test_any_octets_cut_anywhere_are_answered_or_ignored(
    octets: bytes, cuts: list[int]
) -> None:
    edges = [0, *sorted(cuts), max(len(octets), 200)]
    answer = await exchange(*(octets[a:b] for a, b in itertools.pairwise(edges)))
    assert answer == b"" or parse("GET", answer)[0].status_code in (200, 400, 404, 431, 501, 505)


@given(
    st.sampled_from([b"GET", b"HEAD", b"POST", b"G@T", b""]),
    st.sampled_from([b"/ok", b"*", b"http://x/ok", b"//x/ok", b"http://[/ok", b"\xff"]),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b""]),
    st.lists(
        st.sampled_from(
            [b"Host: x", b"Content-Length: 5", b"Content-Length: -1", b": x", b"\x00", b" fold"]
        ),
        max_size=4,
    ),
)
async def test_any_head_gets_one_well_formed_answer(
    method: bytes, target: bytes, version: bytes, fields: list[bytes]
) -> None:
    head = b"\r\n".join([b" ".join([method, target, version]), *fields, b"", b""])
    response, _ = parse("HEAD" if method == b"HEAD" else "GET", await exchange(head))
    assert response.status_code in (200, 400, 404, 505)
