"""The data plane's loop: one trio task that serves many sockets by synchronous handlers.

A trio task for each socket costs more than the octets it carries, so the sockets of tunnels and
relays live in an epoll set of their own. An epoll descriptor is itself pollable: trio waits for
that one descriptor, and everything ready is then served in one turn. What the handlers of a turn
produce for the same tunnel goes out together when the turn ends: one TLS write, one system call.

Handlers never wait and never raise for what a peer does; an exception in one is a bug, which
ends that handler's own unit (`Handler.fail`), never the loop.
"""

import heapq
import itertools
import math
import os
import select
import time
from collections.abc import Callable
from typing import Protocol

import structlog
import trio

log = structlog.get_logger(__name__)

EPOLLIN = select.EPOLLIN
EPOLLOUT = select.EPOLLOUT
EPOLLERR = select.EPOLLERR
EPOLLHUP = select.EPOLLHUP

_MAX_EVENTS = 256
_MAX_STRETCH = 0.002
"""Seconds of turns on end before other trio tasks (handshakes, dials) get the thread, however busy
the sockets are."""
_SPIN = 200e-6
"""Seconds to look for more work before parking, while the gaps are shorter than that."""
_LONG_TURN = 100e-6
"""Seconds; after a turn of that length parking costs little, and looking would take the processor
from whoever is to send more."""
_LONGEST_GAP = 0.01
"""Seconds; a longer gap counts as this much, so that a burst is recognised after an idle hour."""


class Unit(Protocol):
    """What a fault of ours ends, rather than the loop."""

    def fail(self, error: Exception) -> None:
        """A call on its behalf raised ``error``: end this unit at once."""


class Handler(Unit, Protocol):
    """Serves one descriptor."""

    def on_ready(self, events: int) -> None:
        """The descriptor is ready for ``events`` (EPOLL* bits). Must not block."""


class Flushable(Handler, Protocol):
    """A handler that gathers its output over a turn."""

    def flush(self) -> None:
        """Send what the turn produced."""


class Timer:
    """A call that is due later. A cancelled one holds nobody in memory until then."""

    __slots__ = ("action", "unit")

    def __init__(self, unit: Unit, action: Callable[[], None]) -> None:
        self.unit: Unit | None = unit
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Call it off; harmless at any time."""
        self.unit = self.action = None


class Reactor:
    """One process's data plane. `run` serves; everything else is plain calls from its thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._dirty: list[Flushable] = []
        self._closing: list[Callable[[], None]] = []
        self._next_turn: list[tuple[Unit, Callable[[], None]]] = []
        self._in_turn = False
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_numbers = itertools.count()
        self._earlier = trio.Event()
        """Set when a timer is due before all others."""
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wakeup, EPOLLIN)

    @property
    def served(self) -> int:
        """How many descriptors are served."""
        return len(self._handlers)

    def register(self, fd: int, handler: Handler, events: int) -> None:
        """Serve ``fd`` by ``handler``; level-triggered, ``events`` as for epoll."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def modify(self, fd: int, events: int) -> None:
        """Change what ``fd`` is watched for (errors and hang-ups always are)."""
        self._epoll.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """Stop serving ``fd``; events of this turn still in hand for it are dropped."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def mark_dirty(self, handler: Flushable) -> None:
        """Have ``handler.flush()`` called when this turn ends, or now if none is under way."""
        self._dirty.append(handler)
        if not self._in_turn:
            self._finish_turn()

    def at_turn_end(self, action: Callable[[], None]) -> None:
        """Run ``action`` when this turn's events are served, or now if no turn is under way.

        For closing descriptors: the number of one that is closed in mid-turn could be given to a
        new socket while an event for the old one is still in hand.
        """
        self._closing.append(action)
        if not self._in_turn:
            self._finish_turn()

    def call_next_turn(self, unit: Unit, action: Callable[[], None]) -> None:
        """Run ``action`` in the next turn, on behalf of ``unit``.

        For work that a descriptor's readiness does not show, such as octets that are already
        decrypted, or a source whose turn has come.
        """
        self._next_turn.append((unit, action))
        if not self._in_turn:
            os.eventfd_write(self._wakeup, 1)

    def call_later(self, delay: float, unit: Unit, action: Callable[[], None]) -> Timer:
        """Run ``action`` in a turn ``delay`` seconds from now, on behalf of ``unit``."""
        timer = Timer(unit, action)
        entry = (trio.current_time() + delay, next(self._timer_numbers), timer)
        heapq.heappush(self._timers, entry)
        if self._timers[0] is entry:
            self._earlier.set()
        return timer

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_timers)
            await self._run(task_status)

    async def _run_timers(self) -> None:
        while True:
            self._earlier = trio.Event()
            due = self._timers[0][0] if self._timers else math.inf
            with trio.move_on_at(due):
                await self._earlier.wait()
            now = trio.current_time()
            while self._timers and self._timers[0][0] <= now:
                timer = heapq.heappop(self._timers)[2]
                if timer.unit is not None and timer.action is not None:
                    self.call_next_turn(timer.unit, timer.action)

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        gap = _LONGEST_GAP  # smoothed time spent parked, s
        busy = False
        while True:
            parked = time.monotonic()
            if busy or self._next_turn:
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
            now = time.monotonic()
            gap += (min(now - parked, _LONGEST_GAP) - gap) * 0.25
            busy = self._serve(now, _SPIN if gap < _SPIN else 0.0)

    def close(self) -> None:
        """Give up the descriptors; `run` must have ended."""
        self._epoll.close()
        os.close(self._wakeup)

    def _serve(self, now: float, spin: float) -> bool:
        """Serve turns until nothing was ready for ``spin`` seconds (False), or others need the
        thread (True)."""
        poll = self._epoll.poll
        limit = now + _MAX_STRETCH
        give_up = now + spin
        while now < limit:
            events = poll(0, _MAX_EVENTS)
            if events or self._next_turn:
                self._turn(events)
                began, now = now, time.monotonic()
                give_up = now + spin if now - began < _LONG_TURN else now
            elif now < give_up:
                os.sched_yield()
                now = time.monotonic()
            else:
                return False
        return True

    def _turn(self, events: list[tuple[int, int]]) -> None:
        handlers = self._handlers
        self._in_turn = True
        if self._next_turn:
            actions, self._next_turn = self._next_turn, []
            for unit, action in actions:
                try:
                    action()
                except Exception as exc:
                    self._failed(unit, exc)
        for fd, bits in events:
            served = handlers.get(fd)
            if served is None:
                if fd == self._wakeup:
                    os.eventfd_read(fd)
                continue
            try:
                served.on_ready(bits)
            except Exception as exc:
                self._failed(served, exc)
        self._finish_turn()

    def _finish_turn(self) -> None:
        self._in_turn = True
        while self._dirty or self._closing:
            while self._dirty:
                dirty = self._dirty.pop()
                try:
                    dirty.flush()
                except Exception as exc:
                    self._failed(dirty, exc)
            closing, self._closing = self._closing, []
            for action in closing:
                try:
                    action()
                except OSError as exc:
                    log.error("cannot close a descriptor", error=str(exc))
        self._in_turn = False

    def _failed(self, unit: Unit, exc: Exception) -> None:
        log.error("data plane handler failed", handler=type(unit).__name__, exc_info=exc)
        try:
            unit.fail(exc)
        except Exception:  # not even that works: let go of it, or it fails again in every turn
            log.exception("data plane handler cannot be ended", handler=type(unit).__name__)
            for fd in [fd for fd, each in self._handlers.items() if each is unit]:
                self.unregister(fd)
