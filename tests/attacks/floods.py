"""Floods of HTTP/2 frames: what is sent again and again, and what it must be answered with.

The octets are put together by hand (`tests.interop.malformed`). A flood is told by its turn, and
begins at stream 3: stream 1 is there already.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.attacks.attacker import PIECE
from tests.interop.malformed import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GET,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    literal,
    settings,
    u32,
)

CANCEL = 0x8


@dataclass(frozen=True)
class Flood:
    """Octets by turn, after some ``first``; the ``code`` with which the connection ends."""

    turn: Callable[[int], bytes]
    code: int = ENHANCE_YOUR_CALM
    first: bytes = b""

    def pieces(self, before: bytes = b"") -> Iterator[bytes]:
        """The flood without end, in writes of some size, the first few in small ones."""
        yield before + self.first
        turns = itertools.count()
        while True:
            piece = bytearray()
            while len(piece) < PIECE:
                piece += self.turn(next(turns))
            yield bytes(piece)


def connect_block(authority: str) -> bytes:
    """The header block of a CONNECT (RFC 9113 section 8.5)."""
    name = authority.encode()
    return b"\x02\x07CONNECT" + b"\x01" + bytes([len(name)]) + name


def _stream(turn: int) -> int:
    return 2 * turn + 3


_BOMB = b"\x40\x01x\x7f\xa1\x1e" + b"v" * 4_000 + b"\xbe" * 10_000
"""A field of 4000 octets, put in the table once and named 10,000 times: 40 MB from 14 KB."""

EITHER_ROLE: dict[str, Flood] = {
    "PING": Flood(lambda turn: frame(PING, 0, 0, bytes(8))),
    "PING ACK that answers nothing": Flood(lambda turn: frame(PING, 1, 0, bytes(8))),
    "SETTINGS": Flood(lambda turn: settings()),
    "SETTINGS ACK that answers nothing": Flood(lambda turn: frame(SETTINGS, 1, 0)),
    "empty DATA": Flood(lambda turn: frame(DATA, 0, 1)),
    "DATA of padding alone": Flood(lambda turn: frame(DATA, 8, 1, b"\xff" + bytes(255))),
    "WINDOW_UPDATE": Flood(lambda turn: frame(WINDOW_UPDATE, 0, 0, u32(1))),
    "WINDOW_UPDATE of a stream": Flood(lambda turn: frame(WINDOW_UPDATE, 0, 1, u32(1))),
    "a window above 2^31-1": Flood(
        lambda turn: frame(WINDOW_UPDATE, 0, 0, u32(2**31 - 1)), FLOW_CONTROL_ERROR
    ),
    "PRIORITY": Flood(lambda turn: frame(PRIORITY, 0, _stream(turn), bytes(5))),
    "frames of unknown type": Flood(lambda turn: frame(0xBB, 0, 0, b"x")),
    "GOAWAY": Flood(lambda turn: frame(GOAWAY, 0, 0, bytes(8))),
    "a frame of 16 MiB": Flood(
        lambda turn: bytes(PIECE), FRAME_SIZE_ERROR, b"\xff\xff\xff\0\0" + u32(1)
    ),
}
"""Of a peer in either role of HTTP/2. Stream 1 must be open for its DATA."""


def of_client(authority: str) -> dict[str, Flood]:
    """Floods of a peer that is HTTP/2's client; ``authority`` is something it can reach."""
    block = connect_block(authority)

    def rapid_reset(turn: int) -> bytes:
        """CVE-2023-44487."""
        stream = _stream(turn)
        opened = frame(HEADERS, END_HEADERS, stream, block)
        return opened + frame(RST_STREAM, 0, stream, u32(CANCEL))

    def made_you_reset(turn: int) -> bytes:
        """CVE-2025-8671."""
        stream = _stream(turn)
        opened = frame(HEADERS, END_HEADERS, stream, block)
        return opened + frame(WINDOW_UPDATE, 0, stream, u32(0))

    return EITHER_ROLE | {
        "rapid reset": Flood(rapid_reset),
        "made you reset": Flood(made_you_reset),
        "empty HEADERS": Flood(lambda turn: frame(HEADERS, END_HEADERS, _stream(turn))),
        "CONTINUATION": _continuations(3, b""),
        "CONTINUATION, full": _continuations(3, literal(b"x-pad", bytes(100)) * 150),
        "HPACK bomb": _bomb(3, GET),
    }


def of_server(status: bytes) -> dict[str, Flood]:
    """Floods of a peer that is HTTP/2's server, and has been asked something on stream 1.

    Args:
      status: a header block with the answer's ``:status``.
    """
    answered = frame(HEADERS, END_HEADERS, 1, status)
    hint = frame(HEADERS, END_HEADERS, 1, b"\x08\x03103")  # :status, not indexed
    floods = {
        name: Flood(flood.turn, flood.code, answered + flood.first)
        for name, flood in EITHER_ROLE.items()
    }
    return floods | {
        "103 without end": Flood(lambda turn: hint),
        "CONTINUATION": _continuations(1, b""),
        "CONTINUATION, full": _continuations(1, literal(b"x-pad", bytes(100)) * 150),
        "HPACK bomb": _bomb(1, status),
    }


def _continuations(stream: int, fragment: bytes) -> Flood:
    """CVE-2024-27316: a header block that never ends."""
    first = frame(HEADERS, 0, stream)
    return Flood(lambda turn: frame(CONTINUATION, 0, stream, fragment), first=first)


def _bomb(stream: int, before: bytes) -> Flood:
    block = before + _BOMB
    return Flood(lambda turn: frame(HEADERS, END_HEADERS, stream + 2 * turn, block))
