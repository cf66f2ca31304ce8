"""Carries one dialled connection: two ends, octets both ways, half-close and resets included.

An end is a socket (`SocketEnd`) or a stream of a session (`tunneld.session.StreamEnd`). Sockets
are read only when the other end has room, straight into its frame; streams push, and their
window bounds what may wait. Each way ends by itself (half-close); anything else that ends one
end aborts the other, so that a cut-off stream never looks complete.
"""

from collections.abc import Callable
from enum import Enum
from typing import Protocol, cast

import trio

from tunneld.reactor import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, Reactor
from tunneld.transport.base import Transport


class RelayError(Exception):
    """The relay ended by a reset, not by both ends' half-close; the text says whose."""


class End(Protocol):
    """One side of a relay."""

    def attach(self, relay: "Relay", peer: "End") -> None:
        """Start carrying octets between here and ``peer``."""

    def deliver(self, data: memoryview, end: bool) -> None:
        """Take octets that ``peer`` pushes, all of them; ``end`` if they are its last."""

    def credit(self, size: int) -> None:
        """The other end is done with ``size`` octets of those pushed to it."""

    def close(self) -> None:
        """Both ways have ended: let go."""

    def abort(self) -> None:
        """Reset; safe at any time, and more than once."""


class FrameEnd(End, Protocol):
    """An end that sockets are read into: the payload of its next frame."""

    def room(self, source: "SocketEnd") -> int:
        """Octets that may be written into `view` now; if 0, ``source.resume()`` comes later."""

    def view(self, size: int) -> memoryview:
        """Where ``size`` ≤ `room` octets may be received; `commit` follows, or nothing does."""

    def commit(self, size: int) -> None:
        """``size`` octets of `view` are to be carried on."""

    def finish(self) -> None:
        """The source has no more octets: half-close."""


class Relay:
    """Two ends and their end. `run` is the one call between control plane and data plane."""

    def __init__(self, first: End, second: FrameEnd) -> None:
        self._ends = (first, second)
        self._ways_open = 2
        self._over = trio.Event()
        self._error: str | None = None

    async def run(self) -> None:
        """Carry octets until both ways have ended; cancelling resets both ends.

        Raises:
          RelayError: one end was reset or lost; the other has been reset too.
        """
        first, second = self._ends
        try:
            first.attach(self, second)
            second.attach(self, first)
            await self._over.wait()
        finally:
            if not self._over.is_set():
                self.fail("cancelled")
        if self._error is not None:
            raise RelayError(self._error)

    def way_ended(self) -> None:
        """One end got the last octets of the other, and the half-close behind them."""
        self._ways_open -= 1
        if not self._ways_open and not self._over.is_set():
            self._over.set()
            for end in self._ends:
                end.close()

    def fail(self, error: str) -> None:
        """Reset both ends; the first error is the one that counts."""
        if self._over.is_set():
            return
        self._error = error
        self._over.set()
        for end in self._ends:
            end.abort()


class _Finish(Enum):
    """How far the half-close towards a socket is."""

    NOT_YET = 0
    REQUESTED = 1
    SENT = 2
    DONE = 3


