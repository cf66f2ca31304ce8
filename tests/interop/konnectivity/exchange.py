"""HTTP/1.1 as far as the tests need it: one request on a connection, bodies by Content-Length.

Both sides are here: `get` and `post` ask, `answer` is what a target does.

    GET /SIZE    → SIZE octets of `pattern`
    POST /       → the body, while it is still coming
"""

import functools
import hashlib
import random
from dataclasses import dataclass

import trio

from tests.interop.konnectivity.nurseries import open_plain_nursery

CHUNK = 64 << 10


class IncompleteError(Exception):
    """The connection ended before what was announced had come."""


class UnexpectedError(Exception):
    """Something came that has no place there."""


class Reader:
    """Octets of a stream, with those that were read too early."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self.stream = stream
        self.kept = b""

    async def some(self, limit: int) -> bytes:
        """Some octets; none at the end. A reset is an end too."""
        if not self.kept:
            try:
                self.kept = bytes(await self.stream.receive_some(CHUNK))
            except trio.BrokenResourceError:
                return b""
        taken, self.kept = self.kept[:limit], self.kept[limit:]
        return taken

    async def exactly(self, size: int) -> bytes:
        """
        Raises:
          IncompleteError: there are less.
        """
        pieces: list[bytes] = []
        missing = size
        while missing:
            piece = await self.some(missing)
            if not piece:
                raise IncompleteError(f"{size - missing} of {size} octets")
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    async def head(self) -> tuple[str, int]:
        """The first line of a head, and its Content-Length (0 if there is none)."""
        octets = b""
        while b"\r\n\r\n" not in octets:
            piece = await self.some(CHUNK)
            if not piece:
                raise IncompleteError(f"{len(octets)} octets of a head: {octets[:80]!r}")
            octets += piece
        head, _, self.kept = octets.partition(b"\r\n\r\n")
        first, *fields = head.decode().split("\r\n")
        lengths = [line.partition(":")[2] for line in fields if line.startswith("Content-Length:")]
        return first, int(lengths[0]) if lengths else 0

    async def end(self) -> None:
        """
        Raises:
          UnexpectedError: something else comes before the end.
        """
        if octets := await self.some(CHUNK):
            raise UnexpectedError(f"{len(octets)} octets behind the end: {octets[:40]!r}")


@functools.lru_cache(maxsize=8)
def pattern(size: int) -> bytes:
    """Octets in which no part is like another."""
    return random.Random(size).randbytes(size)


@dataclass(frozen=True)
class Body:
    """What came of a body."""

    size: int
    sha256: str


def body_of(octets: bytes) -> Body:
    return Body(len(octets), hashlib.sha256(octets).hexdigest())


async def get(stream: trio.abc.Stream, size: int) -> Body:
    """GET ``size`` octets, up to the connection's end.

    Raises:
      IncompleteError, UnexpectedError
    """
    await send(stream, f"GET /{size} HTTP/1.1\r\nHost: target\r\n\r\n".encode())
    return await _response(Reader(stream))


async def post(stream: trio.abc.Stream, octets: bytes) -> Body:
    """POST ``octets`` and read what comes back in the meantime.

    Raises:
      IncompleteError, UnexpectedError
    """
    head = f"POST / HTTP/1.1\r\nHost: target\r\nContent-Length: {len(octets)}\r\n\r\n"
    async with open_plain_nursery() as nursery:
        nursery.start_soon(send, stream, head.encode() + octets)
        return await _response(Reader(stream))


async def send(stream: trio.abc.SendStream, octets: bytes) -> None:
    """Send all. When the connection is over, reading tells it, not this."""
    view = memoryview(octets)
    try:
        for start in range(0, len(view), CHUNK):
            await stream.send_all(view[start : start + CHUNK])
    except trio.BrokenResourceError:
        return


async def _response(reader: Reader) -> Body:
    first, size = await reader.head()
    if first != "HTTP/1.1 200 OK":
        raise UnexpectedError(first)
    body = body_of(await reader.exactly(size))
    await reader.end()
    return body


async def answer(stream: trio.abc.Stream) -> None:
    """One request of a target."""
    reader = Reader(stream)
    first, size = await reader.head()
    method, path, _ = first.split(" ")
    if method == "GET":
        size = int(path.removeprefix("/"))
        await send(stream, ok(size) + pattern(size))
        return
    await send(stream, ok(size))
    while size:
        piece = await reader.some(size)
        if not piece:
            return
        await send(stream, piece)
        size -= len(piece)


def ok(size: int) -> bytes:
    """The head of an answer with ``size`` octets."""
    return f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode()
