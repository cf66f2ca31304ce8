"""The agent's end of a WebSocket that carries a tunnel."""

import re
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import structlog
import trio

from tunneld.serverurl import ServerUrl
from tunneld.session import SessionError
from tunneld.transport.base import Transport
from tunneld.transport.stream import TransportStream
from tunneld.transport.websocket import (
    MAX_MESSAGE,
    READ_SIZE,
    SUBPROTOCOL,
    UpgradeError,
    carry,
    read_head,
)

if TYPE_CHECKING:
    from trio_websocket import WebSocketConnection

log = structlog.get_logger(__name__)

_SWITCHING = re.compile(rb"HTTP/1\.1 101[ \r\n]")
_TELLING = re.compile(r"^(?:location|server|via): *.*$", re.IGNORECASE | re.MULTILINE)
"""Fields of a refusal that say who refuses, or where to go."""


async def open_websocket(
    pumps: trio.Nursery, transport: Transport, url: ServerUrl
) -> socket.socket:
    """A socket that stands for a WebSocket over ``transport``, which is taken over.

    Args:
      pumps: what carries octets between them runs there.
    Raises:
      SessionError: the other side makes none.
    """
    try:
        sock: socket.socket = await pumps.start(_carry, TransportStream(transport), url)
    except UpgradeError as exc:
        raise SessionError(f"no WebSocket at {url}: {exc}") from exc
    return sock


async def _carry(
    stream: TransportStream, url: ServerUrl, task_status: trio.TaskStatus[socket.socket]
) -> None:
    broken = await carry(stream, partial(_upgrade, stream, url), task_status=task_status)
    if broken is not None:
        log.info("WebSocket lost", server=str(url), error=broken)


async def _upgrade(
    stream: TransportStream, url: ServerUrl, nursery: trio.Nursery
) -> "WebSocketConnection":
    from trio_websocket import wrap_client_stream

    answer = _Answer(stream)
    connection = None
    async with trio.open_nursery() as race:
        race.start_soon(answer.cancel_at_end, race.cancel_scope)
        connection = await wrap_client_stream(
            nursery,
            cast("Any", answer),  # any stream does, whatever the annotation says
            url.authority,
            url.path,
            subprotocols=[SUBPROTOCOL],
            max_message_size=MAX_MESSAGE,
            receive_buffer_size=READ_SIZE,
        )
        race.cancel_scope.cancel()
    if connection is None:
        raise answer.refusal
    if connection.subprotocol != SUBPROTOCOL:
        raise UpgradeError("a WebSocket answers there, but none of tunneld's")
    return connection


class _Answer(trio.abc.Stream):
    """Shows trio-websocket an answer that is a 101, or none: it would keep any other whole, however
    long, and wait forever behind one that ends early."""

    def __init__(self, stream: TransportStream) -> None:
        self._stream = stream
        self._switched = False
        self.refusal = UpgradeError("it closed the connection behind its 101")
        """Why there is no WebSocket, if there is none."""
        self._ended = trio.Event()

    async def cancel_at_end(self, waiting: trio.CancelScope) -> None:
        """Cancel who waits for the WebSocket, once nothing more comes."""
        await self._ended.wait()
        waiting.cancel()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            if not self._switched:
                await self._check_head()
            data = await self._stream.receive_some(max_bytes)
        except BaseException:
            self._ended.set()
            raise
        if not data:
            self._ended.set()
        return data

    async def _check_head(self) -> None:
        try:
            head = await read_head(self._stream)
            if not _SWITCHING.match(head) or not head.isascii():
                raise UpgradeError(f"it answers {_shown(head)}, expected 101")
        except UpgradeError as exc:
            self.refusal = exc
            raise trio.BrokenResourceError from exc
        self._switched = True

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        self._ended.set()
        await self._stream.aclose()


def _shown(head: bytes) -> str:
    text = head.decode("latin-1")
    status = text.partition("\n")[0].strip()
    telling = "".join(f"; {field.strip()}" for field in _TELLING.findall(text))
    return repr(f"{status}{telling}"[:300])
