"""Calls and how they end; whatever a handler does, it ends its own call alone."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio

from frames import Headers
from frames.grpc import GrpcError, Request, Status, request_headers, response_headers
from tests.tunneld.sessionpair import SessionPair, open_pair
from tunneld.server.grpcserver import GrpcServer, Handler, is_call
from tunneld.streamend import StreamEnd


@pytest.fixture
async def pair() -> AsyncIterator[SessionPair]:
    async with open_pair() as opened:
        yield opened


async def call(
    pair: SessionPair, handler: Handler, path: bytes = b"/demo.Service/Method"
) -> tuple[Headers, Headers | None]:
    """The response's sections, once the call is over; None for trailers that were its head."""
    server = GrpcServer("demo.Service", "Method", handler)
    async with trio.open_nursery() as calls:

        def on_request(end: StreamEnd, headers: Headers) -> None:
            calls.start_soon(server.serve, end, headers)

        pair.on_request = on_request
        front = pair.client.open(request_headers(path, b"127.0.0.1"))
        await front.read_body(1_000)
    assert front.response is not None
    return front.response.raw, front.trailers


def after_the_head(action: Callable[[StreamEnd], Awaitable[None]]) -> Handler:
    async def handler(end: StreamEnd, request: Request) -> None:
        assert end.respond(response_headers(request.content_type))
        await action(end)

    return handler


async def test_a_handler_that_returns_ends_its_call_well(pair: SessionPair) -> None:
    async def nothing(end: StreamEnd) -> None:
        pass

    head, trailers = await call(pair, after_the_head(nothing))
    assert head == [(b":status", b"200"), (b"content-type", b"application/grpc")]
    assert trailers == [(b"grpc-status", b"0"), (b"grpc-message", b"")]
    assert pair.server.ends == {}


async def test_a_handler_says_by_an_error_how_its_call_ends(pair: SessionPair) -> None:
    async def fail(end: StreamEnd) -> None:
        raise GrpcError(Status.RESOURCE_EXHAUSTED, "too much € of it")

    _, trailers = await call(pair, after_the_head(fail))
    assert trailers == [(b"grpc-status", b"8"), (b"grpc-message", b"too much %E2%82%AC of it")]


async def test_an_error_before_the_head_is_all_there_is(pair: SessionPair) -> None:
    async def fail(end: StreamEnd, request: Request) -> None:
        raise GrpcError(Status.UNKNOWN, "no")

    head, trailers = await call(pair, fail)
    assert head[2:] == [(b"grpc-status", b"2"), (b"grpc-message", b"no")]
    assert trailers is None


async def test_a_bug_ends_its_call_alone(pair: SessionPair) -> None:
    async def break_down(end: StreamEnd) -> None:
        raise ZeroDivisionError

    for _ in range(2):
        _, trailers = await call(pair, after_the_head(break_down))
        assert trailers == [(b"grpc-status", b"13"), (b"grpc-message", b"internal error")]


async def test_what_is_yet_to_be_sent_goes_before_the_end(pair: SessionPair) -> None:
    async def speak(end: StreamEnd) -> None:
        end.deliver(memoryview(b"octets"), False)

    server = GrpcServer("demo.Service", "Method", after_the_head(speak))
    async with trio.open_nursery() as calls:
        pair.on_request = lambda end, headers: calls.start_soon(server.serve, end, headers)
        front = pair.client.open(request_headers(b"/demo.Service/Method", b"127.0.0.1"))
        assert await front.read_body(1_000) == b"octets"


async def test_a_call_that_is_cancelled_says_why(pair: SessionPair) -> None:
    async def wait(end: StreamEnd) -> None:
        calls.cancel_scope.cancel()
        await trio.sleep_forever()

    server = GrpcServer("demo.Service", "Method", after_the_head(wait))
    async with trio.open_nursery() as calls:
        pair.on_request = lambda end, headers: calls.start_soon(server.serve, end, headers)
        front = pair.client.open(request_headers(b"/demo.Service/Method", b"127.0.0.1"))
        await trio.sleep_forever()
    await front.read_body(1_000)
    text = b"the server is shutting down"
    assert front.trailers == [(b"grpc-status", b"14"), (b"grpc-message", text)]


async def test_a_call_whose_client_has_gone_ends_in_silence(pair: SessionPair) -> None:
    async def wait(end: StreamEnd) -> None:
        front.abort()
        while end.lost is None:
            await trio.lowlevel.checkpoint()

    server = GrpcServer("demo.Service", "Method", after_the_head(wait))
    async with trio.open_nursery() as calls:
        pair.on_request = lambda end, headers: calls.start_soon(server.serve, end, headers)
        front = pair.client.open(request_headers(b"/demo.Service/Method", b"127.0.0.1"))
    assert pair.server.ends == {}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"/demo.Service/Other", b"unknown method Other for service demo.Service"),
        (b"/demo.Other/Method", b"unknown service demo.Other"),
    ],
)
async def test_other_calls_are_unimplemented(pair: SessionPair, path: bytes, text: bytes) -> None:
    async def never(end: StreamEnd, request: Request) -> None:
        raise AssertionError

    head, _ = await call(pair, never, path)
    assert head[2:] == [(b"grpc-status", b"12"), (b"grpc-message", text)]


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/json", False),
        (None, False),
    ],
)
def test_a_call_is_told_by_its_content_type(content_type: bytes | None, expected: bool) -> None:
    headers = [(b":method", b"POST")]
    if content_type is not None:
        headers.append((b"content-type", content_type))
    assert is_call(headers) is expected
