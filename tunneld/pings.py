"""What a session asks its peer by PINGs: whether it lives, how far away it is, what it has read."""

import itertools
from collections.abc import Callable

import trio

ACK_TIMEOUT = 20.0
"""Seconds that a peer has to say something after a PING, as with gRPC."""
_KEEPALIVE = b"keep up?"


class Pings:
    """All calls but `keep_alive` are plain ones, from the reactor or beside it.

    Args:
      say: sends a PING with these 8 octets, if the session still goes on.
      look: reads what has come; it is not the peer's fault if it was us who slept.
      lose: the peer is gone, and why.
    """

    def __init__(
        self, say: Callable[[bytes], None], look: Callable[[], None], lose: Callable[[str], None]
    ) -> None:
        self.rtt: float | None = None
        """Seconds; of the last PING."""
        self.heard = True
        """Whether anything has come from the peer since the last PING; whoever reads sets it."""
        self._say = say
        self._look = look
        self._lose = lose
        self._asked_at: float | None = None
        self._probes: dict[bytes, Callable[[], None]] = {}
        self._numbers = itertools.count()

    async def keep_alive(
        self, interval: float, run_next_turn: Callable[[Callable[[], None]], None]
    ) -> None:
        """Send a PING every ``interval`` seconds, and lose a peer that stays silent."""
        patience = min(interval, ACK_TIMEOUT)
        await trio.sleep(interval)
        while True:
            run_next_turn(self._ask)
            await trio.sleep(patience)
            run_next_turn(self._check)
            await trio.sleep(interval - patience)

    def probe(self, answered: Callable[[], None]) -> None:
        """Have ``answered`` called when the peer has read all that was said to it so far; never, if
        the session ends before."""
        data = next(self._numbers).to_bytes(8, "big")
        self._probes[data] = answered
        self._say(data)

    async def answered(self) -> None:
        """Send a PING and wait for the answer; for ever, if the session ends before."""
        told = trio.Event()
        self.probe(told.set)
        await told.wait()

    def acknowledged(self, data: bytes) -> None:
        """The peer has answered a PING with ``data``."""
        if (answered := self._probes.pop(data, None)) is not None:
            answered()
        elif self._asked_at is not None:
            self.rtt = trio.current_time() - self._asked_at
            self._asked_at = None

    def forget(self) -> None:
        """The session is over: no probe will be answered."""
        self._probes.clear()

    def _ask(self) -> None:
        self.heard = False
        self._asked_at = trio.current_time()
        self._say(_KEEPALIVE)

    def _check(self) -> None:
        """Give up on a peer that has been silent since the last PING."""
        if not self.heard and self._asked_at is not None:
            self._look()
            if not self.heard:
                self._lose(f"nothing heard for {trio.current_time() - self._asked_at:.0f} s")
