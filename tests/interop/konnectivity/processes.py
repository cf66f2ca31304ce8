"""Processes that tests start and end, and what they say and serve."""

import http.client
import random
import signal
import socket
import subprocess
from pathlib import Path
from typing import IO

import trio

READY_TIMEOUT = 30.0
"""Seconds a program has until it is ready."""

PORTS = range(20_000, 32_768)
"""konnectivity's server takes none above 49151; the kernel gives none out below 32768."""

_untried = random.sample(PORTS, len(PORTS))
"""In another order in each test run: several may share the machine."""


def free_port() -> int:
    """A TCP port that nobody listens at, and that was not given before."""
    while not _is_free(port := _untried.pop()):
        pass
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


class Process:
    """A program that can be started again; its output goes to one log."""

    def __init__(self, name: str, argv: list[str], log: Path) -> None:
        self.name = name
        self.argv = argv
        self.log = log
        self._popen: subprocess.Popen[str] | None = None

    def start(self, stdout: int | None = None) -> None:
        """Start it; ``stdout`` is `subprocess.PIPE` for `read_line`."""
        log: IO[str]
        with self.log.open("a") as log:
            log.write(f"== {' '.join(self.argv)}\n")
            log.flush()
            self._popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=log,
                text=True,
            )

    @property
    def popen(self) -> subprocess.Popen[str]:
        assert self._popen, f"{self.name} was not started"
        return self._popen

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def read_line(self) -> str:
        assert self.popen.stdout
        return self.popen.stdout.readline()

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._popen is None:
            return
        self._popen.kill()
        self._popen.wait()
        if self._popen.stdout:
            self._popen.stdout.close()

    async def ended(self) -> int:
        """Its exit status, once there is one."""
        return await trio.to_thread.run_sync(self.popen.wait, abandon_on_cancel=True)

    def log_text(self, size: int = 4000) -> str:
        """The last ``size`` characters of what it said."""
        return self.log.read_text(errors="replace")[-size:]


async def http_get(port: int, path: str) -> tuple[int, str]:
    """Status and body; (0, "") while nobody answers."""

    def ask() -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    return await trio.to_thread.run_sync(ask)


async def wait_for(process: Process, port: int, path: str, status: int = 200) -> None:
    """Until ``path`` answers with ``status``.

    Raises:
      RuntimeError: the process has ended, or takes longer than `READY_TIMEOUT`.
    """
    with trio.move_on_after(READY_TIMEOUT):
        while (await http_get(port, path))[0] != status:
            if not process.running:
                raise RuntimeError(f"{process.name} has ended: {process.log_text()}")
            await trio.sleep(0.02)
        return
    raise RuntimeError(f"{process.name}: {path} is not {status}: {process.log_text()}")
