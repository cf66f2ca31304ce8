"""Octets between a transport that has no descriptor of its own and one end of a socket pair.

The data plane reads and writes sockets. What comes by a WebSocket or through TLS to a proxy is no
socket; so two trio tasks copy between it and one end of a pair, and the data plane has the other.
Each way holds one chunk and what the kernel keeps for the pair.
"""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from tunneld.transport.base import tune_tunnel
from tunneld.transport.plain import PlainTransport
from tunneld.transport.stream import TransportStream

CHUNK = 64 * 1024
"""Octets read at once, of either side."""
AHEAD = 32 * 1024
"""Octets that the kernel holds unsent of a carrier's TCP connection. By itself it takes megabytes,
and all that comes later, a PING of the session among it, waits behind them: see
`tunneld.lookahead`, which sees no more of the link than the pair, 200 KiB, from behind a pump."""
GRACE = 2.0
"""Seconds for our last words to leave, and for the peer's answer to our end."""


class Carrier(Protocol):
    """What a pump carries octets to and from. `TransportStream` is one."""

    async def receive_some(self) -> bytes:
        """Octets; b"" at an end that the peer meant. Raises `trio.BrokenResourceError` at any
        other."""

    async def send_all(self, data: bytes) -> None:
        """Raises `trio.BrokenResourceError`: the peer is gone."""

    async def send_eof(self) -> None:
        """Nothing more will be sent. The carrier may be one that ends both ways at once."""

    def close(self) -> None:
        """Close without waiting."""

    def abort(self) -> None:
        """Close with a reset; harmless behind `close`."""


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected non-blocking ends."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    return ours, theirs


def tune_carrier(sock: socket.socket) -> None:
    """More options for the TCP socket of a tunnel that a pump feeds; harmless on others."""
    tune_tunnel(sock)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, AHEAD)


async def pump(carrier: Carrier, sock: socket.socket) -> str | None:
    """Copy both ways until the end of ``sock``'s other end, or of the carrier; closes both.

    An end of one way is passed on behind its octets. Once the other end of ``sock`` has ended, what
    still comes is taken for `GRACE` at most: it may have been closed, and nobody would tell.
    An end that nobody meant closes everything; that octets are missing then is for the TLS inside
    to find out.

    Returns: what broke the carrier, or None.
    """
    local = TransportStream(PlainTransport(sock))
    broken: str | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_outbound, local, carrier, nursery.cancel_scope)
            try:
                await _inbound(carrier, local)
            except trio.BrokenResourceError as exc:
                broken = str(exc)
                nursery.cancel_scope.cancel()
        if not nursery.cancel_scope.cancel_called:
            carrier.close()
    finally:
        local.close()
        carrier.abort()
    return broken


async def _inbound(carrier: Carrier, local: TransportStream) -> None:
    while data := await carrier.receive_some():
        try:
            await local.send_all(data)
        except trio.BrokenResourceError:
            return  # closed: the other way finds its end
    try:
        await local.send_eof()
    except trio.BrokenResourceError:
        pass


async def _outbound(local: TransportStream, carrier: Carrier, both: trio.CancelScope) -> None:
    try:
        while data := await local.receive_some(CHUNK):
            await carrier.send_all(data)
    except trio.BrokenResourceError:
        both.cancel()  # the carrier is gone; or the data plane is, with octets unread
        return
    both.deadline = trio.current_time() + GRACE
    try:
        await carrier.send_eof()
    except trio.BrokenResourceError:
        both.cancel()


@asynccontextmanager
async def last_words(grace: float = GRACE) -> AsyncIterator[trio.CancelScope]:
    """Once its scope is shielded, cancellation reaches the block ``grace`` seconds late: by then
    the data plane, which is cancelled at once, has closed its end, and what it said has left."""
    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_limit, scope, grace)
        with scope:
            yield scope
        nursery.cancel_scope.cancel()


async def _limit(scope: trio.CancelScope, grace: float) -> None:
    try:
        await trio.sleep_forever()
    finally:
        scope.deadline = trio.current_time() + grace
