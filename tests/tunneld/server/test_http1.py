"""Heads of HTTP/1.1, octet by octet; replies, to the octet."""

import itertools
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneld.dialing import NO_AGENT, REFUSED, TUNNEL_LOST, DialError
from tunneld.server.http1 import (
    ESTABLISHED,
    MAX_HEAD,
    BadRequestError,
    Head,
    HeadReader,
    failed,
    not_connect,
    parse_head,
    reply,
)

HEAD = b"CONNECT a.example:80 HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: x\r\n\r\n"


def read(*pieces: bytes) -> tuple[Head, bytes] | None:
    reader = HeadReader()
    found = None
    for piece in pieces:
        assert found is None, "complete, and more was fed"
        found = reader.feed(piece)
    return found


@given(st.lists(st.integers(0, len(HEAD) - 1), max_size=10))
def test_it_does_not_matter_how_a_head_is_cut(cuts: list[int]) -> None:
    places = [0, *sorted(set(cuts)), len(HEAD)]
    pieces = [HEAD[a:b] for a, b in itertools.pairwise(places) if a < b]
    assert read(*pieces) == (Head(b"CONNECT", "a.example:80", keep_alive=True), b"")


def test_a_malformed_head_does_not_give_a_secret_away() -> None:
    head = b"CONNECT a:1 HTTP/1.1\r\nProxy-Authorization : Bearer tnl_secret\r\n\r\n"
    with pytest.raises(BadRequestError) as caught:
        parse_head(head)
    assert "tnl_secret" not in str(caught.value)
    assert b"tnl_secret" not in caught.value.reply


def test_headers_are_found_by_their_names_in_lower_case() -> None:
    head = parse_head(b"CONNECT a:1 HTTP/1.1\r\nPROXY-Authorization:  Bearer x \r\n\r\n")
    assert head.headers[b"proxy-authorization"] == b"Bearer x"
    assert "Bearer" not in repr(head)


@pytest.mark.parametrize(
    ("fields", "remembered"),
    [
        (b"User-Agent: kube-apiserver\r\n", True),
        (b"PROXY-authorization: Basic YWxpY2U6c2VzYW1l\r\n", False),
        (b"Cookie: session=1\r\n", False),
        (b"X: " + b"x" * 512 + b"\r\n", False),
    ],
)
def test_heads_are_remembered_but_no_secrets_and_no_long_ones(
    fields: bytes, remembered: bool
) -> None:
    head = b"CONNECT a.example:80 HTTP/1.1\r\n" + fields + b"\r\n"
    first, second = read(head), read(head)
    assert first is not None
    assert second is not None
    assert first == second
    assert (first[0] is second[0]) == remembered


def test_octets_behind_the_head_are_told() -> None:
    found = read(HEAD[:-1], HEAD[-1:] + b"behind\r\n\r\n")
    assert found is not None
    assert found[1] == b"behind\r\n\r\n"


def test_an_incomplete_head_is_none() -> None:
    assert read(HEAD[:-1]) is None
    assert read(b"") is None


def test_a_head_of_the_greatest_length_is_read_and_a_longer_one_refused() -> None:
    start = b"CONNECT a:1 HTTP/1.1\r\nX: "
    fits = start + b"x" * (MAX_HEAD - len(start) - 4) + b"\r\n\r\n"
    assert read(fits) is not None
    for too_long in (fits[:-4] + b"x\r\n\r\n", bytes(fits[:-4]) + b"xxxxx"):
        with pytest.raises(BadRequestError) as caught:
            read(too_long)
        assert caught.value.reply.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")


