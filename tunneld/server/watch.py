"""Watches a client while its dial is pending: what it sends on is kept, and its loss noticed.

By the reactor, since a task for each dial costs more than all the rest of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from tunneld.reactor import EPOLLERR, EPOLLIN, Reactor
from tunneld.transport.base import WOULD_BLOCK
from tunneld.transport.stream import TransportStream

_EARLY_LIMIT = 64 * 1024
"""Octets read ahead, at most; what a client sends beyond that waits in its own socket."""

_octets = memoryview(bytearray(_EARLY_LIMIT))
"""Shared by all watches of the process: it holds octets only within one call."""


class Watch:
    """Reads ahead on ``stream`` until `stop`; cancels ``everything`` if the client is lost.

    A client that half-closes is not lost: it may only have said all it wants to. Over TCP a close
    looks the same; over a UNIX socket it is a loss, if the client has said nothing.
    """

    def __init__(
        self, reactor: Reactor, stream: TransportStream, everything: trio.CancelScope
    ) -> None:
        self._reactor = reactor
        self._stream = stream
        self._everything = everything
        self._fd = stream.transport.sock.fileno()
        self._early = bytearray()
        self._watching = False

    def start(self) -> None:
        """Begin; with what the transport has at hand already."""
        self._reactor.register(self._fd, self, EPOLLIN)
        self._watching = True
        self._early += self._stream.take_early()
        self._read()

    def stop(self) -> None:
        """Hand the stream back, with what was read put back into it. Twice is harmless."""
        if self._watching:
            self._look_away()
        if self._early:
            self._stream.unread(bytes(self._early))
            self._early.clear()

    def on_ready(self, events: int) -> None:
        if events & EPOLLIN:
            self._read()
            return
        # A hang-up, which would be reported over and over, is a UNIX client that has closed; what
        # it has said may be for the endpoint all the same.
        if events & EPOLLERR or not self._early:
            self._everything.cancel()
        self._look_away()

    def fail(self, error: Exception) -> None:
        """An error of ours, which the reactor has logged."""
        self._everything.cancel()

    def _read(self) -> None:
        room = _EARLY_LIMIT - len(self._early)
        try:
            size = self._stream.transport.receive_into(_octets[:room]) if room > 0 else 0
        except OSError:
            self._everything.cancel()
            size = 0
        if size > 0:
            self._early += _octets[:size]
        elif size != WOULD_BLOCK and self._watching:
            self._reactor.modify(self._fd, 0)  # but errors are still reported

    def _look_away(self) -> None:
        self._watching = False
        self._reactor.unregister(self._fd)


@contextmanager
def watching(reactor: Reactor, stream: TransportStream) -> Iterator[Watch]:
    """Watch while the block runs, or until `Watch.stop`; a lost client cancels the block."""
    with trio.CancelScope() as everything:
        watch = Watch(reactor, stream, everything)
        watch.start()
        try:
            yield watch
        finally:
            watch.stop()
