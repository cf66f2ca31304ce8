"""Requests for the WebSocket that carries a tunnel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneld.server.httpupgrade import RefusedError, Request, parse_upgrade

# RFC 6455 section 1.2, the example, with our path and subprotocol.
HEAD = (
    b"GET /tunnel HTTP/1.1\r\n"
    b"Host: server.example.com\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Origin: http://example.com\r\n"
    b"Sec-WebSocket-Protocol: chat, tunneld-tls\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)


def refusal(head: bytes) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        parse_upgrade(head, "/tunnel")
    return caught.value


def test_a_valid_one_is_taken() -> None:
    assert parse_upgrade(HEAD, "/tunnel") == Request([])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"Upgrade: websocket", b"upgrade: WebSocket"),
        (b"Connection: Upgrade", b"Connection: keep-alive, upgrade"),
        (b"Host: server.example.com", b"Host: [2001:db8::1]:8443"),
        (b"Origin", b"Content-Length: 0\r\nOrigin"),
    ],
)
def test_it_may_be_written_in_other_ways(before: bytes, after: bytes) -> None:
    parse_upgrade(HEAD.replace(before, after), "/tunnel")


def test_where_it_comes_from_is_kept_in_order() -> None:
    fields = b"X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2, 3.3.3.3\r\nOrigin"
    request = parse_upgrade(HEAD.replace(b"Origin", fields), "/tunnel")
    assert request.forwarded == [b"1.1.1.1", b"2.2.2.2, 3.3.3.3"]


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        (b"/tunnel", b"/tunnel?x", 404),
        (b"/tunnel", b"/", 404),
        (b"/tunnel", b"http://edge/tunnel", 404),
        (b"GET", b"CONNECT", 426),
        (b"Upgrade: websocket\r\n", b"", 426),
        (b"Upgrade: websocket", b"Upgrade: h2c", 426),
        (b"Version: 13", b"Version: 14", 426),
        (b"Sec-WebSocket-Version: 13\r\n", b"", 426),
        (b"Connection: Upgrade", b"Connection: close", 400),
        (b"Sec-WebSocket-Key", b"X-Key", 400),
        (b"Origin", b"Sec-WebSocket-Key: again\r\nOrigin", 400),
        (b", tunneld-tls", b"", 400),
        (b"Origin", b"Content-Length: 5\r\nOrigin", 400),
        (b"Origin", b"Transfer-Encoding: chunked\r\nOrigin", 400),
        (b"Host: server.example.com\r\n", b"", 400),
        (b"server.example.com", b"xn--" + b"a" * 70, 400),
        (b"Origin: http", b"Origin: \xe4", 400),
        (b"HTTP/1.1", b"HTTP/1.0", 426),
        (b"HTTP/1.1", b"HTTP/x", 400),
        (b"Host: ", b"Host ", 400),
    ],
)
def test_others_are_refused(before: bytes, after: bytes, status: int) -> None:
    assert before in HEAD
    error = refusal(HEAD.replace(before, after))
    assert error.reply.startswith(b"HTTP/1.1 %d " % status)


def test_a_refusal_is_a_whole_response_that_says_how_to_do_it_better() -> None:
    head, _, body = refusal(b"GET /tunnel HTTP/1.1\r\nHost: a\r\n\r\n").reply.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 426 Upgrade Required",
        b"Content-Type: text/plain; charset=utf-8",
        b"Content-Length: %d" % len(body),
        b"Connection: close, Upgrade",
        b"Upgrade: websocket",
    ]
    assert body == b"a WebSocket is spoken here; does a proxy in between drop the Upgrade field?\n"
    other = refusal(HEAD.replace(b"Version: 13", b"Version: 8")).reply
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in other


@given(st.binary(max_size=300), st.integers(0, len(HEAD)), st.integers(0, 40))
def test_garbage_in_it_is_refused_or_taken_and_nothing_else(
    octets: bytes, at: int, instead_of: int
) -> None:
    reply = b"HTTP/1.1 4"
    try:
        parse_upgrade(HEAD[:at] + octets + HEAD[at + instead_of :], "/tunnel")
    except RefusedError as exc:
        reply = exc.reply
    assert reply.startswith(b"HTTP/1.1 4")
