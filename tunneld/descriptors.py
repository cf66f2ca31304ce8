"""Descriptors that are kept back: when few are left, no new connections, so that those that run go
on, and whoever wants to look or to stop something still gets in.

The kernel gives a new descriptor the lowest number that is free. So a socket whose number is high
tells that all the lower ones are taken: nothing has to be counted.
"""

import math
import os
import resource
import socket

import trio

from tunneld.events import Event, emit
from tunneld.quota import LimitedError
from tunneld.telemetry import DESCRIPTORS

_RESERVE = 64
"""Descriptors that connections leave alone."""
_SHARE = 8
"""One in so many, if that is less."""
_PAUSE = 0.1
"""Seconds between looks whether there are some again."""
_CALM = 5.0
"""Seconds without a shortage that end an episode."""


class Descriptors:
    """Those of the process."""

    def __init__(self) -> None:
        self.episodes = 0
        """How often they have run short so far."""
        self._short_until = -math.inf

    @property
    def limit(self) -> int:
        """How many the process may have."""
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    @property
    def usable(self) -> int:
        """How many of them connections may take."""
        limit = self.limit
        return limit - min(_RESERVE, limit // _SHARE)

    def check(self, sock: socket.socket, whose: str) -> None:
        """A connection is about to begin that needs ``sock``.

        Raises:
          LimitedError: it has one of the descriptors that are kept back.
        """
        if sock.fileno() < self.usable:
            return
        raise self.shortage(whose)

    def shortage(self, whose: str) -> LimitedError:
        """What to say of a dial for which there is no descriptor."""
        self.note()
        text = (
            f"limit reached: {whose} has few file descriptors left, and takes no new connections"
            f" (it may have {self.limit})"
        )
        return LimitedError(DESCRIPTORS, whose, text, 1)

    @property
    def lowest(self) -> int:
        """The number that a new descriptor would get; `limit` if there is none left."""
        try:
            number = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return self.limit
        os.close(number)
        return number

    @property
    def are_short(self) -> bool:
        """Whether none is left but those that are kept back."""
        return self.lowest >= self.usable

    async def wait_for_some(self) -> None:
        """For a listener that has got one of those that are kept back: return when half of them are
        free."""
        while self.lowest >= (self.usable + self.limit) // 2:
            self.note()
            await trio.sleep(_PAUSE)

    def note(self, error: str = "") -> None:
        """They have run short; the log hears of it once for each time that lasts."""
        now = trio.current_time()
        if now >= self._short_until:
            self.episodes += 1
            emit(
                Event.OUT_OF_DESCRIPTORS,
                limit=self.limit,
                **({"error": error} if error else {}),
            )
        self._short_until = now + _CALM


descriptors = Descriptors()
"""Of this process."""
