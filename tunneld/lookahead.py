"""How much of a connection's DATA is handed out ahead of its link.

What costs on a fast link is each turn, not each octet, so it wants few large writes. On a slow one
everything that comes later, a keystroke or a PING, waits behind what was written before: in our
transmit buffer, and behind that in the kernel's, which by itself holds megabytes.
"""

import socket

from frames.transmit import DATA_LIMIT, TransmitBuffer

_AHEAD = 0.005
"""Seconds' worth of the link that may wait in either."""
_LEAST = 32 * 1024
"""Octets, two records of TLS: less costs more than it spares."""
_UNBOUNDED = 0x7FFFFFFF


class Lookahead:
    """Bounds a transmit buffer, and what its TCP socket holds unsent, by what the link carries."""

    __slots__ = ("_blocked_at", "_sock", "_taken", "_tx")

    def __init__(self, tx: TransmitBuffer, sock: socket.socket) -> None:
        self._tx = tx
        self._sock = sock if sock.family in (socket.AF_INET, socket.AF_INET6) else None
        self._blocked_at = 0.0
        self._taken = 0

    def blocked(self, taken: int, now: float) -> None:
        """The socket is full, having had ``taken`` octets in all until ``now`` (seconds).

        It was full the last time too, so the link has carried what came between; or the sender
        paused, and the link is taken for slower than it is, until `flowed`. The first time nothing
        is known of the link, and it may be slow.
        """
        elapsed = now - self._blocked_at
        if not self._blocked_at:
            self._set(_LEAST)
        elif elapsed > 0:
            ahead = int((taken - self._taken) / elapsed * _AHEAD)
            self._set(1 << max(ahead, 1).bit_length())
        self._blocked_at, self._taken = now, taken

    def flowed(self) -> None:
        """The socket took as much as the buffer may hold, or nearly so."""
        if self._tx.limit < DATA_LIMIT:
            self._set(self._tx.limit * 2)

    def _set(self, limit: int) -> None:
        limit = min(max(limit, _LEAST), DATA_LIMIT)
        if limit == self._tx.limit:
            return
        self._tx.limit = limit
        if self._sock is not None:
            unsent = limit if limit < DATA_LIMIT else _UNBOUNDED
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, unsent)
