"""A daemon as a process of its own, and what the kernel says of it."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_START_TIMEOUT = 30.0


@dataclass(frozen=True)
class Cost:
    """What a time has cost a process."""

    cpu: float
    """Seconds, of user and system."""
    memory: float
    """MB that its resident set had grown by, at the most."""


class Victim:
    """``tunneld`` with one configuration; the context manager starts and ends it."""

    def __init__(self, directory: Path, config: str) -> None:
        self.directory = directory
        self.control = directory / "c.sock"
        directory.mkdir()
        (directory / "tunneld.toml").write_text(config)

    def __enter__(self) -> "Victim":
        argv = ["-m", "tunneld", "start", "--foreground", "--config", "tunneld.toml"]
        places = ["--control", str(self.control), "--state", str(self.directory / "state")]
        with (self.directory / "log").open("wb") as log:
            self._popen = subprocess.Popen(
                [sys.executable, *argv, *places],
                cwd=self.directory,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            )
        assert self._popen.stdout is not None
        if b"is ready" not in self._popen.stdout.readline():
            self._end()
            raise RuntimeError(self.log())
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self._popen.kill()
        self._popen.wait()
        assert self._popen.stdout is not None
        self._popen.stdout.close()

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def log(self) -> str:
        """What it said on stderr."""
        return (self.directory / "log").read_text(errors="replace")

    # -- proc(5) ------------------------------------------------------------------------------

    @property
    def _proc(self) -> Path:
        return Path(f"/proc/{self._popen.pid}")

    @property
    def descriptors(self) -> int:
        return len(list((self._proc / "fd").iterdir()))

    @property
    def cpu(self) -> float:
        """Seconds."""
        fields = (self._proc / "stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def _memory(self, key: str) -> float:
        for line in (self._proc / "status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError(f"no {key} in {self._proc}/status")

    def begin(self) -> "Meter":
        """Measure from now on."""
        (self._proc / "clear_refs").write_text("5")  # the peak starts anew
        return Meter(self, self.cpu, self._memory("VmRSS"))

    @property
    def peak(self) -> float:
        """MB resident at the most since the last `begin`."""
        return self._memory("VmHWM")


@dataclass(frozen=True)
class Meter:
    """See `Victim.begin`."""

    victim: Victim
    cpu: float
    memory: float

    def read(self) -> Cost:
        """The cost so far."""
        return Cost(self.victim.cpu - self.cpu, max(0.0, self.victim.peak - self.memory))
