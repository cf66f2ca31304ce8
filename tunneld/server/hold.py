"""Holds an endpoint's first octets back for a moment after the 200.

Many clients (kube-apiserver among them) read the reply's head with a buffered reader and fail if
anything else comes in the same read, which happens with endpoints that speak first. So what such
an endpoint says waits a little, unless the client sends before that: then it has read the head.

Of a UNIX socket the kernel tells when its peer has read everything: there nothing is left to
chance.
"""

import fcntl
import socket
import struct
import termios
from collections import deque
from typing import NamedTuple

import structlog
import trio

from tunneld.relay import DialledEnd

log = structlog.get_logger(__name__)

_LOOK_AGAIN = 0.001
_LONGEST = 1.0
"""Seconds between looks whether a client has read, and until it gets the rest anyway."""


class _Held(NamedTuple):
    due: float
    limit: float
    """Trio times: when to look, and when to look no more."""
    end: DialledEnd
    client: socket.socket | None


class FirstByteHold:
    """One timer task for all connections that begin, rather than one each.

    Args:
      delay: seconds; 0 holds nothing back.
    """

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._held: deque[_Held] = deque()
        self._some = trio.Event()

    def hold(self, end: DialledEnd, early: int) -> None:
        """Call before the relay begins.

        Args:
          early: octets that the client sent before it could read the reply.
        """
        if self._delay:
            end.hold(early)

    def begin(self, end: DialledEnd, client: socket.socket | None) -> None:
        """The reply has left: the delay runs from now.

        Args:
          client: the socket that it was written to, if nothing else is.
        """
        if self._delay:
            now = trio.current_time()
            self._held.append(_Held(now + self._delay, now + _LONGEST, end, client))
            self._some.set()

    async def run(self) -> None:
        """Release what is due, until cancelled."""
        while True:
            await self._some.wait()
            while self._held:
                await trio.sleep_until(self._held[0].due)
                held = self._held.popleft()
                now = trio.current_time()
                if now < held.limit and _has_unread(held.client):
                    self._held.append(held._replace(due=now + _LOOK_AGAIN))
                else:
                    _release(held.end)
            self._some = trio.Event()


def _release(end: DialledEnd) -> None:
    try:
        end.release()
    except Exception:  # a bug: it ends this connection alone
        log.exception("connection failed")
        end.abort()


def _has_unread(client: socket.socket | None) -> bool:
    """Whether octets lie in a UNIX socket that its peer has not read. Of TCP the kernel knows only
    what has arrived."""
    if client is None or client.family != socket.AF_UNIX or client.fileno() < 0:
        return False
    unread: int = struct.unpack("i", fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4)))[0]
    return unread > 0
