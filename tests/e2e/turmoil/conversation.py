"""One connection of a client: what it sends, what it checks, and how it ends."""

import math
import random
from collections.abc import Awaitable, Callable
from enum import StrEnum

import trio
from h2.exceptions import H2Error

from tests.e2e.turmoil.records import TO_CLIENT, TO_ENDPOINT, Receiver, Sender, WrongOctetsError
from tests.tunneld.peers import Peer, TlsPeer

HUNG = 45.0
"""Seconds without any octet, where some are due, that no event explains."""
_LARGEST = 8000


class Mode(StrEnum):
    """See `endpoint`."""

    ROUND = "round"
    DOWN = "down"
    UP = "up"


class Outcome(StrEnum):
    """Of a connection."""

    COMPLETE = "complete"
    """Both ways to their ends, every octet right."""
    BROKEN = "broken"
    """Ended with an error."""
    TRUNCATED = "truncated"
    """A clean end, and octets are missing."""
    WRONG = "wrong"
    HUNG = "hung"


class Conversation:
    """See the module.

    Args:
      pace: seconds between two records.
      wait: returns when reading may go on.
    """

    def __init__(
        self,
        peer: Peer,
        number: int,
        mode: Mode,
        pace: float,
        chance: random.Random,
        wait: Callable[[], Awaitable[None]],
    ) -> None:
        self.peer = peer
        self.number = number
        self.mode = mode
        self.error = ""
        self.marked = math.inf
        self.resumed: float | None = None
        """When the first round that was begun since ``marked`` was complete; trio's time."""
        self._pace = pace
        self._chance = chance
        self._wait = wait
        self._sender = Sender(number, TO_ENDPOINT)
        self._receiver = Receiver(number, TO_CLIENT)
        self._records = 0

    @property
    def octets(self) -> int:
        """That came and were right."""
        return self._receiver.octets

    async def run(self, until: trio.Event, seconds: float) -> Outcome:
        """Talk for so long, or until that, then end in order."""
        deadline = trio.current_time() + seconds
        try:
            return await self._run(until, deadline)
        except WrongOctetsError as exc:
            self.error = str(exc)
            return Outcome.WRONG
        except trio.TooSlowError:
            self.error = f"connection {self.number}: no octet in {HUNG:g} s ({self.mode})"
            return Outcome.HUNG
        except (OSError, trio.BrokenResourceError, H2Error) as exc:
            self.error = str(exc)
            try:
                self._receiver.check_rest()
            except WrongOctetsError as wrong:
                self.error = str(wrong)
                return Outcome.WRONG
            return Outcome.BROKEN

    async def _run(self, until: trio.Event, deadline: float) -> Outcome:
        size = self._chance.randrange(1000, 40_000)
        wanted = {"mode": self.mode, "pace": self._pace, "size": size}
        await self.peer.send_all(self._sender.hello(wanted))
        going = True
        if self.mode is not Mode.DOWN:
            going = await self._receive_record()
        while going and not until.is_set() and trio.current_time() < deadline:
            going = await self._step(until, size)
        if going:
            with trio.fail_after(HUNG):
                await self._send_end()
            while await self._receive():
                pass
        if self._receiver.complete:
            return Outcome.COMPLETE
        self.error = (
            f"connection {self.number}: clean end behind {self.octets} octets ({self.mode})"
        )
        return Outcome.TRUNCATED

    async def _step(self, until: trio.Event, size: int) -> bool:
        """Whether it goes on."""
        if self.mode is Mode.DOWN:
            await self._wait()
            return await self._receive()
        begun = trio.current_time()
        if self.mode is Mode.UP:
            with trio.fail_after(HUNG):
                await self.peer.send_all(self._sender.data(size))
        else:
            await self.peer.send_all(self._sender.data(self._chance.randrange(_LARGEST)))
            if not await self._receive_record():
                return False
            if self.resumed is None and begun >= self.marked:
                self.resumed = trio.current_time()
        with trio.move_on_after(self._pace * self._chance.uniform(0.5, 1.5)):
            await until.wait()
        return True

    async def _receive_record(self) -> bool:
        """Receive until there is one more; False at the end."""
        before = self._records
        while self._records == before:
            if not await self._receive():
                return False
        return True

    async def _receive(self) -> bool:
        with trio.fail_after(HUNG):
            data = await self.peer.receive_some()
        self._records += len(self._receiver.feed(data))
        return bool(data)

    async def _send_end(self) -> None:
        peer = self.peer
        if isinstance(peer, TlsPeer):
            # OpenSSL takes octets that come behind our close_notify for an error.
            peer.notify = self.number % 2 == 0 and self.mode is not Mode.DOWN
        await peer.send_all(self._sender.end())
        await peer.send_eof()
