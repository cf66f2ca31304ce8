"""The audit: a line of JSON for each connection at its end, and for each dial that failed.

Who carries connections never waits for the disk: lines are queued, and written in a thread. What
finds no room is dropped and counted, which is an event. The file may be renamed or removed at any
time, as logrotate does: the next lines go to a new one of its name. Several processes may write to
one file; each line is written whole. `docs/reference/audit.md` has the members.
"""

import os
import stat
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, time
from typing import Any, Final

import msgspec
import trio

from tunneld.conns import Conn, Conns
from tunneld.dialing import PROHIBITED, DialError
from tunneld.events import Event, emit
from tunneld.role import Host, RoleError
from tunneld.rolemetrics import Metrics
from tunneld.samples import metric

VERSION: Final = 1
"""Of the lines; it changes when a member changes its meaning or goes away."""
MAX_WAITING = 20_000
"""Lines that wait to be written."""
_MAX_TEXT = 2_000
"""Characters of what others have a say in: an agent may give a reason of 4 MiB."""
_PAUSE = 0.05
"""Seconds between writes: lines of many short connections go together."""
_RETRY = 1.0
"""Seconds after a write that failed."""
_LAST = 2.0
"""Seconds to write what waits in the end."""

_NEWLINE = 0x0A

_encode = msgspec.json.Encoder().encode


def line_of(conn: Conn, role: str, kind: str) -> bytes:
    """The line of a connection that has ended, with its newline."""
    sent, received = conn.octets()
    error = conn.error
    item: dict[str, Any] = {
        "v": VERSION,
        "time": _rfc3339(time()),
        "began": _rfc3339(conn.since),
        "seconds": round(monotonic() - conn.began, 6),
        "dial": conn.dial,
        "role": role,
        "kind": kind,
        "client": conn.caller.name,
        "address": conn.caller.address,
        "destination": conn.destination[:_MAX_TEXT],
        "dialled": conn.dialled,
        "agent": conn.agent,
        "decision": _decision(conn),
        "rule": conn.rule,
        "sent": sent,
        "received": received,
        "ended": conn.ended,
        "code": error.kind.code if isinstance(error, DialError) else "",
        "reason": str(error)[:_MAX_TEXT] if isinstance(error, Exception) else "",
    }
    return _encode(item) + b"\n"


def _decision(conn: Conn) -> str:
    if isinstance(conn.error, DialError) and conn.error.kind is PROHIBITED:
        return "deny"
    return "allow"


def _rfc3339(seconds: float) -> str:
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def open_audit(path: str, host: Host, kind: str, conns: Conns) -> "Audit | None":
    """The audit of a role about its connections; None without a path."""
    if not path:
        return None
    audit = Audit(host.state_dir / path, host.name, kind)
    conns.on_end = audit.record
    return audit


class AuditFile:
    """Appends to a file, mode 0600, that may be renamed meanwhile. Blocks as long as the disk does.

    Raises:
      OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = _open(path)
        self._torn = False
        """Whether the last line was written in part."""
        self.busy = False
        """Whether a thread is about to write, or does."""

    def write(self, lines: list[bytes]) -> None:
        """Append lines, to a new file if ours has been moved.

        Raises:
          OSError: not all could be written.
        """
        try:
            self._follow()
            data = memoryview((b"\n" if self._torn else b"") + b"".join(lines))
            while data:
                written = os.write(self._descriptor, data)
                self._torn = data[written - 1] != _NEWLINE
                data = data[written:]
        finally:
            self.busy = False

    def close(self) -> None:
        os.close(self._descriptor)

    def _follow(self) -> None:
        ours = os.fstat(self._descriptor)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            pass
        else:
            if os.path.samestat(ours, there):
                return
        descriptor = _open(self._path)
        os.close(self._descriptor)
        self._descriptor, self._torn = descriptor, False


def _open(path: Path) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) and mode & 0o077:
        os.fchmod(descriptor, 0o600)
    return descriptor


class Audit:
    """The audit of one role. `record` may be given to `Conns` before `running`.

    Args:
      kind: of the role: ``server``, ``agent``.
      open_file: raises OSError.
    """

    def __init__(
        self,
        path: Path,
        role: str,
        kind: str,
        open_file: Callable[[Path], AuditFile] = AuditFile,
    ) -> None:
        self.lost = 0
        """Lines that were dropped."""
        self._path = path
        self._role = role
        self._kind = kind
        self._open_file = open_file
        self._lines: deque[bytes] = deque()
        self._some = trio.Event()
        self._closing = False
        self._writing = trio.CancelScope()
        self._told = 0
        """Of those lost."""

    def record(self, conn: Conn) -> None:
        """Have a line written about a connection that has ended."""
        if len(self._lines) >= MAX_WAITING:
            self.lost += 1
            return
        self._lines.append(line_of(conn, self._role, self._kind))
        self._some.set()

    def metrics(self) -> Metrics:
        """For Prometheus."""
        text = "Audit lines that could not be written."
        return [metric("tunneld_audit_lost_total", "counter", text, [({}, self.lost)])]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write while the block runs, and what waits then within a moment.

        Raises:
          RoleError: the file cannot be opened.
        """
        try:
            file = self._open_file(self._path)
        except OSError as exc:
            text = f"cannot open the audit file {self._path}: {exc.strerror}"
            raise RoleError(f"{text}; make its directory, or choose another with audit") from exc
        async with trio.open_nursery() as nursery:
            await nursery.start(self._write, file)
            try:
                yield
            finally:
                self._closing = True
                self._some.set()
                self._writing.deadline = trio.current_time() + _LAST

    async def _write(self, file: AuditFile, task_status: trio.TaskStatus[None]) -> None:
        with trio.CancelScope(shield=True) as self._writing:
            task_status.started()
            while not self._closing:
                await self._some.wait()
                self._some = trio.Event()
                while self._lines:
                    good = await self._write_some(file)
                    if not self._closing:
                        await trio.sleep(_PAUSE if good else _RETRY)
        if not file.busy:  # else a write hangs, and its descriptor must not become another file's
            file.close()

    async def _write_some(self, file: AuditFile) -> bool:
        """Write the lines that wait; whether that went well."""
        lines = list(self._lines)
        self._lines.clear()
        file.busy = True
        try:
            await trio.to_thread.run_sync(file.write, lines, abandon_on_cancel=True)
        except OSError as exc:
            self.lost += len(lines)
            self._tell(exc.strerror or str(exc))
            return False
        if self.lost > self._told:
            self._tell("too many waited to be written")
        return True

    def _tell(self, why: str) -> None:
        emit(Event.AUDIT_LOST, lost=self.lost - self._told, file=str(self._path), error=why)
        self._told = self.lost
