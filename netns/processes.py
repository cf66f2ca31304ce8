"""Processes of a lab: which one built it, which ones are inside, and how to end them.

A process is told by its number and the time it started, or by the mark of the namespace it is
in; never by name.
"""

import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from netns import kernel
from netns.mark import is_marked
from netns.spaces import mark_here

_GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""


@dataclass(frozen=True, slots=True)
class Process:
    """A running process."""

    pid: int
    command: str
    """Its short name, for people."""


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 if there is none. With the number it
    names one process for the time of a boot (proc(5), field 22 of stat)."""
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def processes_inside(token: str) -> list[Process]:
    """Processes in network namespaces with the mark of that lab, but for us and our ancestors.

    Forks, to look into namespaces; the caller must have one thread. Those of other users that we
    may not look at are left out.
    """
    found: dict[int, bool] = {Path("/proc/self/ns/net").stat().st_ino: False}
    spared = set(_ancestors(os.getpid()))
    inside = []
    for pid in _pids():
        inode = _namespace_of(pid)
        if inode is None or pid in spared:
            continue
        if inode not in found:
            found[inode] = is_marked(_mark_of(pid), token)
        if found[inode]:
            inside.append(Process(pid, _command(pid)))
    return inside


def end_processes(pids: Iterable[int]) -> None:
    """End them: SIGTERM, then SIGKILL; returns once all are gone.

    Raises:
      PermissionError: one is not ours to end.
    """
    handles = [fd for pid in pids if (fd := _open(pid)) is not None]
    try:
        _end(handles)
    finally:
        for fd in handles:
            os.close(fd)


def end_process(pid: int, started: int) -> None:
    """End the process of that number that started then; nothing if it is gone.

    Raises:
      PermissionError: it is not ours to end.
    """
    fd = _open(pid)
    if fd is None:
        return
    try:
        # Asked after the descriptor is open: from here on the number cannot change hands.
        if start_time(pid) == started:
            _end([fd])
    finally:
        os.close(fd)


def _end(fds: list[int]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for fd in fds:
            _signal(fd, number)
        if _all_ended(fds, _GRACE):
            return


def _open(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _signal(fd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        pass  # it has ended by itself


def _all_ended(fds: Iterable[int], timeout: float) -> bool:
    waiting = set(fds)
    deadline = time.monotonic() + timeout
    while waiting and (left := deadline - time.monotonic()) > 0:
        ended, _, _ = select.select(waiting, [], [], left)  # a pidfd is readable once it ended
        waiting.difference_update(ended)
    return not waiting


def _mark_of(pid: int) -> str:
    """The mark of the namespace a process is in, "" if it has none or we may not look.

    A child looks: a process cannot come back from another user namespace.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _tell_mark(pid, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text.decode()


def _tell_mark(pid: int, writer: int) -> None:
    try:
        user = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
        net = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        if os.fstat(user).st_ino != Path("/proc/self/ns/user").stat().st_ino:
            kernel.setns(user, kernel.CLONE_NEWUSER)
        kernel.setns(net, kernel.CLONE_NEWNET)
        os.write(writer, mark_here().encode())
    except OSError:
        pass  # it ended, or belongs to somebody else: no mark then
    finally:
        os._exit(0)


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 0:
        yield pid
        fields = _stat(pid)
        pid = int(fields[1]) if fields else 0


def _namespace_of(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return None


def _stat(pid: int) -> list[str]:
    """Of proc(5)'s stat, the fields from the third on: the second may hold any characters."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "?"
