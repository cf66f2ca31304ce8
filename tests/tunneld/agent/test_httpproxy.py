"""CONNECT through an HTTP proxy: what is asked, and what every kind of answer comes to."""

import pytest
import trio

from ctl.address import Address
from tests.tunneld.httpproxy import HonestProxy, Serve, listening, replying
from tunneld.agent.httpproxy import MAX_HEAD, connect_through
from tunneld.proxyurl import Proxy
from tunneld.session import SessionError
from tunneld.transport.plain import PlainTransport
from tunneld.transport.stream import TransportStream, connect_tcp

TARGET = Address("edge.example", 443)
OK = b"HTTP/1.1 200 Connection established\r\n\r\n"


async def ask(serve: Serve, target: Address = TARGET, credentials: bytes = b"") -> str:
    """What it fails with; "" if it does not."""
    async with listening(serve) as port:
        proxy = Proxy("http", Address("127.0.0.1", port), credentials)
        stream = TransportStream(PlainTransport(await connect_tcp("127.0.0.1", port)))
        try:
            with trio.fail_after(5):
                await connect_through(stream, proxy, target)
        except SessionError as exc:
            return str(exc)
        finally:
            stream.abort()
    return ""


async def head_for(target: Address, credentials: bytes = b"") -> bytes:
    heads = []

    async def serve(stream: trio.abc.Stream) -> None:
        heads.append(await stream.receive_some(65536))
        await stream.send_all(OK)

    assert not await ask(serve, target, credentials)
    return bytes(heads[0])


async def test_the_request_is_as_in_rfc_9110() -> None:
    # Section 9.3.6, the example, with the fields that HTTP/1.1 wants.
    expected = b"CONNECT server.example.com:80 HTTP/1.1\r\nHost: server.example.com:80\r\n\r\n"
    assert await head_for(Address("server.example.com", 80)) == expected


async def test_an_ipv6_address_has_brackets() -> None:
    assert (await head_for(Address("2001:db8::1", 443))).startswith(b"CONNECT [2001:db8::1]:443 ")


async def test_credentials_are_sent_ahead() -> None:
    head = await head_for(TARGET, b"Aladdin:open sesame")
    assert b"\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n" in head


@pytest.mark.parametrize(
    "answer",
    [
        (OK,),
        (b"HTTP/1.0 200 OK\r\n\r\n",),
        (b"HTTP/1.1 204 Fine\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",),  # to be ignored, section 9.3.6
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", OK),
        tuple(OK[at : at + 1] for at in range(len(OK))),
    ],
)
async def test_any_success_will_do(answer: tuple[bytes, ...]) -> None:
    assert not await ask(replying(*answer, close=False))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n",
            "answers CONNECT edge.example:443 with 403 Forbidden",
        ),
        (
            b"HTTP/1.1 502 Bad Gateway\r\nProxy-Status: squid; error=dns_error\r\n\r\n",
            "answers CONNECT edge.example:443 with 502 Bad Gateway (squid; error=dns_error)",
        ),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n\r\n",
            "answers CONNECT edge.example:443 with 302 Found",
        ),
        (b"SSH-2.0-OpenSSH\r\n", "answers CONNECT with what is no HTTP: b'SSH-2.0-OpenSSH"),
        (b"\x15\x03\x01\x00\x02", "answers CONNECT with what is no HTTP: b'\\x15\\x03"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "answers CONNECT with what is no HTTP: illegal status line"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "answers CONNECT with what is no HTTP: illegal"),
        (b"", "closed the connection amid CONNECT: without a word"),
        (b"HTTP/1.1 200", "closed the connection amid CONNECT: behind b'HTTP/1.1 200'"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2 * MAX_HEAD, "no HTTP: Receive buffer too long"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 11, "no HTTP: more than 10 interim responses"),
        (
            b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0-OpenSSH\r\n",
            "sends 17 octets behind its 200, before we said a word: is there TLS at edge.example",
        ),
    ],
)
async def test_what_it_says_instead_is_told(answer: bytes, said: str) -> None:
    assert said in await ask(replying(answer))


async def test_octets_that_are_no_text_are_not_passed_on() -> None:
    answer = b"HTTP/1.1 500 bad\xff\x9b\r\nContent-Length: 0\r\n\r\n"
    assert (await ask(replying(answer))).endswith("with 500 bad??")


async def test_of_a_long_answer_the_beginning_is_told() -> None:
    assert len(await ask(replying(b"HTTP/1.1 200(" + b"x" * 5_000 + b"\r\n\r\n"))) < 500


async def test_credentials_are_asked_for() -> None:
    said = await ask(HonestProxy(credentials=b"bWU6c2VjcmV0"))
    assert said.endswith(
        "with 407 Proxy Authentication Required: it wants credentials;"
        ' it offers Basic realm="test", tunneld knows Basic: see http-proxy'
    )


async def test_wrong_credentials_are_told_and_not_shown() -> None:
    said = await ask(HonestProxy(credentials=b"bWU6c2VjcmV0"), credentials=b"me:wrong")
    assert "with 407 Proxy Authentication Required: it does not take the credentials" in said
    assert "wrong" not in said


async def test_a_reset_is_told() -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        assert isinstance(stream, trio.SocketStream)
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.socket.close()

    assert "closed the connection amid CONNECT: " in await ask(serve)
