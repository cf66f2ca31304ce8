"""The tunnel's octets in binary messages of a WebSocket (RFC 6455).

Where messages begin and end means nothing. A WebSocket knows no half-close: who closes it has sent
all it had, and what was on its way to it is lost.

trio-websocket is imported when the first one is made: few processes need it.
"""

import re
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import trio

from tunneld.transport.pump import CHUNK, last_words, pump, socket_pair
from tunneld.transport.stream import TransportStream

if TYPE_CHECKING:
    from trio_websocket import WebSocketConnection

SUBPROTOCOL = "tunneld-tls"
"""What the messages carry: TLS, and inside of it what its ALPN says."""
MAX_MESSAGE = 1 << 20
"""Octets of a message that is accepted; ours have `CHUNK` at most."""
READ_SIZE = CHUNK
"""Octets to read at once, for trio-websocket."""
MAX_HEAD = 16 * 1024
"""Octets of the head of a request or response; h11 takes no more inside of trio-websocket."""

_END = re.compile(rb"\n\r?\n")
_MEANT = frozenset({1000, 1001})
"""Codes of a close that the peer meant: it is done, or goes away."""

Upgrade: TypeAlias = Callable[[trio.Nursery], Awaitable["WebSocketConnection"]]
"""Makes a WebSocket of a stream; its reader runs in the nursery. Raises `UpgradeError`."""


class UpgradeError(Exception):
    """No WebSocket: the text says what the peer did instead."""


class HeadTooLongError(UpgradeError):
    """More than `MAX_HEAD` octets, and no end of the head."""


async def read_head(stream: TransportStream) -> bytes:
    """The head of a request or response; it and what came behind it can be received again.

    Raises:
      UpgradeError: there is none.
    """
    octets = bytearray()
    try:
        while not (found := _END.search(octets)):
            if len(octets) > MAX_HEAD:
                raise HeadTooLongError(f"a head of more than {MAX_HEAD} octets")
            data = await stream.receive_some(MAX_HEAD)
            if not data:
                seen = f" behind {bytes(octets[:60])!r}" if octets else ", without a word"
                raise UpgradeError(f"it closed the connection{seen}")
            octets += data
            if not octets[:1].isalpha():
                raise UpgradeError(f"no HTTP: {bytes(octets[:60])!r}")
    except trio.BrokenResourceError as exc:
        raise UpgradeError(f"the connection broke: {exc}") from exc
    stream.unread(bytes(octets))
    return bytes(octets[: found.end()])


async def carry(
    stream: TransportStream,
    upgrade: Upgrade,
    *,
    task_status: trio.TaskStatus[socket.socket] = trio.TASK_STATUS_IGNORED,
) -> str | None:
    """Make a WebSocket of ``stream``, give out a socket that stands for it, and carry octets
    between them until both have ended. Closes ``stream``.

    Returns: what broke the WebSocket, or None.
    Raises:
      UpgradeError: there is no WebSocket.
    """
    given = False
    try:
        async with last_words() as scope, trio.open_nursery() as nursery:
            connection = await upgrade(nursery)
            ours, theirs = socket_pair()
            scope.shield = given = True
            task_status.started(theirs)
            broken = await pump(WebSocketCarrier(connection, stream), ours)
            nursery.cancel_scope.cancel()
            return broken
    except BaseExceptionGroup as group:
        error = _cause(group)
        if given:
            return str(error)
        raise error from None
    finally:
        stream.abort()
    return None


def _cause(group: BaseExceptionGroup[BaseException]) -> UpgradeError:
    """The one reason; cancellation, and what is no error of the peer, travel on."""
    cancelled, errors = group.split(trio.Cancelled)
    if cancelled is not None:
        raise cancelled
    if not isinstance(errors, ExceptionGroup):
        raise group
    first: BaseException = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, UpgradeError):
        return first
    return UpgradeError(f"it broke the WebSocket protocol: {_root(first)}")


def _root(error: BaseException) -> BaseException:
    """What the peer did wrong. trio-websocket's reader answers that, and fails itself where wsproto
    allows no answer."""
    from wsproto.utilities import RemoteProtocolError

    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, RemoteProtocolError):
        seen = seen.__context__
    return seen or error


class WebSocketCarrier:
    """A `tunneld.transport.pump.Carrier`.

    Args:
      stream: what carries ``connection``.
    """

    def __init__(self, connection: "WebSocketConnection", stream: TransportStream) -> None:
        self._connection = connection
        self._stream = stream

    async def receive_some(self) -> bytes:
        from trio_websocket import ConnectionClosed

        try:
            while not (message := await self._connection.get_message()):
                pass  # an empty one
        except ConnectionClosed as exc:
            if self._connection.closed and self._connection.closed.code in _MEANT:
                return b""
            raise trio.BrokenResourceError(self._why()) from exc
        if isinstance(message, str):
            raise trio.BrokenResourceError("the peer sent text; expected binary messages")
        return message

    async def send_all(self, data: bytes) -> None:
        from trio_websocket import ConnectionClosed

        try:
            await self._connection.send_message(data)
        except ConnectionClosed as exc:
            raise trio.BrokenResourceError(self._why()) from exc

    async def send_eof(self) -> None:
        """The closing handshake, and with it the end of both ways."""
        await self._connection.aclose()

    def close(self) -> None:
        self._stream.close()

    def abort(self) -> None:
        self._stream.abort()

    def _why(self) -> str:
        closed = self._connection.closed
        if closed is None or closed.code == 1006:
            return "the WebSocket's connection was lost"
        return f"the WebSocket was closed with {closed.code} {closed.reason or closed.name}"
