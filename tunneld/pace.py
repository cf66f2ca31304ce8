"""A bandwidth that connections share: who may pass on octets next, and how many.

Nothing is lost and nobody polls: who may not go on waits in line, and is called when it is its
turn. Meanwhile it does not read, and flow control carries that on to whoever sends.
"""

from collections import deque
from functools import partial
from typing import Protocol

import trio

from tunneld.reactor import Reactor, Timer, Unit
from tunneld.tokenbucket import TokenBucket

_MOST = 64 * 1024
_LEAST = 512
"""Octets of a turn. Small ones cost more, large ones make the others wait."""
_TURNS = 32
"""How many turns a second makes, where `_LEAST` and `_MOST` allow it."""
_BURST = 0.125
"""Seconds of the bandwidth that may be made up for: less, and late timers would slow us down."""
_STALE = 0.25
"""Seconds after which a turn that was not used is forfeit."""
_SOON = 0.002


class Waiter(Unit, Protocol):
    """Who waits in line."""

    def go_on(self) -> None:
        """It is its turn: `Pace.ask` says yes to it during this call."""


class Pace:
    """One direction of a bandwidth.

    Args:
      rate: octets a second.
    """

    def __init__(self, reactor: Reactor, rate: int) -> None:
        self._reactor = reactor
        self._waiting: deque[Waiter] = deque()
        self._turn: Waiter | None = None
        self._due: Timer | None = None
        """What serves the line next, if that is arranged."""
        self.quantum = _quantum(rate)
        """Octets of a turn."""
        self._bucket = TokenBucket(rate, _burst(rate), trio.current_time())
        self._limited = rate > 0

    def change(self, rate: int) -> None:
        """Go by another rate; 0 stands for any."""
        self._limited = rate > 0
        self.quantum = _quantum(rate)
        self._bucket.change(rate, _burst(rate), trio.current_time())
        if self._waiting:
            self._arrange(None)
            self._serve_soon()

    @property
    def waiting(self) -> int:
        """How many wait in line."""
        return len(self._waiting)

    def ask(self, waiter: Waiter) -> int:
        """Octets that ``waiter`` may pass on, to be told to `spend`; if 0, it is now in line."""
        if not self._limited:
            return _MOST
        if self._turn is waiter:
            self._turn = None
            return self.quantum
        if not self._waiting and self._bucket.left(trio.current_time()) >= self.quantum:
            return self.quantum
        self._waiting.append(waiter)
        self._serve_soon()
        return 0

    def spend(self, size: int) -> None:
        """So many octets have been passed on."""
        self._bucket.spend(size)

    def leave(self, waiter: Waiter) -> None:
        """``waiter`` does not wait any more. Harmless if it did not."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)

    def fail(self, error: Exception) -> None:
        """As `Unit`: a fault in serving the line; whoever is next in it may have more luck."""
        self._arrange(None)
        if self._waiting:
            self._serve_soon()

    def _arrange(self, timer: Timer | None) -> None:
        if self._due is not None:
            self._due.cancel()
        self._due = timer

    def _serve_soon(self) -> None:
        if self._due is not None:
            return
        lack = self.quantum - self._bucket.left(trio.current_time())
        if lack <= 0 or not self._limited:
            self._let_next()
        else:
            delay = max(_SOON, lack / self._bucket.rate)
            self._arrange(self._reactor.call_later(delay, self, self._serve))

    def _serve(self) -> None:
        self._arrange(None)
        if self._waiting:
            self._serve_soon()

    def _let_next(self) -> None:
        """Let who is first in line go on, in a call of its own: a fault in it is its fault."""
        waiter = self._waiting.popleft()
        action = partial(self._let, waiter)
        self._arrange(Timer(waiter, action))
        self._reactor.call_next_turn(waiter, action)

    def _let(self, waiter: Waiter) -> None:
        self._arrange(None)
        self._turn = waiter
        try:
            waiter.go_on()
        finally:
            self._turn = None
            if self._waiting:
                self._serve_soon()


def _quantum(rate: int) -> int:
    return max(_LEAST, min(_MOST, rate // _TURNS)) if rate else _MOST


def _burst(rate: int) -> float:
    return max(_quantum(rate), rate * _BURST)


class Paces:
    """Both directions of a bandwidth."""

    def __init__(self, reactor: Reactor, rate: int) -> None:
        self.to_agent = Pace(reactor, rate)
        self.from_agent = Pace(reactor, rate)

    def change(self, rate: int) -> None:
        """As `Pace.change`, of both."""
        self.to_agent.change(rate)
        self.from_agent.change(rate)


class Passage:
    """What one connection may pass on in one direction: as much as all of its paces let it.

    It asks them one by one, and keeps what it was allowed until it uses it: two lines that each let
    somebody go whom the other does not would let nobody go.
    """

    __slots__ = ("_allowed", "_at", "_is_in_line", "_paces", "_passed")

    def __init__(self, paces: list[Pace]) -> None:
        self._paces = paces
        self._passed = 0
        """How many of the paces have let it go on."""
        self._allowed = 0
        self._at = 0.0
        """When the first of them did."""
        self._is_in_line = False

    def ask(self, waiter: Waiter) -> int:
        """Octets that may be passed on now; if 0, ``waiter`` is called later, and `called` then."""
        if self._is_in_line:
            return 0
        if self._passed == len(self._paces) and trio.current_time() - self._at > _STALE:
            self._passed = 0
        while self._passed < len(self._paces):
            allowed = self._paces[self._passed].ask(waiter)
            if not allowed:
                self._is_in_line = True
                return 0
            if self._passed:
                allowed = min(allowed, self._allowed)
            else:
                self._at = trio.current_time()
            self._allowed = allowed
            self._passed += 1
        return self._allowed

    def called(self) -> None:
        """It is our turn in the line that we were in."""
        self._is_in_line = False

    def spend(self, size: int) -> None:
        """So many of them were."""
        for pace in self._paces:
            pace.spend(size)
        self._allowed -= size
        if self._allowed <= 0:
            self._passed = 0

    def leave(self, waiter: Waiter) -> None:
        """The connection is over."""
        for pace in self._paces:
            pace.leave(waiter)
