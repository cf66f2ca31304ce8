"""The latest log lines of each role, for `tunnelctl role logs`. Bounded: old lines go first."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import trio

LINES = 500
"""Lines kept for each role."""
MAX_TEXT = 4000
"""Characters kept of one event or value; a traceback is among the longest."""
MAX_FIELDS = 32


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One event. ``time`` is in unix seconds; ``fields`` holds plain values only."""

    time: float
    level: str
    event: str
    fields: Mapping[str, Any]
    name: str = ""
    """Of the `tunneld.events.Event` that it is, if it is one."""

    def to_map(self) -> dict[str, Any]:
        """As the control protocol has it."""
        fields = dict(self.fields)
        line = {"time": self.time, "level": self.level, "event": self.event, "fields": fields}
        return {**line, "name": self.name} if self.name else line


def record(
    time: float, level: str, event: str, fields: Iterable[tuple[str, Any]], name: str = ""
) -> LogRecord:
    """A record within bounds: what is no plain value becomes text, and long texts are cut."""
    plain = {key[:100]: _plain(value) for key, value in list(fields)[:MAX_FIELDS]}
    return LogRecord(time, level, event[:MAX_TEXT], plain, name)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and abs(value) < 1 << 63:  # msgpack's range
        return int(value)
    return str(value)[:MAX_TEXT]


class RoleLog:
    """One role's lines. A cursor is the number of lines ever written when it was taken."""

    def __init__(self, size: int = LINES) -> None:
        self._lines: deque[LogRecord] = deque(maxlen=size)
        self._written = 0
        self._more = trio.Event()
        self._closed = False

    def add(self, line: LogRecord) -> None:
        """Append a line; wakes who waits in `wait_beyond`."""
        self._lines.append(line)
        self._written += 1
        self._more.set()
        self._more = trio.Event()

    def cursor(self, lines: int) -> int:
        """Where the last ``lines`` lines begin."""
        return self._written - min(lines, len(self._lines))

    def read(self, cursor: int) -> tuple[list[LogRecord], int]:
        """Lines from ``cursor`` on that are still kept, and how many of them are lost."""
        kept = len(self._lines)
        lost = max(0, self._written - kept - cursor)
        skip = max(0, cursor - (self._written - kept))
        return list(self._lines)[skip:], lost

    async def wait_beyond(self, cursor: int) -> bool:
        """Wait until there is a line at ``cursor``; False if there will be none, ever."""
        while self._written <= cursor:
            if self._closed:
                return False
            await self._more.wait()
        return True

    def close(self) -> None:
        """Nothing more will be written."""
        self._closed = True
        self._more.set()


class LogBook:
    """The logs of all roles, by name."""

    def __init__(self) -> None:
        self._logs: dict[str, RoleLog] = {}

    def of(self, role: str) -> RoleLog:
        """The log of ``role``, which begins empty."""
        return self._logs.setdefault(role, RoleLog())

    def add(self, role: str, line: LogRecord) -> None:
        """Append a line of ``role``, if the role is known."""
        if role in self._logs:
            self._logs[role].add(line)

    def forget(self, role: str) -> None:
        """Drop the lines of a role that is no more; who follows them comes to an end."""
        log = self._logs.pop(role, None)
        if log is not None:
            log.close()
