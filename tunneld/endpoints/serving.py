"""What the endpoints share: serving connections, draining, and closing so that nothing is lost."""

import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeAlias

import structlog
import trio

from tunneld.listening import listener_address

log = structlog.get_logger(__name__)

MAX_CONNECTIONS = 1024
"""Connections of one endpoint at a time: each costs a descriptor, and the process may have an
agent in it that needs some for its dials."""

DRAIN_TIMEOUT = 5.0
"""Seconds that connections get to end by themselves once the endpoint is told to stop."""

_LINGER = 1.0
"""Seconds to wait for a peer to close after us."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Handler: TypeAlias = Callable[[trio.abc.HalfCloseableStream], Awaitable[None]]


async def serve(
    listeners: Sequence[trio.SocketListener],
    handler: Handler,
    drain: trio.Event,
    limit: int = MAX_CONNECTIONS,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run ``handler`` for each connection until ``drain`` is set and the connections have ended.

    A connection that is cut off, by the drain's timeout, by cancellation or by a fault of its
    handler, ends with a reset: the peer can't take what it got for the whole.

    Args:
      listeners: closed in the end, however it comes.
      limit: connections at a time; more are reset at once.
    """
    async with trio.open_nursery() as connections:  # these outlive the listeners
        try:
            async with trio.open_nursery() as accepting:
                serve_one = partial(_serve_one, handler, connections, limit)
                accepting.start_soon(
                    partial(
                        trio.serve_listeners,
                        serve_one,
                        list(listeners),
                        handler_nursery=connections,
                    )
                )
                task_status.started([listener_address(each) for each in listeners])
                await drain.wait()
                accepting.cancel_scope.cancel()
        finally:
            for listener in listeners:
                listener.socket.close()
        connections.cancel_scope.deadline = trio.current_time() + DRAIN_TIMEOUT


async def _serve_one(
    handler: Handler, connections: trio.Nursery, limit: int, stream: trio.SocketStream
) -> None:
    """One connection; the caller closes the stream."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if len(connections.child_tasks) > limit:
        log.warning("connection refused: too many", limit=limit)
        _reset_on_close(stream)
        return
    whole = False
    try:
        await handler(stream)
        whole = True
    except* trio.BrokenResourceError as broken:
        log.debug("connection broken", error=str(broken.exceptions[0]))
    except* Exception:
        log.exception("connection ended by a fault of ours")
    finally:
        if not whole:
            _reset_on_close(stream)


def _reset_on_close(stream: trio.SocketStream) -> None:
    try:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    except OSError:
        pass  # already disconnected: closing is all that is left


async def finish(stream: trio.abc.HalfCloseableStream) -> None:
    """End our side, and give the peer a moment to end its own.

    Closing while octets of the peer lie unread would reset the connection, and the reset could
    overtake our last answer.
    """
    await stream.send_eof()
    with trio.move_on_after(_LINGER):
        while await stream.receive_some():
            pass
