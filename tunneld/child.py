"""A child process of the daemon: spawned from the main thread, awaited by its pidfd.

Trio's own processes are forked in a thread that ends soon after; the parent-death signal that a
worker asks for would then kill it (prctl(2): the *thread* that created it counts as the parent).
"""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import trio
from trio.lowlevel import FdStream

REAP_TIMEOUT = 5.0
"""Seconds that the kernel gets to end a killed process."""


class Child:
    """A process with its standard streams; ``stdin`` and ``stdout`` are None unless piped."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self._pidfd = os.pidfd_open(popen.pid)
        self.stdin = _stream(popen.stdin)
        self.stdout = _stream(popen.stdout)
        self.stderr = _stream(popen.stderr)

    @classmethod
    def spawn(
        cls,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
        talks: bool = False,
    ) -> "Child":
        """Start ``argv``, in a session of its own so that a terminal's signals pass it by.

        Args:
          environment: on top of ours.
          descriptors: stay open in it, under their numbers.
          talks: whether it gets pipes as stdin and stdout; otherwise these are /dev/null.
        Raises:
          OSError: it cannot be executed.
        """
        # Opened here: Popen of 3.11.2 leaves it open when there is no descriptor for what follows.
        with Path(os.devnull).open("r+b", buffering=0) as null:
            end = subprocess.PIPE if talks else null
            popen = subprocess.Popen(
                argv,
                bufsize=0,
                stdin=end,
                stdout=end,
                stderr=subprocess.PIPE,
                env={**os.environ, **(environment or {})},
                cwd="/",
                pass_fds=descriptors,
                start_new_session=True,
            )
        try:
            return cls(popen)
        except OSError:  # no descriptor to await it by
            popen.kill()
            with popen:
                raise

    @property
    def pid(self) -> int:
        return self._popen.pid

    async def wait(self) -> int:
        """Wait for its end; the exit status, or minus the signal that ended it."""
        while (status := self._popen.poll()) is None:
            await trio.lowlevel.wait_readable(self._pidfd)
        return status

    def kill(self) -> None:
        """End it at once. Harmless when it has ended."""
        self._popen.kill()

    async def finish(self, grace: float) -> int:
        """Wait up to ``grace`` seconds for its end, then kill it; close the streams.

        Shielded from cancellation: a child that nobody reaps would stay a zombie.
        """
        with trio.CancelScope(shield=True):
            with trio.move_on_after(grace):
                await self.wait()
            self.kill()
            with trio.move_on_after(REAP_TIMEOUT):
                await self.wait()
            for stream in (self.stdin, self.stdout, self.stderr):
                if stream is not None:
                    await stream.aclose()
        os.close(self._pidfd)
        status = self._popen.returncode
        return -signal.SIGKILL if status is None else status


def _stream(file: IO[bytes] | None) -> FdStream | None:
    """Trio's stream over a pipe's end, which is taken over."""
    if file is None:
        return None
    descriptor = os.dup(file.fileno())
    file.close()
    return FdStream(descriptor)


def describe_status(status: int) -> str:
    """An exit status for people."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
