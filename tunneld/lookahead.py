"""How much of a connection's DATA is framed ahead of its link.

What costs on a fast link is each turn, not each octet, so it wants few large writes. On a slow one
everything that comes later, a keystroke or a PING, waits behind what is framed already.
"""

from frames.transmit import DATA_LIMIT, TransmitBuffer

_AHEAD = 0.005
"""Seconds' worth of the link that may wait."""
_LEAST = 32 * 1024
"""Octets, two records of TLS: less costs more than it spares."""


class Lookahead:
    """Sets the limit of a transmit buffer by what its socket takes."""

    __slots__ = ("_blocked_at", "_taken", "_tx")

    def __init__(self, tx: TransmitBuffer) -> None:
        self._tx = tx
        self._blocked_at = 0.0
        self._taken = 0

    def blocked(self, taken: int, now: float) -> None:
        """The socket is full, having had ``taken`` octets in all until ``now`` (seconds).

        It was full the last time too, so the link has carried what came between; or the sender
        paused, and the link is taken for slower than it is, until `flowed`.
        """
        elapsed = now - self._blocked_at
        if elapsed > 0:
            ahead = int((taken - self._taken) / elapsed * _AHEAD)
            self._set(1 << max(ahead, 1).bit_length())
        self._blocked_at, self._taken = now, taken

    def flowed(self) -> None:
        """The socket took as much as the buffer may hold, or nearly so."""
        self._set(self._tx.limit * 2)

    def _set(self, limit: int) -> None:
        self._tx.limit = min(max(limit, _LEAST), DATA_LIMIT)
