"""The HTTP server under health probes and scrapes: well-behaved clients, and all the others."""

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus

import h11
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from ctl.address import parse_address
from tunneld.adminhttp import (
    HEAD_TIMEOUT,
    IDLE_TIMEOUT,
    MAX_HEAD,
    SEND_TIMEOUT,
    Request,
    Response,
    Routes,
    Service,
    parse_request,
    serve_http,
    text,
)
from tunneld.role import RoleError

HOST = b"Host: x\r\n"
GET = b"GET /ok HTTP/1.1\r\n" + HOST + b"\r\n"


async def slow(request: Request) -> Response:
    """Answers when the client is gone."""
    await request.gone.wait()
    return text(HTTPStatus.OK, "gone")


async def prompt(request: Request) -> Response:
    await trio.sleep(1)
    return text(HTTPStatus.OK, "gone" if request.gone.is_set() else "there")


def faulty(request: Request) -> Response:
    raise LookupError(request.path)


ROUTES: Routes = {
    "/ok": lambda _: text(HTTPStatus.OK, "ok"),
    "/echo": lambda request: text(HTTPStatus.OK, f"{request.host} {request.query}"),
    "/slow": slow,
    "/prompt": prompt,
    "/faulty": faulty,
}


class Client:
    """The other end of a connection that is being served."""

    def __init__(self, stream: trio.StapledStream) -> None:  # type: ignore[type-arg]
        self.stream = stream

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        received = bytearray()
        async for chunk in self.stream:
            received += chunk
        return bytes(received)


@asynccontextmanager
async def connected(drain: trio.Event | None = None) -> AsyncIterator[Client]:
    service = Service(ROUTES, trio.Event() if drain is None else drain)
    ours, theirs = memory_stream_pair()

    async def converse() -> None:
        try:
            await service.converse(ours)
        except* trio.BrokenResourceError:
            pass  # the client has gone away, which `serve` takes as it comes
        await ours.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(converse)
        nursery.start_soon(service.drop_idle)
        yield Client(theirs)
        await theirs.aclose()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def exchange(*pieces: bytes) -> bytes:
    """All that comes back for octets sent in these pieces, and a half-close behind them."""
    async with connected() as client:
        for piece in pieces:
            await client.stream.send_all(piece)
        await client.stream.send_eof()
        return await client.rest()


def parse(octets: bytes, methods: Sequence[str] = ("GET",)) -> list[tuple[h11.Response, bytes]]:
    """The responses to requests by these methods; there are no octets beyond."""
    client = h11.Connection(h11.CLIENT)
    client.receive_data(octets)
    client.receive_data(b"")
    responses = []
    for method in methods:
        if client.our_state is h11.DONE:
            client.start_next_cycle()
        client.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        response = client.next_event()
        assert isinstance(response, h11.Response)
        body = b""
        while isinstance(event := client.next_event(), h11.Data):
            body += event.data
        assert isinstance(event, h11.EndOfMessage)
        responses.append((response, body))
    assert client.trailing_data[0] == b""
    return responses


async def answer(*pieces: bytes, method: str = "GET") -> tuple[int, bytes]:
    ((response, body),) = parse(await exchange(*pieces), [method])
    return response.status_code, body


async def test_answer_has_length_type_and_date_and_keeps_the_connection() -> None:
    ((response, body),) = parse(await exchange(GET))
    headers = dict(response.headers)
    assert (response.status_code, response.reason, body) == (200, b"OK", b"ok")
    assert headers[b"content-length"] == b"2"
    assert headers[b"content-type"] == b"text/plain; charset=utf-8"
    assert headers[b"date"].endswith(b" GMT")
    assert b"connection" not in headers


async def test_head_is_the_same_without_the_body() -> None:
    octets = await exchange(GET.replace(b"GET", b"HEAD"))
    ((response, body),) = parse(octets, ["HEAD"])
    assert (response.status_code, body) == (200, b"")
    assert dict(response.headers)[b"content-length"] == b"2"
    assert octets.endswith(b"\r\n\r\n")