class SocketEnd:
    """A connected socket, plain or TLS, as one end of a relay.

    Args:
      early: octets already read from the socket, to be carried first.
      name: what errors call it: ``client``, ``endpoint``.
    """

    __slots__ = (
        "_closed",
        "_credited",
        "_dirty",
        "_early",
        "_events",
        "_fd",
        "_finish",
        "_peer",
        "_reactor",
        "_registered",
        "_relay",
        "_taken",
        "_transport",
        "name",
        "read",
    )

    def __init__(
        self, reactor: Reactor, transport: Transport, name: str, early: bytes = b""
    ) -> None:
        self._reactor = reactor
        self._transport = transport
        self._fd = transport.sock.fileno()
        self.name = name
        self.read = 0
        """Octets carried from this socket."""
        self._taken = 0
        self._credited = 0
        self._early = early
        self._events = EPOLLIN
        self._registered = False
        self._closed = False
        self._finish = _Finish.NOT_YET
        self._dirty = False
        self._relay: Relay
        self._peer: FrameEnd

    @property
    def written(self) -> int:
        """Octets carried to this socket that it has taken."""
        return self._credited

    @property
    def waiting(self) -> int:
        """Octets that wait for this socket."""
        return self._taken - self._credited

    # -- from the socket ----------------------------------------------------------------------

    def attach(self, relay: Relay, peer: End) -> None:
        self._relay, self._peer = relay, cast(FrameEnd, peer)
        if self._closed:
            return
        self._reactor.register(self._fd, self, self._events)
        self._registered = True
        self._reactor.call_next_turn(self, self.resume)

    def on_ready(self, events: int) -> None:
        if events & EPOLLOUT:
            self.flush()
        if self._closed:
            return
        if self._events & EPOLLIN:
            if events & (EPOLLIN | EPOLLHUP | EPOLLERR):
                self._pump()
        elif events & (EPOLLHUP | EPOLLERR):
            self._hung_up()

    def resume(self) -> None:
        """The other end has room again."""
        if not self._closed:
            self._pump()

    def _pump(self) -> None:
        """Carry one frame's worth from the socket to the other end."""
        peer = self._peer
        room = peer.room(self)
        if not room:
            self._watch(self._events & ~EPOLLIN)
            return
        if self._early:
            size = self._take_early(peer.view(room))
        else:
            try:
                size = self._transport.receive_into(peer.view(room))
            except OSError as exc:
                self._fail(exc)
                return
        if size > 0:
            self.read += size
            peer.commit(size)
            if self._transport.has_pending or self._early:
                self._reactor.call_next_turn(self, self.resume)
                return
        elif size == 0:
            self._watch(self._events & ~EPOLLIN)
            peer.finish()
            return
        if not self._events & EPOLLIN:
            self._watch(self._events | EPOLLIN)

    def _take_early(self, view: memoryview) -> int:
        size = min(len(view), len(self._early))
        view[:size] = self._early[:size]
        self._early = self._early[size:]
        return size

    # -- to the socket ------------------------------------------------------------------------

    def deliver(self, data: memoryview, end: bool) -> None:
        if self._closed:
            return
        self._taken += len(data)
        if end:
            self._finish = _Finish.REQUESTED
        if data:
            try:
                self._transport.send(data)
            except OSError as exc:
                self._fail(exc)
                return
        if not self._dirty:
            self._dirty = True
            self._reactor.mark_dirty(self)

    def flush(self) -> None:
        self._dirty = False
        if self._closed:
            return
        try:
            done = self._transport.flush()
            credit = self._taken - self._transport.unsent - self._credited
            if done and self._finish is _Finish.REQUESTED:
                self._finish = _Finish.SENT
                done = self._transport.send_eof()
        except OSError as exc:
            self._fail(exc)
            return
        if credit:
            self._credited += credit
            self._peer.credit(credit)
        self._watch(self._events & ~EPOLLOUT if done else self._events | EPOLLOUT)
        if done and self._finish is _Finish.SENT:
            self._finish = _Finish.DONE
            self._relay.way_ended()

    # -- life ---------------------------------------------------------------------------------

    def credit(self, size: int) -> None:
        """Nothing to do: a socket is read only when there is room."""

    def close(self) -> None:
        self._let_go(self._transport.close)

    def abort(self) -> None:
        self._let_go(self._transport.abort)

    def fail(self, error: Exception) -> None:
        """An error of ours, which the reactor has logged."""
        self._relay.fail(f"internal error: {error}")

    def _fail(self, exc: OSError) -> None:
        self._relay.fail(f"{self.name}: {exc.strerror or exc}")

    def _let_go(self, action: Callable[[], None]) -> None:
        if self._closed:
            return
        self._closed = True
        if self._registered:
            self._registered = False
            self._reactor.unregister(self._fd)
        self._reactor.at_turn_end(action)

    def _watch(self, events: int) -> None:
        if events == self._events and self._registered:
            return
        self._events = events
        if self._closed:
            return
        if self._registered:
            self._reactor.modify(self._fd, events)
        elif events:
            self._reactor.register(self._fd, self, events)
            self._registered = True

    def _hung_up(self) -> None:
        """Errors and hang-ups are reported whether asked for or not, over and over. What came
        before them may still be carried, so look away until reading goes on and finds out."""
        if self._registered and not self._events & EPOLLOUT:
            self._registered = False
            self._reactor.unregister(self._fd)
