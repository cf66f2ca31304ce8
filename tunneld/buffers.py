"""The memory that octets may take which came and that nobody takes: a bound for the whole process.

Flow control bounds what waits on one stream, and a tunnel has any number of streams. Few of them
are ever stuck, so windows promise more in all than there is memory for. When much does wait, they
become smaller: then what all streams together may still bring fits what is left. A stream that is
read goes on, with a smaller window; one that is not has had what it gets.

Nothing is counted octet by octet. What waits of a stream is what is missing from its window, and
that is summed up once a second, and sooner when much has come.
"""

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import structlog
import trio

from frames import Connection, WindowBudget
from tunneld.quota import LimitedError
from tunneld.telemetry import MEMORY

log = structlog.get_logger(__name__)

_INTERVAL = 1.0
"""Seconds between looks."""
_PART = 200
"""Looks take at most this part of the time, however many streams there are."""
LEAST = 64 << 20
"""Octets that a process may always have."""
_SHARE = 4
"""One octet in so many of the machine's memory is for buffers, unless somebody says otherwise; and
of those one in so many is for each of: what waits before windows become smaller, what windows have
grown by, and the queues of konnectivity's connections."""
_SMALLEST = 4096
"""Octets of a window, whatever happens."""
_STEP = 2
"""Windows change by this factor at least: each change is a SETTINGS frame to each peer."""


class Elastic(Protocol):
    """A session whose streams are connections, each with a window that can be changed."""

    connection: Connection
    first_window: int
    """Octets of a stream's window in the beginning, as long as there is no need to save."""

    def set_window(self, size: int) -> None:
        """Have streams begin with so many octets, and change those that there are as much."""


class Buffers:
    """See the module.

    Args:
      growth: what windows grow by.
      queues: what waits in queues of konnectivity's connections, where no window bounds it.
    """

    def __init__(self, growth: WindowBudget, queues: WindowBudget, limit: int) -> None:
        self.used = 0
        """Octets that waited when we looked last."""
        self.window: int | None = None
        """What streams' windows are restricted to, if they are."""
        self._growth, self._queues = growth, queues
        self._most = (growth.size, queues.size)
        self._sessions: set[Elastic] = set()
        self._woken = trio.Event()
        growth.on_alarm = lambda: self._woken.set()
        self.resize(limit)

    def resize(self, limit: int) -> None:
        """Go by another limit in octets; 0 stands for a share of the machine's memory."""
        self.limit = limit or default_limit()
        share = self.limit // _SHARE
        for budget, most in zip((self._growth, self._queues), self._most, strict=True):
            budget.resize(min(most, share))
        self._set_alarm()

    def add(self, session: Elastic) -> None:
        """Look after a session that begins."""
        self._sessions.add(session)
        if self.window is not None:
            session.set_window(min(self.window, session.first_window))

    def remove(self, session: Elastic) -> None:
        """A session has ended."""
        self._sessions.discard(session)

    def check(self, whose: str) -> None:
        """A dial is about to begin.

        Raises:
          LimitedError: too much waits.
        """
        if self.used < self.limit - self.limit // _SHARE:
            return
        text = (
            f"limit reached: {self.used} octets wait in {whose} that nobody takes"
            f" (buffer-memory = {self.limit})"
        )
        raise LimitedError(MEMORY, whose, text, 1)

    async def watch(self) -> None:
        """Look now and then, until cancelled."""
        interval = _INTERVAL
        while True:
            self._woken = trio.Event()
            with trio.move_on_after(interval):
                await self._woken.wait()
            began = time.monotonic()
            self.look()
            interval = max(_INTERVAL, (time.monotonic() - began) * _PART)

    def look(self) -> None:
        """Sum up what waits, and set the windows accordingly."""
        streams, waiting = 0, self._queues.size - self._queues.left
        for session in self._sessions:
            connection = session.connection
            streams += len(connection.streams)
            for stream in connection.streams.values():
                waiting += stream.window_size - stream.receive_window - stream.unacked
        self.used = waiting
        self._set_windows(streams)
        self._set_alarm()

    def _set_windows(self, streams: int) -> None:
        threshold = self.limit // _SHARE
        if self.used < (threshold if self.window is None else threshold // 2):
            if self.window is not None:
                log.info("windows are as large as ever", waiting=self.used, limit=self.limit)
                self._restrict(None)
            return
        grown = self._growth.size - self._growth.left
        rest = self.limit - self.used - grown - self._queues.left
        window = max(_SMALLEST, rest // max(1, streams))
        if self.window is None:
            log.warning(
                "windows become smaller: much waits that nobody takes",
                waiting=self.used,
                limit=self.limit,
                streams=streams,
                window=window,
            )
        if self.window is None or not self.window / _STEP < window < self.window * _STEP:
            self._restrict(window)

    def _restrict(self, window: int | None) -> None:
        self.window = window
        self._growth.is_frozen = window is not None
        for session in list(self._sessions):
            first = session.first_window
            session.set_window(first if window is None else min(window, first))

    def _set_alarm(self) -> None:
        """Look at once when so much has come that it might be too much, if nobody takes it."""
        left = self.limit // _SHARE - self.used
        step = self.limit // (_SHARE * _SHARE)
        self._growth.set_alarm(max(left, step))


def default_limit() -> int:
    """A share of the memory that this process may have."""
    return max(LEAST, memory_of_machine() // _SHARE)


def memory_of_machine(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> int:
    """Octets of memory of the machine, or of the control group if that may have less; 0 if the
    kernel does not tell."""
    total = min(_of_machine(proc), *_of_groups(proc, sys), math.inf)
    return int(total) if total < math.inf else 0


def _of_machine(proc: Path) -> float:
    for line in _lines(proc / "meminfo"):
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return math.inf


def _of_groups(proc: Path, sys: Path) -> Iterable[float]:
    """Limits of the control groups that the process is in, of version 2 and 1."""
    for line in _lines(proc / "self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, name = sys / "fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            root, name = sys / "fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        parts = Path(path.lstrip("/")).parts
        for depth in range(len(parts) + 1):
            for text in _lines(root.joinpath(*parts[:depth], name)):
                if text.isdigit():
                    yield int(text)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