async def test_requests_of_a_connection_are_answered_in_turn_pipelined_too() -> None:
    head = b"HEAD /ok HTTP/1.1\r\n" + HOST + b"\r\n"
    missing = b"GET /no HTTP/1.1\r\n" + HOST + b"\r\n"
    octets = await exchange(GET + head + missing + GET[:7], GET[7:])
    responses = parse(octets, ["GET", "HEAD", "GET", "GET"])
    assert [(each.status_code, body) for each, body in responses] == [
        (200, b"ok"),
        (200, b""),
        (404, b"404 page not found\n"),
        (200, b"ok"),
    ]


@pytest.mark.parametrize(
    "head",
    [b"GET /ok HTTP/1.0\r\n\r\n", GET[:-2] + b"Connection: close\r\n\r\n"],
)
async def test_clients_that_want_one_answer_see_the_connection_close(head: bytes) -> None:
    async with connected() as client:
        await client.stream.send_all(head)
        ((response, body),) = parse(await client.rest())
    assert body == b"ok"
    assert dict(response.headers)[b"connection"] == b"close"


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"OPTIONS", b"BREW"])
async def test_any_method_is_taken(method: bytes) -> None:
    assert await answer(GET.replace(b"GET", method)) == (200, b"ok")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/ok?x=/no", 200),
        (b"/%6fk", 200),
        (b"http://y:80/ok", 200),
        (b"HTTPS://y/ok?z", 200),
        (b"/ok/", 404),
        (b"/OK", 404),
        (b"//ok", 404),
        (b"http://y", 404),
        (b"ok", 400),
        (b"*", 400),
        (b"ftp://y/ok", 400),
        (b"http://y?x", 400),
        (b"http://a<b/ok", 400),
    ],
)
async def test_path_is_found_whichever_form_the_target_has(target: bytes, status: int) -> None:
    assert (await answer(GET.replace(b"/ok", target)))[0] == status


async def test_connect_is_not_found_and_keeps_the_connection_http() -> None:
    octets = await exchange(b"CONNECT /ok HTTP/1.1\r\n" + HOST + b"\r\n" + GET)
    assert [each.status_code for each, _ in parse(octets, ["CONNECT", "GET"])] == [404, 200]


async def test_route_gets_host_and_query() -> None:
    assert await answer(b"GET /echo?verbose&a=1&a=%20 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n") == (
        200,
        b"[::1]:80 {'verbose': [''], 'a': ['1', ' ']}",
    )
    assert (await answer(b"GET http://y:1/echo HTTP/1.1\r\n" + HOST + b"\r\n"))[1] == b"y:1 {}"
    assert (await answer(b"GET /echo HTTP/1.0\r\n\r\n"))[1] == b" {}"


def test_request_keeps_its_target_as_it_came() -> None:
    received = h11.Request(method="GET", target="http://y/%6fk?a=%20", headers=[("Host", "x")])
    request = parse_request(received)
    assert (request.target, request.path, request.host) == ("/%6fk?a=%20", "/ok", "y")


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 3 + b"\r\n\r\n", 400),
        (b"GET /ok HTTP/1.1\r\n\r\n", 400),
        (b"GET /ok HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b'GET /ok HTTP/1.1\r\nHost: a"b\r\n\r\n', 400),
        (b"GET /ok HTTP/1.1\r\nHo", 400),
        (b"GET /ok HTTP/2.0\r\n" + HOST + b"\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (GET[:-2] + b"Transfer-Encoding: br\r\n\r\n", 501),
        (GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /" + b"x" * MAX_HEAD, 431),
    ],
)
async def test_what_is_no_request_is_told_so_and_its_connection_ends(
    octets: bytes, status: int
) -> None:
    async with connected() as client:
        await client.stream.send_all(octets)
        if status == 400:
            await client.stream.send_eof()
        ((response, body),) = parse(await client.rest())
    assert response.status_code == status
    assert body.decode() == f"{status} {HTTPStatus(status).phrase}"
    assert dict(response.headers)[b"connection"] == b"close"


async def test_garbage_after_good_requests_is_refused_after_their_answers() -> None:
    responses = parse(await exchange(GET + b"\0\r\n\r\n" + GET), ["GET", "GET"])
    assert [each.status_code for each, _ in responses] == [200, 400]


async def test_head_of_a_mebibyte_is_taken() -> None:
    head = GET[:-2] + b"X: " + b"x" * (1 << 20) + b"\r\n\r\n"
    assert await answer(*(head[i : i + 9999] for i in range(0, len(head), 9999))) == (200, b"ok")


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue\r\nContent-Length: 5",
    ],
)
async def test_request_with_a_body_is_answered_and_is_the_last(head: bytes) -> None:
    async with connected() as client:
        await client.stream.send_all(GET[:-2] + head + b"\r\n\r\n")
        ((response, body),) = parse(await client.rest())
    assert (response.status_code, body) == (200, b"ok")
    assert dict(response.headers)[b"connection"] == b"close"


