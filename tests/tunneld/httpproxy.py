"""An HTTP proxy for tests: an honest one, and replies that no proxy should give."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

Serve = Callable[[trio.abc.Stream], Awaitable[None]]


@dataclass
class HonestProxy:
    """CONNECT, and nothing else."""

    credentials: bytes = b""
    """What ``Proxy-Authorization: Basic`` must say, in base64; b"" asks for none."""
    heads: list[bytes] = field(default_factory=list)
    """Of the requests so far."""

    async def __call__(self, stream: trio.abc.Stream) -> None:
        head = await read_head(stream)
        if not head:
            return
        self.heads.append(head)
        if self.credentials and b"Proxy-Authorization: Basic " + self.credentials not in head:
            await stream.send_all(
                b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                b'Proxy-Authenticate: Basic realm="test"\r\nContent-Length: 0\r\n\r\n'
            )
            return
        host, port = head.split()[1].rsplit(b":", 1)
        try:
            far = await trio.open_tcp_stream(host.strip(b"[]").decode(), int(port))
        except OSError:
            await stream.send_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        await stream.send_all(b"HTTP/1.1 200 OK\r\nVia: 1.1 test\r\n\r\n")
        async with far, trio.open_nursery() as nursery:
            nursery.start_soon(_copy, stream, far)
            await _copy(far, stream)
            nursery.cancel_scope.cancel()


async def _copy(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
    while data := await source.receive_some(65536):
        await sink.send_all(data)
    if isinstance(sink, trio.abc.HalfCloseableStream):
        await sink.send_eof()


async def read_head(stream: trio.abc.Stream) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        data = await stream.receive_some(65536)
        if not data:
            return head
        head += data
    return head


def replying(*pieces: bytes, close: bool = True) -> Serve:
    """One that answers any head with the pieces, and closes or falls silent."""

    async def serve(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        for piece in pieces:
            await stream.send_all(piece)
        if not close:
            await trio.sleep_forever()

    return serve


@asynccontextmanager
async def listening(serve: Serve, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A port whose connections ``serve`` gets, while the block runs."""

    async def handle(stream: trio.SocketStream) -> None:
        wrapped: trio.abc.Stream = stream
        if context is not None:
            wrapped = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        try:
            await serve(wrapped)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()
