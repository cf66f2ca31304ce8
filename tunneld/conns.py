"""The connections that a server or an agent carries now, as `tunnelctl conns` shows them."""

import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple, Protocol

import structlog
import trio

from tunneld.caller import Caller
from tunneld.dialing import FAILED, DialError
from tunneld.dialrecord import new_dial_id
from tunneld.events import Event, emit
from tunneld.meter import Meter, Rates, Stall
from tunneld.relay import Relay, RelayError

log = structlog.get_logger(__name__)

DIALLING = "dialling"
OPEN = "open"
"""States of a connection."""

_LOOK = 1.0
"""Seconds between looks at all connections."""
_SHARE = 200
"""A look takes at most this part of the time, however many connections there are."""
MAX_TEXT = 253
"""Characters of a value in a row; a host name has no more."""

_numbers = itertools.count(1)


class Link(Protocol):
    """A tunnel, as far as its connections show it."""

    @property
    def rtt(self) -> float | None:
        """Seconds; None before it is known."""


class Fares(NamedTuple):
    """How a connection fares."""

    rates: Rates
    queue: int
    """Octets in this process that wait for one of its ends."""
    stall: Stall | None


class Conn:
    """One dialled connection, from the dial on."""

    def __init__(self, caller: Caller, destination: str, agent: str, dial: str = "") -> None:
        self.number = next(_numbers)
        """Unique in this process: a connect id on the wire."""
        self.dial = dial or new_dial_id()
        """Unique everywhere: what people call the connection."""
        self.caller = caller
        self.destination = destination
        self.dialled = ""
        """``address:port`` that the agent connected to, where that is known."""
        self.agent = agent
        self.rule = ""
        """The rule that decided, where there are any."""
        self.since = time.time()
        self.state = DIALLING
        self.octets: Callable[[], tuple[int, int]] = lambda: (0, 0)
        """Carried so far: towards the endpoint, and back."""
        self.relay: Relay | None = None
        """What carries it, once it is open."""
        self.link: Link | None = None
        """The tunnel that it goes through."""
        self.began = time.monotonic()
        self.opened = trio.current_time()
        """When it began, in Trio time."""
        self.meter: Meter | None = None
        self.ended = ""
        """How, in a word, once it has: see `Conns.listed`."""
        self.error: BaseException | None = None
        """What ended it, if it was an error."""
        self.scope = trio.CancelScope()
        """What `kill` cancels."""
        self._killed: str | None = None
        self._how = "killed"

    def expire(self, reason: str) -> None:
        """As `kill`, for a limit of time, which is nobody's doing."""
        if self._killed is None:
            self._killed, self._how = reason, "expired"
            log.info(
                "connection expired",
                dial=self.dial,
                client=str(self.caller),
                destination=self.destination,
                reason=reason,
            )
            self.scope.cancel()

    def kill(self, reason: str) -> None:
        """Reset the connection both ways, or give its dial up."""
        if self._killed is None:
            self._killed = reason
            emit(
                Event.CONNECTION_KILLED,
                dial=self.dial,
                client=str(self.caller),
                destination=self.destination,
                agent=self.agent,
                reason=reason,
            )
            self.scope.cancel()

    def deliver_kill(self) -> None:
        """To be called behind `scope`.

        Raises:
          DialError, RelayError: `kill` or `expire` was called, while dialling or later.
        """
        if self._killed is not None:
            text = f"{self._how}: {self._killed}" if self._killed else self._how
            raise DialError(FAILED, text) if self.state == DIALLING else RelayError(text)

    @property
    def killed(self) -> str:
        """How it was ended from outside, as `Conns.listed` has it; "" if it was not."""
        return self._how if self._killed is not None else ""

    def look(self, now: float) -> None:
        """Take note of how it fares; ``now`` is in monotonic seconds."""
        if self.meter is None:
            self.meter = Meter(self.began)
        self.meter.look(now, self.octets(), self.relay)

    def fares(self) -> Fares:
        """How it fares now."""
        now = time.monotonic()
        meter = self.meter or Meter(self.began)
        queue = sum(end.backlog for end in self.relay.ends) if self.relay else 0
        return Fares(meter.rates(now, self.octets()), queue, meter.stall(now))

    def row(self, sides: tuple[str, str]) -> dict[str, Any]:
        """For `tunnelctl conns`.

        Args:
          sides: what is at the ends of the relay.
        """
        octets, (rates, queue, stall) = self.octets(), self.fares()
        rtt = self.link.rtt if self.link is not None else None
        return {
            "id": self.dial,
            "client": (self.caller.address or self.caller.name)[:MAX_TEXT],
            "identity": self.caller.name[:MAX_TEXT],
            "destination": self.destination[:MAX_TEXT],
            "dialled": self.dialled,
            "agent": self.agent[:MAX_TEXT],
            "state": self.state if stall is None else "stalled",
            "since": self.since,
            "bytes_sent": octets[0],
            "bytes_received": octets[1],
            "rate_sent": round(rates.sent, 1),
            "rate_received": round(rates.received, 1),
            "queue": queue,
            "stalled_by": sides[stall.end] if stall else "",
            "stalled_seconds": round(stall.seconds, 1) if stall else 0.0,
            "rtt_ms": None if rtt is None else rtt * 1000,
        }


