"""Malformed HTTP/2 connections: all that a client says, and what a server must make of it.

Octets as they go over the wire, put together by hand: no part of ours has a say in them. Header
fields are named by their index in the static table of RFC 7541 appendix A, or are literals.
"""

from dataclasses import dataclass

NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED = 0x0, 0x1, 0x3, 0x5
FRAME_SIZE_ERROR, REFUSED_STREAM, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 0x6, 0x7, 0x9, 0xB

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0x0, 0x1, 0x2, 0x3, 0x4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0x5, 0x6, 0x7, 0x8, 0x9

ACK, END_STREAM, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20
COMPLETE = END_HEADERS | END_STREAM


@dataclass(frozen=True)
class Malformed:
    """What a client says, and the error that ends the connection, or else one stream.

    Attributes:
      code: of the GOAWAY, or of the RST_STREAM of ``stream_id`` unless that is 0.
    """

    wire: bytes
    code: int
    stream_id: int = 0


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream_id.to_bytes(4) + payload


def settings(*entries: tuple[int, int]) -> bytes:
    payload = b"".join(code.to_bytes(2) + value.to_bytes(4) for code, value in entries)
    return frame(SETTINGS, 0, 0, payload)


def u32(value: int) -> bytes:
    return value.to_bytes(4)