async def test_connection_that_says_nothing_gets_nothing() -> None:
    assert await exchange() == b""


async def test_head_that_does_not_come_times_out(autojump_clock: MockClock) -> None:
    async with connected() as client:
        started = trio.current_time()
        await client.stream.send_all(GET[:20])
        ((response, body),) = parse(await client.rest())
    assert (response.status_code, body) == (408, b"408 Request Timeout")
    assert trio.current_time() - started == pytest.approx(HEAD_TIMEOUT, abs=1.1)


async def test_timeout_is_for_the_whole_head_not_for_each_octet(
    autojump_clock: MockClock,
) -> None:
    async with connected() as client:
        for octet in GET[:10]:
            await client.stream.send_all(bytes([octet]))
            await trio.sleep(HEAD_TIMEOUT / 9)
        assert b" 408 " in bytes(await client.stream.receive_some())


async def test_idle_connection_is_closed_without_a_word(autojump_clock: MockClock) -> None:
    async with connected() as client:
        started = trio.current_time()
        assert await client.rest() == b""
        assert trio.current_time() - started == pytest.approx(HEAD_TIMEOUT, abs=1.1)


async def test_connection_may_idle_longer_between_requests(autojump_clock: MockClock) -> None:
    async with connected() as client:
        await client.stream.send_all(GET)
        await trio.sleep(HEAD_TIMEOUT * 2)
        await client.stream.send_all(GET)
        started = trio.current_time()
        assert len(parse(await client.rest(), ["GET", "GET"])) == 2
        assert trio.current_time() - started == pytest.approx(IDLE_TIMEOUT, abs=1.1)


async def test_client_that_does_not_read_is_given_up(autojump_clock: MockClock) -> None:
    ours, theirs = lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.send_all, GET)
        started = trio.current_time()
        with pytest.raises(trio.BrokenResourceError, match="not taken"):
            await Service(ROUTES, trio.Event()).converse(ours)
    assert trio.current_time() - started == pytest.approx(SEND_TIMEOUT)


async def test_route_that_takes_its_time_learns_that_the_client_went() -> None:
    request = GET.replace(b"/ok", b"/slow")
    async with connected() as client:
        await client.stream.send_all(request)
        await wait_all_tasks_blocked()
        await client.stream.send_eof()
        ((_, body),) = parse(await client.rest())
    assert body == b"gone"


async def test_route_that_takes_its_time_is_not_cut_by_the_next_request(
    autojump_clock: MockClock,
) -> None:
    async with connected() as client:
        await client.stream.send_all(GET.replace(b"/ok", b"/prompt"))
        await wait_all_tasks_blocked()
        await client.stream.send_all(GET)
        await client.stream.send_eof()
        responses = parse(await client.rest(), ["GET", "GET"])
    assert [body for _, body in responses] == [b"there", b"ok"]