class Conns:
    """All of them, of one role.

    Args:
      sides: what is at the ends of a relay, as `Conn.row` has it.
      on_end: called with each connection that has ended, and each dial that has failed.
    """

    def __init__(
        self,
        sides: tuple[str, str] = ("client", "agent"),
        on_end: Callable[[Conn], None] | None = None,
    ) -> None:
        self.on_end = on_end
        self._sides = sides
        self._conns: dict[int, Conn] = {}
        self._empty = trio.Event()
        self._some = trio.Event()

    def __iter__(self) -> Iterator[Conn]:
        return iter(list(self._conns.values()))

    async def wait_empty(self) -> None:
        """Return when none is left; only for when no new ones come."""
        while self._conns:
            self._empty = trio.Event()
            await self._empty.wait()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look at all connections now and then while the block runs: rates and stalls are known by
        that."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            yield
            nursery.cancel_scope.cancel()

    async def _watch(self) -> None:
        while True:
            if not self._conns:
                self._some = trio.Event()
                await self._some.wait()
            began = time.monotonic()
            for conn in self._conns.values():
                conn.look(began)
            await trio.sleep(max(_LOOK, (time.monotonic() - began) * _SHARE))

    @contextmanager
    def listed(
        self, caller: Caller, destination: str, agent: str = "", dial: str = ""
    ) -> Iterator[Conn]:
        """List a connection while the block runs. ``conn.ended`` is then one of

        ``closed``     both ways had ended
        ``reset``      one end was reset or lost, and so the other
        ``failed``     the dial failed
        ``killed``     by an operator
        ``expired``    it lasted, or was silent, for too long
        ``cancelled``  the client left while it waited for the dial, or the role was stopped
        ``error``      a fault of ours

        Raises:
          DialError, RelayError: `Conn.kill` ended it.
        """
        conn = Conn(caller, destination, agent, dial)
        self._conns[conn.number] = conn
        if len(self._conns) == 1:
            self._some.set()
        try:
            with conn.scope:
                yield conn
            conn.deliver_kill()
            conn.ended = "closed"
        except BaseException as exc:
            conn.error = exc
            conn.ended = _ending(conn, exc)
            raise
        finally:
            del self._conns[conn.number]
            if not self._conns:
                self._empty.set()
            if self.on_end is not None:
                self.on_end(conn)
            conn.error = None  # its frames would keep the connection alive

    def kill(self, dial: str, reason: str) -> list[str]:
        """End the connection of that dial; its id, if it is there."""
        killed = [conn for conn in self if conn.dial == dial]
        for conn in killed:
            conn.kill(reason)
        return [conn.dial for conn in killed]

    def rows(self, role: str) -> list[dict[str, Any]]:
        """For `tunnelctl conns`, oldest first."""
        return [{**conn.row(self._sides), "role": role} for conn in self._conns.values()]


def _ending(conn: Conn, exc: BaseException) -> str:
    if conn.killed:
        return conn.killed
    match exc:
        case DialError():
            return "failed"
        case RelayError():
            return "reset"
        case trio.Cancelled():
            return "cancelled"
    return "error"