def literal(name: bytes, value: bytes) -> bytes:
    """A field that goes into no table (RFC 7541 section 6.2.2); both parts below 127 octets."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HELLO = PREFACE + settings()

METHOD_GET, METHOD_POST, PATH, SCHEME = b"\x82", b"\x83", b"\x84", b"\x87"
AUTHORITY = b"\x01\x0bexample.com"
GET = METHOD_GET + SCHEME + PATH + AUTHORITY
POST = METHOD_POST + SCHEME + PATH + AUTHORITY
CONNECT = b"\x02\x07CONNECT"
TRAILERS = literal(b"x-check", b"1")

OPEN = HELLO + frame(HEADERS, END_HEADERS, 1, POST)
"""A request on stream 1 whose body may come."""
HALF_CLOSED = HELLO + frame(HEADERS, COMPLETE, 1, GET)
RESET = OPEN + frame(RST_STREAM, 0, 1, u32(8))


def request(block: bytes, flags: int = COMPLETE) -> bytes:
    """A connection with one request on stream 1."""
    return HELLO + frame(HEADERS, flags, 1, block)


def fatal(code: int, wire: bytes) -> Malformed:
    return Malformed(wire, code)


def broken(wire: bytes, code: int = PROTOCOL_ERROR, stream_id: int = 1) -> Malformed:
    return Malformed(wire, code, stream_id)


_BEGINNINGS = {
    "3.4 HTTP/1.1 instead of a preface": fatal(
        PROTOCOL_ERROR, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    ),
    "3.4 HTTP/1.1 upgrade instead of a preface": fatal(
        PROTOCOL_ERROR, b"OPTIONS * HTTP/1.1\r\nUpgrade: h2c\r\n\r\n"
    ),
    "3.4 TLS instead of a preface": fatal(PROTOCOL_ERROR, bytes.fromhex("160301020001fc0303")),
    "3.4 a SOCKS greeting instead of a preface": fatal(PROTOCOL_ERROR, b"\x05\x01\x00"),
    "3.4 zeros instead of a preface": fatal(PROTOCOL_ERROR, bytes(100)),
    "3.4 a preface that ends wrongly": fatal(PROTOCOL_ERROR, PREFACE[:-1] + b"\r" + settings()),
    "3.4 a preface of HTTP/3.0": fatal(PROTOCOL_ERROR, PREFACE.replace(b"2.0", b"3.0")),
    "3.4 a preface twice": fatal(FRAME_SIZE_ERROR, PREFACE + PREFACE),
    "3.4 no SETTINGS but a request": fatal(
        PROTOCOL_ERROR, PREFACE + frame(HEADERS, COMPLETE, 1, GET)
    ),
    "3.4 no SETTINGS but a PING": fatal(PROTOCOL_ERROR, PREFACE + frame(PING, 0, 0, bytes(8))),
    "3.4 no SETTINGS but an ACK": fatal(PROTOCOL_ERROR, PREFACE + frame(SETTINGS, ACK, 0)),
    "3.4 no SETTINGS but an unknown frame": fatal(PROTOCOL_ERROR, PREFACE + frame(0xBB, 0, 0)),
}

_SIZES = {
    "4.2 DATA above the limit": fatal(FRAME_SIZE_ERROR, OPEN + frame(DATA, 0, 1, bytes(16_385))),
    "4.2 HEADERS above the limit": fatal(
        FRAME_SIZE_ERROR, HELLO + frame(HEADERS, COMPLETE, 1, GET + bytes(16_384))
    ),
    "4.2 an unknown frame above the limit": fatal(
        FRAME_SIZE_ERROR, HELLO + frame(0xBB, 0, 0, bytes(16_385))
    ),
    "4.2 the header alone of 16 MiB": fatal(
        FRAME_SIZE_ERROR, OPEN + bytes.fromhex("ffffff 00 00 00000001")
    ),
    "6.3 PRIORITY of 4 octets": broken(OPEN + frame(PRIORITY, 0, 1, bytes(4)), FRAME_SIZE_ERROR),
    "6.3 PRIORITY of 6 octets": broken(OPEN + frame(PRIORITY, 0, 1, bytes(6)), FRAME_SIZE_ERROR),
    "6.4 RST_STREAM of 3 octets": fatal(FRAME_SIZE_ERROR, OPEN + frame(RST_STREAM, 0, 1, b"abc")),
    "6.4 RST_STREAM of nothing": fatal(FRAME_SIZE_ERROR, OPEN + frame(RST_STREAM, 0, 1)),
    "6.5 SETTINGS of 5 octets": fatal(FRAME_SIZE_ERROR, HELLO + frame(SETTINGS, 0, 0, bytes(5))),
    "6.5 SETTINGS ACK with a payload": fatal(
        FRAME_SIZE_ERROR, HELLO + frame(SETTINGS, ACK, 0, bytes(6))
    ),
    "6.7 PING of 7 octets": fatal(FRAME_SIZE_ERROR, HELLO + frame(PING, 0, 0, bytes(7))),
    "6.7 PING of 9 octets": fatal(FRAME_SIZE_ERROR, HELLO + frame(PING, 0, 0, bytes(9))),
    "6.7 PING ACK of nothing": fatal(FRAME_SIZE_ERROR, HELLO + frame(PING, ACK, 0)),
    "6.8 GOAWAY of 4 octets": fatal(FRAME_SIZE_ERROR, HELLO + frame(GOAWAY, 0, 0, bytes(4))),
    "6.9 WINDOW_UPDATE of 5 octets": fatal(
        FRAME_SIZE_ERROR, HELLO + frame(WINDOW_UPDATE, 0, 0, bytes(5))
    ),
    "6.9 WINDOW_UPDATE of nothing": fatal(FRAME_SIZE_ERROR, HELLO + frame(WINDOW_UPDATE, 0, 0)),
}

_PADDING = {
    "6.1 padding as long as the frame": fatal(
        PROTOCOL_ERROR, OPEN + frame(DATA, PADDED, 1, b"\x06data.")
    ),
    "6.1 padding longer than the frame": fatal(
        PROTOCOL_ERROR, OPEN + frame(DATA, PADDED | END_STREAM, 1, b"\xffdata")
    ),
    "6.1 padded, and nothing there": fatal(FRAME_SIZE_ERROR, OPEN + frame(DATA, PADDED, 1)),
    "6.2 padding longer than the block": fatal(
        PROTOCOL_ERROR, HELLO + frame(HEADERS, COMPLETE | PADDED, 1, b"\x40" + GET)
    ),
    "6.2 padded, and nothing there": fatal(
        FRAME_SIZE_ERROR, HELLO + frame(HEADERS, COMPLETE | PADDED, 1)
    ),
    "6.2 padding that eats into the priority": fatal(
        FRAME_SIZE_ERROR, HELLO + frame(HEADERS, COMPLETE | PADDED | PRIORITIZED, 1, b"\x02abcdef")
    ),
    "6.2 a priority cut short": fatal(
        FRAME_SIZE_ERROR, HELLO + frame(HEADERS, COMPLETE | PRIORITIZED, 1, b"abc")
    ),
}

_STREAMS = {
    "5.1 DATA on an idle stream": fatal(PROTOCOL_ERROR, HELLO + frame(DATA, 0, 1, b"x")),
    "5.1 RST_STREAM on an idle stream": fatal(
        PROTOCOL_ERROR, HELLO + frame(RST_STREAM, 0, 1, u32(8))
    ),
    "5.1 WINDOW_UPDATE on an idle stream": fatal(
        PROTOCOL_ERROR, HELLO + frame(WINDOW_UPDATE, 0, 1, u32(1))
    ),
    "5.1 CONTINUATION on an idle stream": fatal(
        PROTOCOL_ERROR, HELLO + frame(CONTINUATION, END_HEADERS, 1, GET)
    ),
    "5.1 DATA on a half-closed stream": broken(
        HALF_CLOSED + frame(DATA, 0, 1, b"x"), STREAM_CLOSED
    ),
    "5.1 HEADERS on a half-closed stream": broken(
        HALF_CLOSED + frame(HEADERS, COMPLETE, 1, TRAILERS), STREAM_CLOSED
    ),
    "5.1 DATA after RST_STREAM": broken(RESET + frame(DATA, 0, 1, b"x"), STREAM_CLOSED),
    "5.1 HEADERS after RST_STREAM": fatal(
        STREAM_CLOSED, RESET + frame(HEADERS, COMPLETE, 1, TRAILERS)
    ),
    "5.1.1 a request on an even stream": fatal(
        PROTOCOL_ERROR, HELLO + frame(HEADERS, COMPLETE, 2, GET)
    ),
    "5.1.1 a request on a lower stream": fatal(
        PROTOCOL_ERROR,
        HELLO + frame(HEADERS, COMPLETE, 5, GET) + frame(HEADERS, COMPLETE, 3, GET),
    ),
    "5.1.1 DATA on a stream that was skipped": fatal(
        PROTOCOL_ERROR, HELLO + frame(HEADERS, COMPLETE, 5, GET) + frame(DATA, 0, 3, b"x")
    ),
    "6.1 DATA on stream 0": fatal(PROTOCOL_ERROR, HELLO + frame(DATA, 0, 0, b"x")),
    "6.2 HEADERS on stream 0": fatal(PROTOCOL_ERROR, HELLO + frame(HEADERS, COMPLETE, 0, GET)),
    "6.3 PRIORITY on stream 0": fatal(PROTOCOL_ERROR, HELLO + frame(PRIORITY, 0, 0, bytes(5))),
    "6.4 RST_STREAM on stream 0": fatal(PROTOCOL_ERROR, HELLO + frame(RST_STREAM, 0, 0, u32(8))),
    "6.5 SETTINGS on stream 1": fatal(PROTOCOL_ERROR, HELLO + frame(SETTINGS, 0, 1)),
    "6.6 PUSH_PROMISE from a client": fatal(
        PROTOCOL_ERROR, OPEN + frame(PUSH_PROMISE, END_HEADERS, 1, u32(2) + GET)
    ),
    "6.7 PING on stream 1": fatal(PROTOCOL_ERROR, HELLO + frame(PING, 0, 1, bytes(8))),
    "6.8 GOAWAY on stream 1": fatal(PROTOCOL_ERROR, HELLO + frame(GOAWAY, 0, 1, bytes(8))),
    "6.10 CONTINUATION on stream 0": fatal(
        PROTOCOL_ERROR,
        HELLO + frame(HEADERS, END_STREAM, 1, GET) + frame(CONTINUATION, END_HEADERS, 0, TRAILERS),
    ),
}

_SETTINGS_AND_WINDOWS = {
    "6.5.2 ENABLE_PUSH of 2": fatal(PROTOCOL_ERROR, PREFACE + settings((2, 2))),
    "6.5.2 INITIAL_WINDOW_SIZE of 2^31": fatal(FLOW_CONTROL_ERROR, PREFACE + settings((4, 2**31))),
    "6.5.2 INITIAL_WINDOW_SIZE of 2^32-1": fatal(
        FLOW_CONTROL_ERROR, HELLO + settings((4, 2**32 - 1))
    ),
    "6.5.2 MAX_FRAME_SIZE of 16383": fatal(PROTOCOL_ERROR, PREFACE + settings((5, 16_383))),
    "6.5.2 MAX_FRAME_SIZE of 2^24": fatal(PROTOCOL_ERROR, PREFACE + settings((5, 2**24))),
    "RFC 8441 ENABLE_CONNECT_PROTOCOL of 2": fatal(PROTOCOL_ERROR, PREFACE + settings((8, 2))),
    "RFC 8441 ENABLE_CONNECT_PROTOCOL taken back": fatal(
        PROTOCOL_ERROR, PREFACE + settings((8, 1)) + settings((8, 0))
    ),
    "6.9 increment of 0 on the connection": fatal(
        PROTOCOL_ERROR, HELLO + frame(WINDOW_UPDATE, 0, 0, u32(0))
    ),
    "6.9 increment of 0 on a stream": broken(OPEN + frame(WINDOW_UPDATE, 0, 1, u32(0))),
    "6.9.1 the connection's window above 2^31-1": fatal(
        FLOW_CONTROL_ERROR, HELLO + frame(WINDOW_UPDATE, 0, 0, u32(2**31 - 1))
    ),
    "6.9.1 a stream's window above 2^31-1": broken(
        OPEN + frame(WINDOW_UPDATE, 0, 1, u32(2**31 - 1)), FLOW_CONTROL_ERROR
    ),
    "6.9.2 a stream's window above 2^31-1 by SETTINGS": fatal(
        FLOW_CONTROL_ERROR,
        OPEN + frame(WINDOW_UPDATE, 0, 1, u32(2**31 - 1 - 65_535)) + settings((4, 65_536)),
    ),
}

_BLOCKS = {
    "6.10 DATA amid a block": fatal(
        PROTOCOL_ERROR, OPEN + frame(HEADERS, 0, 3, GET) + frame(DATA, 0, 1, b"x")
    ),
    "6.10 PING amid a block": fatal(
        PROTOCOL_ERROR, HELLO + frame(HEADERS, 0, 1, GET) + frame(PING, 0, 0, bytes(8))
    ),
    "6.10 an unknown frame amid a block": fatal(
        PROTOCOL_ERROR, HELLO + frame(HEADERS, 0, 1, GET) + frame(0xBB, 0, 1)
    ),
    "6.10 another stream's HEADERS amid a block": fatal(
        PROTOCOL_ERROR, HELLO + frame(HEADERS, 0, 1, GET) + frame(HEADERS, COMPLETE, 3, GET)
    ),
    "6.10 another stream's CONTINUATION amid a block": fatal(
        PROTOCOL_ERROR,
        HELLO + frame(HEADERS, 0, 1, GET) + frame(CONTINUATION, END_HEADERS, 3, TRAILERS),
    ),
    "6.10 CONTINUATION after a complete block": fatal(
        PROTOCOL_ERROR, OPEN + frame(CONTINUATION, END_HEADERS, 1, TRAILERS)
    ),
    "6.10 CONTINUATION after DATA": fatal(
        PROTOCOL_ERROR,
        OPEN + frame(DATA, 0, 1, b"x") + frame(CONTINUATION, END_HEADERS, 1, TRAILERS),
    ),
    "10.5 CONTINUATION without end": fatal(
        ENHANCE_YOUR_CALM, HELLO + frame(HEADERS, 0, 1, GET) + frame(CONTINUATION, 0, 1) * 100
    ),
    "10.5 a block without end": fatal(
        ENHANCE_YOUR_CALM,
        HELLO + frame(HEADERS, 0, 1, GET) + frame(CONTINUATION, 0, 1, TRAILERS * 1_000) * 5,
    ),
    "10.5 a header bomb": fatal(
        ENHANCE_YOUR_CALM,
        request(GET + b"\x40\x01x\x7f\xa1\x1e" + b"v" * 4_000 + b"\xbe" * 10_000),
    ),
    "RFC 7541 2.3.3 index beyond the table": fatal(COMPRESSION_ERROR, request(GET + b"\xbe")),
    "RFC 7541 6.1 index 0": fatal(COMPRESSION_ERROR, request(GET + b"\x80")),
    "RFC 7541 5.1 an integer without end": fatal(
        COMPRESSION_ERROR, request(GET + b"\xff" + b"\x80" * 20)
    ),
    "RFC 7541 5.1 an integer cut short": fatal(COMPRESSION_ERROR, request(GET + b"\xff\x80")),
    "RFC 7541 5.2 a name cut short": fatal(COMPRESSION_ERROR, request(GET + b"\x00\x0aabc")),
    "RFC 7541 5.2 a value cut short": fatal(COMPRESSION_ERROR, request(GET + b"\x00\x01a\x7fx")),
    "RFC 7541 5.2 Huffman padding of 8 bits": fatal(
        COMPRESSION_ERROR, request(GET + b"\x00\x01a\x82\x1f\xff")
    ),
    "RFC 7541 5.2 Huffman padding of zeros": fatal(
        COMPRESSION_ERROR, request(GET + b"\x00\x01a\x81\x18")
    ),
    "RFC 7541 5.2 the EOS symbol": fatal(
        COMPRESSION_ERROR, request(GET + b"\x00\x01a\x84\xff\xff\xff\xff")
    ),
    "RFC 7541 4.2 a table size update at the end": fatal(COMPRESSION_ERROR, request(GET + b"\x20")),
    "RFC 7541 6.3 a table above the limit": fatal(
        COMPRESSION_ERROR, request(b"\x3f\xe2\x1f" + GET)
    ),
}

_REQUESTS = {
    "8.3.1 no :method": broken(request(SCHEME + PATH + AUTHORITY)),
    "8.3.1 no :scheme": broken(request(METHOD_GET + PATH + AUTHORITY)),
    "8.3.1 no :path": broken(request(METHOD_GET + SCHEME + AUTHORITY)),
    "8.3.1 no fields at all": broken(request(b"")),
    "8.3.1 an empty :path": broken(request(METHOD_GET + SCHEME + b"\x04\x00" + AUTHORITY)),
    "8.3.1 a :path without a slash": broken(
        request(METHOD_GET + SCHEME + b"\x04\x05index" + AUTHORITY)
    ),
    "8.3.1 an empty :method": broken(request(b"\x02\x00" + SCHEME + PATH + AUTHORITY)),
    "8.3 two :method": broken(request(METHOD_GET + GET)),
    "8.3 two :scheme": broken(request(GET + SCHEME)),
    "8.3 two :path": broken(request(GET + PATH)),
    "8.3 two :authority": broken(request(GET + AUTHORITY)),
    "8.3 :status in a request": broken(request(GET + b"\x88")),
    "8.3 an unknown pseudo-header": broken(request(GET + literal(b":test", b"1"))),
    "8.3 a pseudo-header after a field": broken(
        request(METHOD_GET + SCHEME + PATH + TRAILERS + AUTHORITY)
    ),
    "8.3.1 host of another authority": broken(request(GET + b"\x0f\x17\x0bexample.org")),
    "8.2.1 a name in upper case": broken(request(GET + literal(b"X-Test", b"1"))),
    "8.2.1 an empty name": broken(request(GET + literal(b"", b"1"))),
    "8.2.1 a space in a name": broken(request(GET + literal(b"x test", b"1"))),
    "8.2.1 a colon in a name": broken(request(GET + literal(b"x:test", b"1"))),
    "8.2.1 a line feed in a value": broken(request(GET + literal(b"x", b"1\nevil: 1"))),
    "8.2.1 a carriage return in a value": broken(request(GET + literal(b"x", b"1\r"))),
    "8.2.1 NUL in a value": broken(request(GET + literal(b"x", b"\x00"))),
    "8.2.1 a value that starts with a space": broken(request(GET + literal(b"x", b" 1"))),
    "8.2.1 a line feed in :path": broken(
        request(METHOD_GET + SCHEME + b"\x04\x04/\n/x" + AUTHORITY)
    ),
    "8.2.2 connection": broken(request(GET + literal(b"connection", b"close"))),
    "8.2.2 keep-alive": broken(request(GET + literal(b"keep-alive", b"5"))),
    "8.2.2 proxy-connection": broken(request(GET + literal(b"proxy-connection", b"close"))),
    "8.2.2 transfer-encoding": broken(request(GET + literal(b"transfer-encoding", b"chunked"))),
    "8.2.2 upgrade": broken(request(GET + literal(b"upgrade", b"h2c"))),
    "8.2.2 te other than trailers": broken(request(GET + literal(b"te", b"gzip"))),
    "8.1.1 a content-length of words": broken(request(POST + literal(b"content-length", b"five"))),
    "8.1.1 a content-length below 0": broken(request(POST + literal(b"content-length", b"-1"))),
    "8.1.1 two content-lengths": broken(
        request(POST + literal(b"content-length", b"1") + literal(b"content-length", b"2"))
    ),
    "8.1.1 content-length without a body": broken(request(POST + literal(b"content-length", b"5"))),
    "8.1.1 a body longer than its content-length": broken(
        request(POST + literal(b"content-length", b"2"), END_HEADERS) + frame(DATA, 0, 1, b"abc")
    ),
    "8.1.1 a body shorter than its content-length": broken(
        request(POST + literal(b"content-length", b"5"), END_HEADERS)
        + frame(DATA, END_STREAM, 1, b"abc")
    ),
    "8.1 trailers that do not end the request": broken(
        OPEN + frame(HEADERS, END_HEADERS, 1, TRAILERS)
    ),
    "8.1 trailers with a pseudo-header": broken(OPEN + frame(HEADERS, COMPLETE, 1, METHOD_GET)),
    "8.1 trailers in upper case": broken(
        OPEN + frame(HEADERS, COMPLETE, 1, literal(b"X-Check", b"1"))
    ),
    "8.5 CONNECT without :authority": broken(request(CONNECT, END_HEADERS)),
    "8.5 CONNECT with an empty :authority": broken(request(CONNECT + b"\x01\x00", END_HEADERS)),
    "8.5 CONNECT with :scheme": broken(request(CONNECT + SCHEME + AUTHORITY, END_HEADERS)),
    "8.5 CONNECT with :path": broken(request(CONNECT + PATH + AUTHORITY, END_HEADERS)),
    "8.5 trailers in a tunnel": broken(
        request(CONNECT + AUTHORITY, END_HEADERS) + frame(HEADERS, COMPLETE, 1, TRAILERS)
    ),
    "RFC 8441 :protocol of a GET": broken(request(GET + literal(b":protocol", b"websocket"))),
    "RFC 8441 :protocol that was not offered": broken(
        request(CONNECT + GET[1:] + literal(b":protocol", b"websocket"), END_HEADERS)
    ),
    "RFC 7540 5.3.1 a request that depends on itself": fatal(
        PROTOCOL_ERROR,
        HELLO + frame(HEADERS, COMPLETE | PRIORITIZED, 1, u32(1) + b"\x10" + GET),
    ),
    "RFC 7540 5.3.1 PRIORITY on itself": broken(OPEN + frame(PRIORITY, 0, 1, u32(1) + b"\x10")),
}


def _each(stream_ids: range, *frames: tuple[int, int, bytes]) -> bytes:
    """The same frames on many streams."""
    return b"".join(
        frame(kind, flags, stream_id, payload)
        for stream_id in stream_ids
        for kind, flags, payload in frames
    )


_FLOODS = {
    "5.1.2 more streams than allowed": broken(
        HELLO + _each(range(1, 2 * 257, 2), (HEADERS, END_HEADERS, POST)), REFUSED_STREAM, 513
    ),
    "10.5 rapid reset": fatal(
        ENHANCE_YOUR_CALM,
        HELLO + _each(range(1, 2_001, 2), (HEADERS, END_HEADERS, POST), (RST_STREAM, 0, u32(8))),
    ),
    "10.5 made you reset": fatal(
        ENHANCE_YOUR_CALM,
        HELLO + _each(range(1, 1_001, 2), (HEADERS, END_HEADERS, POST), (WINDOW_UPDATE, 0, u32(0))),
    ),
    "10.5 SETTINGS without end": fatal(ENHANCE_YOUR_CALM, HELLO + settings() * 200),
    "10.5 SETTINGS with thousands of entries": fatal(
        ENHANCE_YOUR_CALM, HELLO + settings(*[(4, 65_535)] * 2_000)
    ),
    "10.5 PING without end": fatal(ENHANCE_YOUR_CALM, HELLO + frame(PING, 0, 0, bytes(8)) * 2_000),
    "10.5 empty DATA without end": fatal(ENHANCE_YOUR_CALM, OPEN + frame(DATA, 0, 1) * 2_000),
    "10.5 GOAWAY without end": fatal(ENHANCE_YOUR_CALM, HELLO + frame(GOAWAY, 0, 0, bytes(8)) * 20),
    "10.5 PRIORITY without end": fatal(
        ENHANCE_YOUR_CALM, OPEN + frame(PRIORITY, 0, 3, bytes(5)) * 12_000
    ),
    "10.5 unknown frames without end": fatal(
        ENHANCE_YOUR_CALM, HELLO + frame(0xBB, 0, 0, b"x") * 12_000
    ),
    "10.5 RST_STREAM without end": fatal(
        ENHANCE_YOUR_CALM, RESET + frame(RST_STREAM, 0, 1, u32(8)) * 12_000
    ),
}

CONNECTIONS: dict[str, Malformed] = (
    _BEGINNINGS
    | _SIZES
    | _PADDING
    | _STREAMS
    | _SETTINGS_AND_WINDOWS
    | _BLOCKS
    | _REQUESTS
    | _FLOODS
)
"""By section of RFC 9113, or of the RFC that is named, and what is wrong."""
