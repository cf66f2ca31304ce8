"""What comes first on a connection: heads of HTTP/1.1, SOCKS5, a proxy's answer, PROXY headers."""

from collections.abc import Callable

import trio

from ctl.address import Address
from tests.fuzz.target import Target, same_for_all_cuts
from tunneld.agent.httpproxy import MAX_HEAD as MAX_REPLY
from tunneld.agent.httpproxy import connect_through
from tunneld.dialing import DialError, join_authority, split_authority
from tunneld.proxyprotocol import ProxyProtocolError, parse_header
from tunneld.proxyurl import Proxy, parse_proxy
from tunneld.server.credentials import parse_credentials
from tunneld.server.http1 import MAX_HEAD, BadRequestError, HeadReader
from tunneld.session import SessionError
from tunneld.socks5 import SocksError, parse_greeting, parse_login, parse_request
from tunneld.transport.stream import TransportStream


def run_http1(octets: bytes) -> None:
    """A CONNECT head, its address, its credentials."""
    same_for_all_cuts(octets, _head)
    assert _head([octets]) is not False


def _head(parts: list[bytes]) -> object:
    """The head and what is behind it; None if it is not complete; True if it is refused well."""
    reader = HeadReader()
    try:
        for index, part in enumerate(parts):
            found = reader.feed(part)
            assert len(reader._octets) <= MAX_HEAD + len(part)
            if found is not None:
                head, behind = found
                check_authority(head.target)
                parse_credentials(head.headers.values())
                return head, behind + b"".join(parts[index + 1 :])
    except BadRequestError as exc:
        return exc.reply.startswith(b"HTTP/1.1 4")
    return None


def check_authority(text: str) -> None:
    """An address is refused, or it is one and stays the same."""
    try:
        host, port = split_authority(text)
    except DialError:
        return
    assert split_authority(join_authority(host, port)) == (host, port)


def run_socks(octets: bytes) -> None:
    """Each of a client's three messages."""
    for parse in (parse_greeting, parse_login, parse_request):
        _check_prefixes(octets, parse)


def _check_prefixes(octets: bytes, parse: Callable[[bytes], tuple[object, int] | None]) -> None:
    """A message is the same however much of it, or behind it, has come."""
    whole = _parsed(octets, parse)
    for end in range(min(len(octets), 600)):
        found = _parsed(octets[:end], parse)
        if found is not None:
            assert found == whole
            break


def _parsed(octets: bytes, parse: Callable[[bytes], tuple[object, int] | None]) -> object:
    try:
        found = parse(octets)
    except SocksError as exc:
        return exc.reply, str(exc)
    if found is not None:
        message, end = found
        assert 0 < end <= len(octets)
        if isinstance(message, str):
            assert message.isprintable()
            assert " " not in message
            check_authority(message)
    return found


def run_proxy_reply(octets: bytes) -> None:
    """What an HTTP proxy answers to an agent's CONNECT."""
    trio.run(_connect_through, octets)


_PROXY: Proxy = parse_proxy("http://user:secret@proxy.example:3128")
_TARGET = Address("server.example", 8091)


class _Answers(TransportStream):
    """A stream to a proxy that says ``octets`` and then no more."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        size = min(max_bytes or MAX_REPLY, 100)
        piece, self._octets = self._octets[:size], self._octets[size:]
        return piece


async def _connect_through(octets: bytes) -> None:
    said = ""
    try:
        await connect_through(_Answers(octets), _PROXY, _TARGET)
    except SessionError as exc:
        said = str(exc)
    assert len(said) < 1_000
    assert "secret" not in said or b"secret" in octets


def run_proxy_protocol(octets: bytes) -> None:
    """A header of the PROXY protocol, as the tests' servers read it."""
    try:
        found = parse_header(octets)
    except ProxyProtocolError:
        return
    if found is not None:
        header, end = found
        assert end <= len(octets)
        again = parse_header(header.encode())
        assert again is not None


_HEADS = [
    b"CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\nUser-Agent: x\r\n\r\n",
    b"CONNECT [::1]:80 HTTP/1.1\r\nProxy-Authorization: Basic dTpw\r\n\r\nbehind",
    b"CONNECT user@a:1 HTTP/1.0\n\n",
    b"CONNECT /path HTTP/1.1\r\nHost: b:2\r\n\r\n",
    b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, close\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
]
_REPLIES = [
    b"HTTP/1.1 200 Connection established\r\nVia: proxy\r\n\r\n",
    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Digest\r\n\r\n",
    b"HTTP/1.0 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\n",
    b'HTTP/1.1 502 Bad\r\nProxy-Status: p; error=dns_error; details="x"\r\n\r\n',
]
_SIGN = b"\r\n\r\n\0\r\nQUIT\n"
_WORDS = [
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b"\n\n",
    b":",
    b"[",
    b"]",
    b"@",
    b" ",
    b"HTTP/1.1",
    b"Host: ",
]

TARGETS = [
    Target("http1", run_http1, _HEADS, [*_WORDS, b"CONNECT ", b"\0", b"Content-Length: 5\r\n"]),
    Target(
        "socks5",
        run_socks,
        [
            b"\x05\x02\x00\x02",
            b"\x01\x04user\x04pass",
            b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50",
            b"\x05\x01\x00\x03\x09localhost\x00\x50",
            b"\x05\x01\x00\x03\x03::1\x00\x50",
            b"\x05\x01\x00\x04" + bytes(15) + b"\x01\x00\x50",
            b"\x04\x01\x00\x50\x7f\x00\x00\x01user\x00",
        ],
        [b"\x05", b"\x00", b"\x01", b"\x03", b"\x04", b"::ffff:1.2.3.4", b"%eth0", b"\xff"],
    ),
    Target("http-proxy", run_proxy_reply, _REPLIES, [*_WORDS, b"HTTP/1.1 100 x\r\n\r\n", b"200"]),
    Target(
        "proxy-protocol",
        run_proxy_protocol,
        [
            _SIGN + b"\x21\x11\x00\x0c" + bytes(12),
            _SIGN + b"\x21\x21\x00\x24" + bytes(36),
            _SIGN + b"\x20\x00\x00\x00",
            _SIGN + b"\x21\x11\x00\x19" + bytes(12) + b"\x20\x00\x05\x01\0\0\0\0\x02\x00\x02ab",
        ],
        [_SIGN, b"\x20\x00\x05\x01\0\0\0\0", b"\x21\x00\x01x", b"\x02\x00\x01y"],
    ),
]
