"""A socket as one end of a relay."""

import errno
import os
from collections.abc import Callable
from enum import Enum
from typing import cast

from tunneld.reactor import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, Reactor
from tunneld.relay import End, FrameEnd, Relay
from tunneld.transport.base import (
    ClosedTransport,
    Transport,
    close_in_order,
    reset_at_death,
)

_READABLE = EPOLLIN | EPOLLHUP | EPOLLERR
_BULK = 128 * 1024
"""Octets that make another read in the same turn worth it: what goes out together is cheaper."""
_CLOSED = ClosedTransport()


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
        "_ended",
        "_events",
        "_fd",
        "_finish",
        "_peer",
        "_pump_due",
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
        self._pump_due = False
        self._closed = False
        self._ended = False
        self._finish = _Finish.NOT_YET
        self._dirty = False
        self._relay: Relay
        self._peer: FrameEnd

    @property
    def written(self) -> int:
        """Octets carried to this socket that it has taken."""
        return self._credited

    @property
    def carried(self) -> int:
        return self._credited

    @property
    def backlog(self) -> int:
        return self._taken - self._credited

    @property
    def waits(self) -> bool:
        return self._taken != self._credited

    # -- from the socket ----------------------------------------------------------------------

    def attach(self, relay: Relay, peer: End) -> None:
        self._relay, self._peer = relay, cast(FrameEnd, peer)

    def start(self) -> None:
        if self._closed:
            return
        try:
            reset_at_death(self._transport.sock)
            self._reactor.register(self._fd, self, self._events)
        except OSError as exc:  # the kernel's limit of watches
            self._fail(exc)
            return
        self._registered = True
        self._pump_soon()

    def on_ready(self, events: int) -> None:
        if events & EPOLLOUT:
            self.flush()
        if self._closed:
            return
        if self._events & EPOLLIN:
            if events & _READABLE:
                self._pump()
        elif events & (EPOLLHUP | EPOLLERR):
            self._hung_up(events)

    def resume(self) -> None:
        """The other end has room again."""
        if not self._closed and not self._ended:
            self._pump()

    def _pump_soon(self) -> None:
        if not self._pump_due:
            self._pump_due = True
            self._reactor.call_next_turn(self, self._pump_now)

    def _pump_now(self) -> None:
        self._pump_due = False
        self.resume()

    def _pump(self) -> None:
        """Carry from the socket to the other end what it has room for."""
        peer = self._peer
        left = room = peer.room(self)
        while room:
            if self._early:
                size = self._take_early(peer.view(room))
            else:
                try:
                    size = self._transport.receive_into(peer.view(room))
                except OSError as exc:
                    self._fail(exc)
                    return
            if size <= 0:
                break
            self.read += size
            peer.commit(size)
            if self._transport.has_pending or self._early:
                self._pump_soon()
                return
            left -= size
            if size < _BULK or left < _BULK:
                break
            room = min(peer.room(self), left)
        if not room:
            self._watch(self._events & ~EPOLLIN)
        elif not size:
            self._ended = True
            self._watch(self._events & ~EPOLLIN)
            peer.finish()
        elif not self._events & EPOLLIN:
            self._watch(self._events | EPOLLIN)

    def _take_early(self, view: memoryview) -> int:
        size = min(len(view), len(self._early))
        view[:size] = self._early[:size]
        self._early = self._early[size:]
        return size

    # -- to the socket ------------------------------------------------------------------------

    @property
    def has_all(self) -> bool:
        return self._finish is not _Finish.NOT_YET

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
                self._write_failed(exc)
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
            credit = self._taken - self._credited
            if not done:
                credit -= self._transport.unsent
            if done and self._finish is _Finish.REQUESTED:
                self._finish = _Finish.SENT
                done = self._transport.send_eof()
        except OSError as exc:
            self._write_failed(exc)
            return
        if credit:
            self._credited += credit
            self._peer.credit(credit)
        events = self._events & ~EPOLLOUT if done else self._events | EPOLLOUT
        if events != self._events or not self._registered:
            self._watch(events)
        if done and self._finish is _Finish.SENT:
            self._finish = _Finish.DONE
            self._relay.way_ended()

    def _write_failed(self, exc: OSError) -> None:
        """The socket takes no more, but what it said before that may lie unread: an answer, say,
        that did not wait for the end of the question. Carry that, never an end: once a write has
        reported the reset, Linux reads what follows as one."""
        unread = not self._closed and not self._ended and not self._early
        while unread and (room := self._peer.room(self)):
            try:
                size = self._transport.receive_into(self._peer.view(room))
            except OSError:
                break
            if size <= 0:
                break
            self.read += size
            self._peer.commit(size)
        self._fail(exc)

    # -- life ---------------------------------------------------------------------------------

    def credit(self, size: int) -> None:
        """Nothing to do: a socket is read only when there is room."""

    def close(self) -> None:
        if not self._closed:
            close_in_order(self._transport.sock)
            self._let_go(self._transport.close)

    def abort(self) -> None:
        if self._closed:
            return
        try:
            self._transport.flush()  # what came before the reset goes out before it
        except OSError:
            pass  # reset already
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
        # The two ends and their relay know each other, so they are garbage until the collector has
        # come for them; TLS has too much memory to wait for that.
        self._transport = _CLOSED

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

    def _hung_up(self, events: int) -> None:
        """Errors and hang-ups are reported whether asked for or not, over and over. What came
        before them may still be carried, so look away until reading goes on and finds out."""
        if events & EPOLLERR:
            error = f"{self.name}: {os.strerror(errno.ECONNRESET)}"
            if self._ended:
                self._relay.fail(error)
                return
            self._relay.doom(error)
        if self._registered and not self._events & EPOLLOUT:
            self._registered = False
            self._reactor.unregister(self._fd)
