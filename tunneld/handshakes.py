"""Connections that have not said yet who they are or what they want: each in a hurry, and not too
many at once.

Whoever reaches a port can make them, and each costs a descriptor and memory. When there are too
many, the oldest goes, of the address that has most of them. An honest peer is through in
milliseconds, long before its turn; the flood makes room for it. Nobody waits: a pause in accepting
would keep honest peers out along with the others.
"""

import ipaddress
import math
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import trio

log = structlog.get_logger(__name__)

_SHARE = 4
"""One descriptor in so many may be taken by such connections."""
_LOG_INTERVAL = 10.0
"""Seconds between two log lines about connections that had to go."""


class CrowdedOutError(Exception):
    """The connection had to make room for newer ones."""


class Handshake:
    """One connection on its way in; see `Handshakes.hurry`."""

    def __init__(self, handshakes: "Handshakes", source: str, timeout: float) -> None:
        self.source = source
        self.scope = trio.CancelScope()
        self.crowded_out = False
        self.ended = False
        """Whether `end` has been called."""
        self._handshakes = handshakes
        self.extend(timeout)

    def extend(self, timeout: float) -> None:
        """It has come further, and gets ``timeout`` seconds from now for the rest."""
        self.scope.deadline = trio.current_time() + timeout

    def done(self) -> None:
        """It is in: it may take as long as it likes, and counts no more. Twice is harmless."""
        self.scope.deadline = math.inf
        self._handshakes.forget(self)

    def end(self) -> None:
        """Cancel the block, which then ends without an error."""
        self.ended = True
        self.scope.cancel()


class Handshakes:
    """The connections of one kind of listener that are on their way in.

    Args:
      limit: how many at once, at most; a quarter of the descriptors that the process may have, if
        that is less.
    """

    def __init__(self, limit: int) -> None:
        self.reconfigure(limit)
        self.crowded_out = 0
        """How many had to go so far."""
        self._crowds: dict[str, dict[Handshake, None]] = {}
        """By source, the oldest first; no source is without any."""
        self._count = 0
        self._logged = 0
        """How many of those that had to go the log knows of."""
        self._log_at = -math.inf

    def reconfigure(self, limit: int) -> None:
        """Go by another limit from the next connection on."""
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.limit = min(limit, max(1, descriptors // _SHARE))

    def __len__(self) -> int:
        return self._count

    @contextmanager
    def hurry(self, sock: socket.socket, timeout: float) -> Iterator[Handshake]:
        """``sock`` is on its way in, until the block ends or `Handshake.done`; the block may go on
        for as long as the connection does, so that one scope does for all of it.

        Raises:
          trio.TooSlowError: it took more than ``timeout`` seconds, or `end_all` ended it.
          CrowdedOutError: too many others came after it.
        """
        if self._count >= self.limit:
            self._make_room()
        handshake = Handshake(self, source_of(sock), timeout)
        self._crowds.setdefault(handshake.source, {})[handshake] = None
        self._count += 1
        try:
            with handshake.scope:
                yield handshake
        finally:
            self.forget(handshake)
        if handshake.scope.cancelled_caught and not handshake.ended:
            raise CrowdedOutError if handshake.crowded_out else trio.TooSlowError

    def end_all(self) -> None:
        """Let nobody in any more."""
        for crowd in self._crowds.values():
            for handshake in crowd:
                handshake.scope.cancel()

    def forget(self, handshake: Handshake) -> None:
        """It counts no more. Twice is harmless."""
        crowd = self._crowds.get(handshake.source, {})
        if handshake in crowd:
            del crowd[handshake]
            self._count -= 1
            if not crowd:
                del self._crowds[handshake.source]

    def _make_room(self) -> None:
        crowd = max(self._crowds.values(), key=len)
        victim = next(iter(crowd))
        victim.crowded_out = True
        victim.scope.cancel()
        self.forget(victim)
        self.crowded_out += 1
        self._log(victim.source)

    def _log(self, source: str) -> None:
        """Few lines, however many connections there are."""
        now = trio.current_time()
        if now < self._log_at + _LOG_INTERVAL:
            return
        number = self.crowded_out - self._logged
        self._logged, self._log_at = self.crowded_out, now
        log.warning("too many handshakes at once", limit=self.limit, closed=number, last=source)


def source_of(sock: socket.socket) -> str:
    """Whose connection it is: its IPv4 address, the /64 of its IPv6 address, which is one host's or
    site's, or "local" for all on UNIX sockets."""
    try:
        name = sock.getpeername()
    except OSError:
        return "gone"
    if sock.family == socket.AF_INET6:
        network = int(ipaddress.IPv6Address(name[0].partition("%")[0])) >> 64 << 64
        return f"{ipaddress.IPv6Address(network)}/64"
    return str(name[0]) if sock.family == socket.AF_INET else "local"
