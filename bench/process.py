"""A program that is measured, with all that it has spawned."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.errors import BenchError

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LISTEN = "0A"
"""A listening socket's state in /proc/net/tcp."""


class Process:
    """Runs from the constructor on. Its measures cover its descendants too."""

    def __init__(
        self, argv: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=None if environment is None else {**os.environ, **environment},
                cwd="/",
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def tree(self) -> list[int]:
        """Process ids, its own first."""
        children = _children()
        found, waiting = [], [self.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            waiting += children.get(pid, [])
        return found

    def resident_mb(self) -> float:
        """Resident memory, in 10^6 octets; what processes share counts for each."""
        pages = 0
        for pid in self.tree():
            words = _read(f"/proc/{pid}/statm").split()
            pages += int(words[1]) if words else 0
        return pages * _PAGE / 1e6

    def cpu_seconds(self) -> float:
        """User and system time, that of descendants already waited for included."""
        ticks = 0
        for pid in self.tree():
            fields = _stat(pid)
            ticks += sum(map(int, fields[11:15])) if fields else 0
        return ticks / _TICK

    def listens(self, port: int) -> bool:
        """Whether anything in its network namespace, once it has entered one, listens on that TCP
        port."""
        if _network_of(self.pid) in ("", _network_of(os.getpid())):
            return False
        wanted = f":{port:04X}"
        for table in ("tcp", "tcp6"):
            for line in _read(f"/proc/{self.pid}/net/{table}").splitlines()[1:]:
                words = line.split()
                if words[1].endswith(wanted) and words[3] == _LISTEN:
                    return True
        return False

    def wait_listening(self, port: int, timeout: float = 10) -> None:
        """
        Raises:
          BenchError: it ended, or does not listen in time.
        """
        if not wait_until(lambda: self.listens(port) or not self.alive, timeout) or not self.alive:
            raise BenchError(f"nothing listens on port {port}: {self.last_words()}")

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-400:].strip()

    def kill(self) -> None:
        """End it and its descendants at once; there is nothing to save."""
        for pid in self.tree():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        self._process.wait()


class MachineTime:
    """What the whole machine has done since this was made."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._busy = _busy_seconds()

    def cores_beside(self, cpu_seconds: float) -> float:
        """How many processors others kept busy, if ``cpu_seconds`` are known."""
        elapsed = time.monotonic() - self._started
        return max(0.0, _busy_seconds() - self._busy - cpu_seconds) / elapsed


def wait_until(condition: Callable[[], bool], timeout: float, step: float = 0.02) -> bool:
    """Look every ``step`` seconds; whether it came true in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(step)
    return True


def _busy_seconds() -> float:
    """Of all processors: user, nice and system time, and that of interrupts, which processes are
    charged for while they run."""
    words = _read("/proc/stat").split(maxsplit=8)
    return sum(int(words[column]) for column in (1, 2, 3, 6, 7)) / _TICK


def _children() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - hundreds of names, often
        if name.isdigit() and (fields := _stat(int(name))):
            children.setdefault(int(fields[1]), []).append(int(name))
    return children


def _network_of(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (the state) on; none if it has ended."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
