"""What a worker tells its supervisor unasked. Who tells never waits, and a supervisor that does
not listen costs no more than the latest lines and states."""

from collections import deque

import trio

from tunneld.framestream import FrameStream
from tunneld.logbook import LogRecord
from tunneld.rolestatus import RoleStatus

MAX_LINES = 1000
"""Log lines that wait to be sent; older ones are dropped."""


class Outbox:
    """Collects states and lines; `run` sends them."""

    def __init__(self) -> None:
        self._lines: deque[tuple[str | None, LogRecord]] = deque(maxlen=MAX_LINES)
        self._states: dict[str, RoleStatus] = {}
        self._more = trio.Event()

    def tell_status(self, role: str, status: RoleStatus) -> None:
        """Send the status of a role, instead of one that is still waiting."""
        self._states[role] = status
        self._more.set()

    def tell_line(self, role: str | None, line: LogRecord) -> None:
        """Send a log line; a sink of `tunneld.log`."""
        self._lines.append((role, line))
        self._more.set()

    async def run(self, frames: FrameStream) -> None:
        """Send for ever.

        Raises:
          trio.BrokenResourceError: the supervisor is gone.
        """
        while True:
            await self._more.wait()
            self._more = trio.Event()
            while self._lines:
                role, line = self._lines.popleft()
                await frames.send({"id": 0, "item": {"role": role, "log": line.to_map()}})
            while self._states:
                role = next(iter(self._states))
                status = self._states.pop(role)
                await frames.send({"id": 0, "item": {"role": role, "status": status.to_map()}})
