"""Taking over from a running daemon: the successor's half; `tunneld.upgrade` is the other.

The old process starts the new one with its listening sockets and locks among the descriptors, and
one end of a socketpair. On that both say one JSON object a line:

    old   `Order`
    new   {"state": "listening"}               its roles are ready; it accepts agents
    old   {"agents": {role: [id, …]}}          these agents are on their way to it
    new   {"state": "serving"}                 they are there: it accepts clients

or ``{"error": {…}}`` from the new one, which then ends. Who connects meanwhile waits in the shared
sockets, so none is refused.
"""

import json
import socket
from collections.abc import Callable
from typing import Any

import msgspec
import structlog
import trio
from msgspec import Struct

from tunneld.handover import Handover
from tunneld.inherited import InheritedSockets, inherited

log = structlog.get_logger(__name__)

MAX_LINE = 1 << 20
"""Octets."""


class Inheritance(Struct, frozen=True):
    """A listening socket among the descriptors."""

    fd: int
    listen: str = ""
    """The address that the configuration has for it."""
    name: str = ""
    lent: bool = False
    """As `InheritedSockets.add`."""


class Order(Struct, frozen=True):
    """What the old process hands over."""

    locks: dict[str, int]
    """Descriptors of the lock files, by path."""
    listeners: list[Inheritance]
    ready: list[str]
    """Roles that are ready, and shall be so in the new process."""
    detached: bool
    notify: str = ""
    """NOTIFY_SOCKET."""
    watchdog: float = 0.0
    """Seconds."""


class Way(Struct, frozen=True):
    """That the agents are on their way."""

    agents: dict[str, list[str]]
    """Their ids, by server role."""


class Takeover:
    """The successor's end of the line.

    Raises:
      ValueError: the first line is no `Order`.
      OSError: the descriptor is no socket.
    """

    def __init__(self, descriptor: int) -> None:
        self._sock = socket.socket(fileno=descriptor)
        self._sock.set_inheritable(False)
        try:
            self.order = msgspec.json.decode(self._read_line(), type=Order)
        except (ValueError, RecursionError) as exc:
            self._sock.close()
            raise ValueError(f"no order of a daemon: {exc}") from exc
        self.handover = Handover(self._passed)
        self.succeeded: Callable[[], None] = lambda: None
        """Called right before the old process gives everything away."""

    def claim(self, registry: InheritedSockets = inherited) -> None:
        """Take the listening sockets in."""
        for each in self.order.listeners:
            sock = socket.socket(fileno=each.fd)
            sock.set_inheritable(False)
            registry.add(sock, name=each.name, listen=each.listen, lent=each.lent)

    @property
    def is_alone(self) -> bool:
        """Whether the old process is gone, so that there is nothing to go back to."""
        try:
            return not self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def tell(self, message: dict[str, Any]) -> None:
        """Say one thing to the old process."""
        try:
            self._sock.sendall(json.dumps(message).encode() + b"\n")
        except OSError as exc:
            log.warning("the process before is gone", error=exc.strerror)

    async def fetch_agents(self) -> None:
        """Have the old process send its agents, and open the handover. If it is gone, there is
        nobody to wait for."""
        self.tell({"state": "listening"})
        line = await trio.to_thread.run_sync(self._read_line, abandon_on_cancel=True)
        way = msgspec.json.decode(line, type=Way) if line.endswith(b"\n") else Way({})
        self.handover.open({role: set(ids) for role, ids in way.agents.items()})

    def close(self) -> None:
        """Nothing more is said. Twice is harmless."""
        self._sock.close()

    def _passed(self) -> None:
        self.succeeded()
        self.tell({"state": "serving"})
        self.close()

    def _read_line(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n") and len(line) < MAX_LINE:
            octets = self._sock.recv(1)  # never beyond the line
            if not octets:
                break
            line += octets
        return bytes(line)
