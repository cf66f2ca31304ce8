"""The connections that a server or an agent carries now, as `tunnelctl conns` shows them."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio

from tunneld.caller import Caller

_ids = itertools.count(1)


class Conn:
    """One dialled connection, from the dial on."""

    def __init__(self, caller: Caller, destination: str, agent: str) -> None:
        self.id = next(_ids)
        self.caller = caller
        self.destination = destination
        self.agent = agent
        self.since = time.time()
        self.state = "dialling"
        self.octets: Callable[[], tuple[int, int]] = lambda: (0, 0)
        """Carried so far: towards the endpoint, and back."""

    def row(self) -> dict[str, Any]:
        """For `tunnelctl conns`."""
        sent, received = self.octets()
        return {
            "id": self.id,
            "client": self.caller.address or self.caller.name,
            "identity": self.caller.name,
            "destination": self.destination,
            "agent": self.agent,
            "state": self.state,
            "since": self.since,
            "bytes_sent": sent,
            "bytes_received": received,
        }


class Conns:
    """All of them, of one role."""

    def __init__(self) -> None:
        self._conns: dict[int, Conn] = {}
        self._empty = trio.Event()

    async def wait_empty(self) -> None:
        """Return when none is left; only for when no new ones come."""
        while self._conns:
            self._empty = trio.Event()
            await self._empty.wait()

    @contextmanager
    def listed(self, caller: Caller, destination: str, agent: str = "") -> Iterator[Conn]:
        """List a connection while the block runs."""
        conn = Conn(caller, destination, agent)
        self._conns[conn.id] = conn
        try:
            yield conn
        finally:
            del self._conns[conn.id]
            if not self._conns:
                self._empty.set()

    def rows(self, role: str) -> list[dict[str, Any]]:
        """For `tunnelctl conns`, oldest first."""
        return [{**conn.row(), "role": role} for conn in self._conns.values()]
