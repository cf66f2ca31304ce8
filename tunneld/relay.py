"""Carries one dialled connection: two ends, octets both ways, half-close and resets included.

An end is a socket (`tunneld.socketend`) or a stream of a session (`tunneld.streamend`). Sockets
are read only when the other end has room, straight into its frame; streams push, and their
window bounds what may wait. Each way ends by itself (half-close); anything else that ends one
end aborts the other, so that a cut-off stream never looks complete.
"""

from typing import Protocol

import trio

_LAST_OCTETS = 1.0
"""Seconds that octets from before a reset may wait for the other end to take them."""


class RelayError(Exception):
    """The relay ended by a reset, not by both ends' half-close; the text says whose."""


class Keeper(Protocol):
    """What ends tell how they fare: their relay."""

    def way_ended(self) -> None:
        """One end got the last octets of the other, and the half-close behind them."""

    def fail(self, error: str) -> None:
        """An end was reset or lost; the text says why."""


class Sink(Protocol):
    """What an end pushes octets to, and is credited by: the other end."""

    def deliver(self, data: memoryview, end: bool) -> None:
        """Take octets that were pushed, all of them; ``end`` if they are the last."""

    @property
    def has_all(self) -> bool:
        """Whether `deliver` has had the last octets."""

    def credit(self, size: int) -> None:
        """The other end is done with ``size`` octets of those pushed to it."""


class End(Sink, Protocol):
    """One side of a relay."""

    def attach(self, relay: "Relay", peer: "End") -> None:
        """Learn who is at the other end; nothing is carried yet."""

    def start(self) -> None:
        """Both ends are attached: carry."""

    def close(self) -> None:
        """Both ways have ended: let go."""

    def abort(self) -> None:
        """Reset; safe at any time, and more than once."""

    @property
    def carried(self) -> int:
        """Octets of the other end's that went out here."""

    @property
    def backlog(self) -> int:
        """Octets in this process that wait to go out here."""

    @property
    def waits(self) -> bool:
        """Whether the other end has octets that this one cannot take now."""


class Source(Protocol):
    """What is read only when the other end has room."""

    def resume(self) -> None:
        """The other end has room again."""


class FrameEnd(End, Protocol):
    """An end that sockets are read into: the payload of its next frame."""

    def room(self, source: "Source") -> int:
        """Octets that may be written into `view` now; if 0, ``source.resume()`` comes later."""

    def view(self, size: int) -> memoryview:
        """Where ``size`` ≤ `room` octets may be received; `commit` follows, or nothing does."""

    def commit(self, size: int) -> None:
        """``size`` octets of `view` are to be carried on."""

    def finish(self) -> None:
        """The source has no more octets: half-close."""


class DialledEnd(FrameEnd, Protocol):
    """The end that leads to an endpoint, through a tunnel."""

    @property
    def sent(self) -> int:
        """Octets of the peer's that went out."""

    def hold(self, early: int) -> None:
        """Keep what comes even after the relay started, until `release`, or until the peer sends
        more than the ``early`` octets that it sent before it could read our reply: it may need a
        moment between the reply's head and what follows."""

    def release(self) -> None:
        """End `hold`."""

    def hang_up(self) -> None:
        """The peer, which has ended its way, will not read any more either."""


class Relay:
    """Two ends and their end. `run` is the one call between control plane and data plane."""

    def __init__(self, first: End, second: FrameEnd) -> None:
        self.ends: tuple[End, FrameEnd] = (first, second)
        self._ways_open = 2
        self._over = trio.Event()
        self._stirred = trio.Event()
        """Set when it is over, or doomed."""
        self._doom = ""
        self._error: str | None = None

    @property
    def error(self) -> str | None:
        """Why the ends are being reset, if they are."""
        return self._error

    @property
    def half_closed(self) -> bool:
        """Whether one way has ended, and the other has not."""
        return self._ways_open == 1

    async def run(self) -> None:
        """Carry octets until both ways have ended; cancelling resets both ends.

        Raises:
          RelayError: one end was reset or lost; the other has been reset too.
        """
        first, second = self.ends
        try:
            first.attach(self, second)
            second.attach(self, first)
            first.start()
            second.start()
            await self._stirred.wait()
            if not self._over.is_set():
                with trio.move_on_after(_LAST_OCTETS):
                    await self._over.wait()
                self.fail(self._doom)
        finally:
            self.fail("cancelled")
        if self._error is not None:
            raise RelayError(self._error)

    def way_ended(self) -> None:
        """As `Keeper`."""
        self._ways_open -= 1
        if not self._ways_open and not self._over.is_set():
            self._over.set()
            self._stirred.set()
            for end in self.ends:
                end.close()

    def fail(self, error: str) -> None:
        """As `Keeper`: reset both ends; the first error is the one that counts."""
        if self._over.is_set():
            return
        self._error = error
        self._over.set()
        self._stirred.set()
        for end in self.ends:
            end.abort()

    def doom(self, error: str) -> None:
        """One end was reset, but not all that came before that has been read, for want of room at
        the other: `fail` soon, unless reading gets there first."""
        self._doom = error
        self._stirred.set()
