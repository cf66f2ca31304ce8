"""Holds an endpoint's first octets back for a moment after the 200.

Many clients (kube-apiserver among them) read the reply's head with a buffered reader and fail if
anything else comes in the same read, which happens with endpoints that speak first. So what such
an endpoint says waits a little, unless the client sends before that: then it has read the head.
"""

from collections import deque

import trio

from tunneld.relay import DialledEnd


class FirstByteHold:
    """One timer task for all connections that begin, rather than one each.

    Args:
      delay: seconds; 0 holds nothing back.
    """

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._held: deque[tuple[float, DialledEnd]] = deque()
        self._some = trio.Event()

    def hold(self, end: DialledEnd, early: int) -> None:
        """Call before the relay begins.

        Args:
          early: octets that the client sent before it could read the reply.
        """
        if self._delay:
            end.hold(early)

    def begin(self, end: DialledEnd) -> None:
        """The reply has left: the delay runs from now."""
        if self._delay:
            self._held.append((trio.current_time() + self._delay, end))
            self._some.set()

    async def run(self) -> None:
        """Release what is due, until cancelled."""
        while True:
            await self._some.wait()
            while self._held:
                due, end = self._held[0]
                await trio.sleep_until(due)
                self._held.popleft()
                end.release()
            self._some = trio.Event()
