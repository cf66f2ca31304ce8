"""What the service manager is told: ready, what we do, that we are alive (sd_notify(3)).

Each message is one datagram of ``NAME=value`` lines to the UNIX socket that NOTIFY_SOCKET names.
Without that variable nothing is sent.
"""

import os
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Self

import structlog
import trio

log = structlog.get_logger(__name__)

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_MAX_STATUS = 500
"""Characters of a status line; `systemctl status` shows one line of them."""
_PATIENCE = 5.0
"""Seconds for the manager to take a message."""


class Notifier:
    """One service's line to its manager.

    Args:
      address: path, or ``@name`` of an abstract socket; "" is nobody.
      watchdog: seconds within which the manager wants to hear from us, again and again; 0 if it
        does not.
    """

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        self.address = address
        self.watchdog = watchdog

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> Self:
        """What the manager has told this process, which must be the executed one; the variables
        are removed, so that no child speaks for us.

        Source: sd_notify(3), sd_watchdog_enabled(3).
        """
        address, period, pid = (environ.pop(name, "") for name in _VARIABLES)
        if not address.startswith(("/", "@")):  # as libsystemd has it, but for AF_VSOCK
            address = ""
        ours = pid in ("", str(os.getpid())) and period.isascii() and period.isdigit()
        return cls(address, int(period) / 1e6 if ours else 0.0)

    async def ready(self) -> None:
        """The start is over, or a reload is. The process may be another than the executed one."""
        await self._send("READY=1", f"MAINPID={os.getpid()}")

    async def status(self, text: str) -> None:
        """One line for people."""
        line = " ".join(text.split())
        await self._send(
            f"STATUS={line if len(line) <= _MAX_STATUS else f'{line[: _MAX_STATUS - 1]}…'}"
        )

    async def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        await self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    async def stopping(self, patience: float) -> None:
        """The end begins, and takes ``patience`` seconds at most."""
        await self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(patience * 1e6)}")

    async def succeeded_by(self, pid: int) -> None:
        """Another process is the service from now on."""
        await self._send(f"MAINPID={pid}")

    async def watch(self, alive: Callable[[], Awaitable[None]]) -> None:
        """Tell the manager that we are alive, each time that ``alive`` has returned; until
        cancelled. Returns at once if the manager does not care."""
        if not self.address or not self.watchdog:
            return
        while True:
            await alive()
            await self._send("WATCHDOG=1")
            await trio.sleep(self.watchdog / 2)

    async def _send(self, *lines: str) -> None:
        if not self.address:
            return
        name = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        try:
            with (
                trio.fail_after(_PATIENCE),
                trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
            ):
                await sock.connect(name)
                await sock.send("\n".join(lines).encode("utf-8", "replace"))
        except (OSError, trio.TooSlowError) as exc:
            reason = getattr(exc, "strerror", None) or "it takes no message"
            log.warning("service manager not told", socket=self.address, reason=reason)
