"""How long connections may last, and be silent: looked at now and then from outside, so that no
read or write pays for it."""

from collections.abc import Callable
from typing import TypeAlias

import structlog
import trio

from tunneld.config import ServerConfig
from tunneld.conns import OPEN, Conn, Conns

log = structlog.get_logger(__name__)

_PART = 20
"""So often do we look within the shortest of the times; they are kept as exactly as that."""
_OFTEN, _SELDOM = 1.0, 60.0
"""Seconds between looks, at least and at most."""

_Mark: TypeAlias = tuple[tuple[int, int], bool, float]
"""Octets, whether it was half-closed, and since when that has not changed."""


class Lifetimes:
    """See the module.

    Args:
      idle_clients: called with seconds: clients without any connection for so long shall leave.
    """

    def __init__(
        self, config: ServerConfig, conns: Conns, idle_clients: Callable[[float], None]
    ) -> None:
        self._conns = conns
        self._idle_clients = idle_clients
        self._marks: dict[int, _Mark] = {}
        self._changed = trio.Event()
        self.reconfigure(config)

    def reconfigure(self, config: ServerConfig) -> None:
        """Go by other times from now on, for connections that there are as well."""
        self._idle = config.idle_timeout
        self._half_closed = config.half_closed_timeout
        self._age = config.max_connection_age
        self._changed.set()

    async def run(self) -> None:
        """End what is overdue, until cancelled."""
        while True:
            self._changed = trio.Event()
            times = [each for each in (self._idle, self._half_closed, self._age) if each]
            if not times:
                self._marks = {}
                await self._changed.wait()
                continue
            with trio.move_on_after(max(_OFTEN, min(_SELDOM, min(times) / _PART))):
                await self._changed.wait()
            self._look(trio.current_time())

    def _look(self, now: float) -> None:
        marks: dict[int, _Mark] = {}
        for conn in self._conns:
            if conn.state != OPEN:
                continue
            mark = marks[conn.number] = self._mark(conn, now)
            reason = self._overdue(conn, mark, now)
            if reason:
                conn.expire(reason)
        self._marks = marks
        if self._idle:
            self._idle_clients(self._idle)

    def _mark(self, conn: Conn, now: float) -> _Mark:
        octets = conn.octets()
        half_closed = conn.relay is not None and conn.relay.half_closed
        old = self._marks.get(conn.number)
        if old is not None and old[0] == octets and old[1] == half_closed:
            return old
        return octets, half_closed, now

    def _overdue(self, conn: Conn, mark: _Mark, now: float) -> str:
        """Why it has to end; "" if it has not."""
        _, half_closed, since = mark
        silent = now - since
        if self._idle and silent >= self._idle:
            return f"silent for {self._idle:g} s, idle-timeout"
        if self._half_closed and half_closed and silent >= self._half_closed:
            return f"half-closed and silent for {self._half_closed:g} s, half-closed-timeout"
        if self._age and now - conn.opened >= self._age:
            return f"older than {self._age:g} s, max-connection-age"
        return ""
