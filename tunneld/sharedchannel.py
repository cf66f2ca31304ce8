"""A connection that shares its stream, and so the stream's window, with others.

A connection that does not take its octets must not keep the stream's window from the others: what
comes is credited at once and queued, up to a bound. Over the bound, the connection is closed. But
while it has the stream to itself, nobody else is harmed if its peer is made to wait, so then credit
is held back instead.
"""

from collections.abc import Callable
from typing import Protocol

from frames.window import WindowBudget
from tunneld.channelend import ChannelEnd
from tunneld.packetstream import PacketStream
from tunneld.reactor import Reactor

MAX_QUEUE = 16 * 1024 * 1024
"""Octets that may wait for one connection's other end."""
_FREE = 128 * 1024
"""Octets of a queue that the budget is not asked for."""

queue_budget = WindowBudget(256 * 1024 * 1024)
"""Octets that may wait in all queues of this process."""


class Sharing(Protocol):
    """Who knows all the connections of a stream."""

    def is_alone(self) -> bool:
        """Whether nobody but one connection uses the stream, or is about to."""

    def overran(self) -> None:
        """A connection is being closed because its queue overran."""

    def withholds(self, change: int) -> None:
        """One more connection holds credit back (1), or one fewer does (-1)."""


class SharedChannel(ChannelEnd):
    """See the module."""

    def __init__(
        self,
        packets: PacketStream,
        connect_id: int,
        reactor: Reactor,
        on_closed: Callable[[], None],
        sharing: Sharing,
    ) -> None:
        super().__init__(packets, connect_id, reactor, on_closed)
        self._sharing = sharing
        self._budgeted = 0
        self._withheld = 0

    def make_way(self) -> None:
        """Somebody else is about to use the stream: do not stand in the way."""
        if self._withheld:
            self._overrun()

    def credit(self, size: int) -> None:
        super().credit(size)
        self._release(min(size, self._withheld))
        if self._budgeted and self._queued <= _FREE:
            self._give_back()

    def _hold_back(self, size: int) -> int:
        excess = self._queued - _FREE - self._budgeted
        if excess <= 0 or self._gone:
            return 0
        if self._queued <= MAX_QUEUE and queue_budget.take(excess):
            self._budgeted += excess
            return 0
        if self._sharing.is_alone():
            if not self._withheld:
                self._sharing.withholds(1)
            self._withheld += size
            return size
        self._overrun()
        return 0

    def _overrun(self) -> None:
        self._sharing.overran()
        text = f"closed: {self._queued} octets wait to be taken, and others need the tunnel"
        self._fail(text)

    def _release(self, size: int) -> None:
        if size:
            self._withheld -= size
            self._packets.release(size)
            if not self._withheld:
                self._sharing.withholds(-1)

    def _give_back(self) -> None:
        queue_budget.give_back(self._budgeted)
        self._budgeted = 0

    def _let_go(self) -> None:
        if not self._gone:
            self._give_back()
            self._release(self._withheld)
        super()._let_go()