async def test_drain_ends_idle_connections_at_once(autojump_clock: MockClock) -> None:
    drain = trio.Event()
    async with connected(drain) as client:
        await client.stream.send_all(GET)
        await wait_all_tasks_blocked()
        started = trio.current_time()
        drain.set()
        assert len(parse(await client.rest())) == 1
        assert trio.current_time() - started < 1.1


async def test_drain_lets_a_request_in_progress_have_its_answer(autojump_clock: MockClock) -> None:
    drain = trio.Event()
    async with connected(drain) as client:
        await client.stream.send_all(GET.replace(b"/ok", b"/prompt"))
        await wait_all_tasks_blocked()
        drain.set()
        ((response, body),) = parse(await client.rest())
    assert body == b"there"
    assert dict(response.headers)[b"connection"] == b"close"


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=3))
async def test_any_octets_cut_anywhere_are_answered_or_ignored(
    octets: bytes, cuts: list[int]
) -> None:
    edges = [0, *sorted(cuts), max(len(octets), 200)]
    received = await exchange(*(octets[a:b] for a, b in itertools.pairwise(edges)))
    assert received == b"" or received.startswith(b"HTTP/1.1 ")


@given(
    st.sampled_from([b"GET", b"HEAD", b"POST", b"CONNECT", b"G@T", b""]),
    st.sampled_from([b"/ok", b"*", b"http://x/ok", b"//x/ok", b"http://[/ok", b"/%", b"\xff"]),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b""]),
    st.lists(
        st.sampled_from(
            [
                b"Host: x",
                b"Content-Length: 5",
                b"Content-Length: -1",
                b"Upgrade: h2c",
                b"Connection: upgrade",
                b": x",
                b"\x00",
                b" fold",
            ]
        ),
        max_size=4,
    ),
)
async def test_any_head_gets_one_well_formed_answer(
    method: bytes, target: bytes, version: bytes, fields: list[bytes]
) -> None:
    head = b"\r\n".join([b" ".join([method, target, version]), *fields, b"", b""])
    received = await exchange(head)
    bodiless = received.endswith(b"\r\n\r\n")
    assert method == b"HEAD" or not bodiless
    ((response, _),) = parse(received, ["HEAD" if bodiless else "GET"])
    assert response.status_code in (200, 400, 404, 505)


async def test_listener_serves_until_drained_and_leaves_nothing() -> None:
    drain = trio.Event()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(serve_http, "127.0.0.1", 0, ROUTES, drain)
            address = parse_address(addresses[0])
            client = await trio.open_tcp_stream(address.host, address.port)
            await client.send_all(GET)
            assert b"ok" in bytes(await client.receive_some())
            drain.set()
            assert await client.receive_some() == b""
            await client.aclose()
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream(address.host, address.port)


async def test_fault_of_a_route_ends_its_connection_only() -> None:
    drain = trio.Event()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(serve_http, "127.0.0.1", 0, ROUTES, drain)
            address = parse_address(addresses[0])
            for request, expected in ((GET.replace(b"/ok", b"/faulty"), b""), (GET, b"ok")):
                async with await trio.open_tcp_stream(address.host, address.port) as client:
                    await client.send_all(request)
                    try:
                        assert bytes(await client.receive_some()).endswith(expected)
                    except trio.BrokenResourceError:
                        assert expected == b""
            drain.set()


async def test_empty_host_means_all_interfaces() -> None:
    drain = trio.Event()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(serve_http, "", 0, ROUTES, drain)
            drain.set()
    hosts = {parse_address(each).host for each in addresses}
    assert "0.0.0.0" in hosts
    assert hosts <= {"0.0.0.0", "::"}


async def test_address_in_use_is_told_with_advice() -> None:
    (taken,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = taken.socket.getsockname()[1]
    with pytest.raises(RoleError, match=f"cannot listen on 127.0.0.1:{port}"):
        await serve_http("127.0.0.1", port, ROUTES, trio.Event())
    await taken.aclose()