@given(st.binary(max_size=100))
def test_octets_are_a_head_or_wait_or_are_refused(octets: bytes) -> None:
    try:
        read(octets + b"\r\n\r\n")
    except BadRequestError as exc:
        assert exc.reply.startswith(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n")  # noqa: PT017


def test_garbage_is_refused_with_its_first_octet() -> None:
    with pytest.raises(BadRequestError):
        read(b"\x16")
    with pytest.raises(BadRequestError):
        read(b"CONNECT a:1 HT", b"\x00")


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Head(b"GET", "/", keep_alive=True)),
        (b"GET / HTTP/1.0\r\nHost: x\r\n\r\n", Head(b"GET", "/", keep_alive=False)),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Close\r\n\r\n",
            Head(b"GET", "/", keep_alive=False),
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            Head(b"POST", "/", keep_alive=False),
        ),
        (b"CONNECT a:1 HTTP/1.1\nhost : x\n\n", None),
        (b"CONNECT u@v@a:1 HTTP/1.1\n\n", Head(b"CONNECT", "a:1", keep_alive=True)),
        (b"CONNECT [::1]:80 HTTP/1.1\r\n\r\n", Head(b"CONNECT", "[::1]:80", keep_alive=True)),
        (b"CONNECT [::1] HTTP/1.1\r\n\r\n", Head(b"CONNECT", "[::1]", keep_alive=True)),
        (b"CONNECT a:8a HTTP/1.1\r\n\r\n", None),
        (b"CONNECT a:70000 HTTP/1.1\r\n\r\n", Head(b"CONNECT", "a:70000", keep_alive=True)),
        (b"HTTP/1.1 200 OK\r\n\r\n", None),
    ],
)
def test_heads_are_parsed_as_konnectivity_does(head: bytes, expected: Head | None) -> None:
    if expected is None:
        with pytest.raises(BadRequestError):
            parse_head(head)
    else:
        assert parse_head(head) == expected


def test_a_carriage_return_amid_the_first_line_is_refused_however_it_is_cut() -> None:
    for pieces in ([b"CONNECT a:1\rX"], [b"CONNECT a:1\r", b"X"], [b"CONNECT a:1", b"\r", b"X"]):
        with pytest.raises(BadRequestError):
            read(*pieces)
    assert read(b"CONNECT a:1 HTTP/1.1\r", b"\n", b"\r\n") is not None


def test_a_port_of_many_octets_is_looked_at_once() -> None:
    """A regular expression that tried each of its ends took ten seconds for this."""
    target = b":" + b"a" * (MAX_HEAD - 100) + b"]"
    assert parse_head(b"CONNECT " + target + b" HTTP/1.1\r\n\r\n").target == target.decode()


def test_the_reply_to_a_dial_that_stands_is_konnectivitys() -> None:
    assert ESTABLISHED == b"HTTP/1.1 200 Connection Established\r\n\r\n"


def test_the_reply_to_a_dial_that_failed_has_the_text_and_the_reason() -> None:
    text = "dial tcp 1.2.3.4:5: connect: connection refused"
    assert failed(DialError(REFUSED, text), "tunneld-edge") == (
        b"HTTP/1.1 502 Bad Gateway\r\n"
        b"Connection: close\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 47\r\n"
        b'Proxy-Status: tunneld-edge; error=connection_refused; details="'
        + text.encode()
        + b'"\r\n'
        b"\r\n" + text.encode()
    )
    assert failed(DialError(NO_AGENT, "x"), "s").startswith(b"HTTP/1.1 503 Service Unavailable")


def test_a_text_cannot_break_out_of_its_header() -> None:
    octets = failed(DialError(REFUSED, 'a"\r\nEvil: yes\r\n\r\nπ'), "tunneld")
    head, _, body = octets.partition(b"\r\n\r\n")
    assert b"\r\nEvil" not in head
    assert body.decode() == 'a"\r\nEvil: yes\r\n\r\nπ'


def test_the_reply_to_another_method_is_konnectivitys_and_no_body_for_head() -> None:
    body = b"this proxy only supports CONNECT passthrough\n"
    assert not_connect(Head(b"GET", "/", keep_alive=True)).endswith(
        b"\r\nContent-Length: 45\r\nAllow: CONNECT\r\nX-Content-Type-Options: nosniff\r\n\r\n"
        + body
    )
    assert not_connect(Head(b"HEAD", "/", keep_alive=True)).endswith(b"nosniff\r\n\r\n")
    assert b"\r\nConnection: close\r\n" in not_connect(Head(b"GET", "/", keep_alive=False))


def test_replies_count_octets_not_characters() -> None:
    assert b"\r\nContent-Length: 3\r\n" in reply(HTTPStatus.OK, "π!")


def test_a_lost_agent_is_worded_as_upstream_does_it_where_that_is_asked_for() -> None:
    error = DialError(TUNNEL_LOST, "tunnel of agent home lost")
    assert failed(error, "s").endswith(b"\r\n\r\ntunnel of agent home lost")
    reply = failed(error, "s", as_upstream=True)
    assert reply.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert reply.endswith(b"\r\n\r\nBackend context error: context canceled\r\n")
