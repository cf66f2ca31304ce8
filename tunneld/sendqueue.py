"""Whose turn it is to write DATA into a connection's transmit buffer.

A source that finds no room is resumed when what it lacks is there: room in the buffer (first
come, first served), its stream's window, or the connection's.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from frames import Connection, Stream
from tunneld.relay import Source

MIN_FRAME = 16 * 1024
"""Octets of room below which a source waits for more: small frames cost as much as large ones."""
_MOST_SHARES = 10
"""Into how many shares a buffer is divided at most: smaller frames cost more."""


class Waiter(Protocol):
    """A stream that has octets to send."""

    stream: Stream

    def block(self, source: Source) -> None:
        """Remember whom `resume` is for."""

    def resume(self) -> None:
        """There may be room now."""


class SendQueue:
    """The streams of one connection that wait to send.

    Args:
      run_next_turn: has the reactor call something in its next turn.
    """

    def __init__(
        self, connection: Connection, run_next_turn: Callable[[Callable[[], None]], None]
    ) -> None:
        self._connection = connection
        self._run_next_turn = run_next_turn
        self._waiting: deque[Waiter] = deque()
        """For room in the buffer."""
        self._starved: list[Waiter] = []
        """For the connection's window."""
        self._serving = False
        self._share = 0
        """Octets that each may send in the round that is under way."""
        self._serve_due = False

    def room(self, waiter: Waiter, source: Source, least: int = 1) -> int:
        """Octets of DATA that ``waiter``, which does not wait yet, may send now, ``least`` or more;
        with 0, ``source`` is resumed later."""
        if self._serving or not self._waiting:
            room = self._connection.data_room(waiter.stream)
            if room >= least and (room >= MIN_FRAME or self._connection.tx.room >= MIN_FRAME):
                return min(room, self._share) if self._serving else room
        waiter.block(source)
        self.wait(waiter, least)
        return 0

    def wait(self, waiter: Waiter, least: int = 1) -> None:
        """Have ``waiter.resume()`` called once it may send ``least`` octets, or sooner."""
        connection = self._connection
        if waiter.stream.send_window < least:
            waiter.stream.blocked = True
        elif connection.send_window < least:
            connection.blocked = True
            self._starved.append(waiter)
        else:
            self._waiting.append(waiter)
            if not connection.tx.length:
                self._serve_soon()

    def window_opened(self) -> None:
        """The peer has credited the connection."""
        starved, self._starved = self._starved, []
        for waiter in starved:
            waiter.resume()

    def buffer_sent(self) -> None:
        """The transport has taken over what was in the buffer, or some of it may fit again."""
        if self._waiting and self._connection.tx.room >= MIN_FRAME:
            self._serve_soon()

    def _serve_soon(self) -> None:
        if not self._serve_due:
            self._serve_due = True
            self._run_next_turn(self._serve)

    def _serve(self) -> None:
        """Let those who wait send in turn, while there is room. What they send makes the session
        flush, and that comes back here."""
        self._serve_due = False
        self._share = self._connection.tx.limit // min(len(self._waiting) or 1, _MOST_SHARES)
        for _ in range(len(self._waiting)):
            if not self._waiting or self._connection.tx.room < MIN_FRAME:
                return
            waiter = self._waiting.popleft()
            self._serving = True
            try:
                waiter.resume()
            finally:
                self._serving = False
