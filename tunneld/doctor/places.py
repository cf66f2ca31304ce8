"""The daemon's own files: state directory and control socket."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tunneld.doctor.finding import Finding, failed, noted, passed, warned


def check_state(directory: Path, uid: int) -> Iterator[Finding]:
    """Whether the state directory is there, and its owner's alone.

    Args:
      uid: whom the daemon runs as, or would.
    """
    try:
        status = directory.lstat()
    except FileNotFoundError:
        yield noted("state directory", f"{directory} is not there yet; the daemon makes it")
        return
    except OSError as exc:
        yield failed("state directory", f"{directory}: {exc.strerror}", "run as the daemon's user")
        return
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISDIR(status.st_mode):
        yield failed("state directory", f"{directory} is no directory", "choose another: --state")
    elif status.st_uid != uid:
        text = f"{directory} belongs to uid {status.st_uid}, the daemon is uid {uid}"
        yield failed("state directory", text, f"chown -R {uid} {directory}, or choose another")
    elif mode & 0o022:
        text = f"{directory} has mode {mode:04o}: others can write to it"
        yield failed("state directory", text, f"chmod 700 {directory}")
    else:
        yield from _room(directory)


def _room(directory: Path) -> Iterator[Finding]:
    if not os.access(directory, os.W_OK | os.X_OK):
        text = f"{directory} cannot be written to"
        yield failed("state directory", text, "is the file system mounted read-only?")
        return
    space = os.statvfs(directory)
    free = space.f_bavail * space.f_frsize >> 20
    text = f"{directory} is private, {free} MiB free"
    if free < _LITTLE:
        yield warned("state directory", text, "make room: logs and certificates need some")
    else:
        yield passed("state directory", text)


_LITTLE = 64
"""MiB."""


def owner_of(pid: int) -> int:
    """Uid that a process runs as; ours if it is gone."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return os.getuid()


def check_socket(path: Path) -> Iterator[Finding]:
    """Whether the control socket, which is there, is for its owner alone."""
    try:
        status = path.lstat()
    except OSError as exc:
        yield failed("control socket", f"{path}: {exc.strerror}", "start: tunneld start")
        return
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISSOCK(status.st_mode):
        yield failed("control socket", f"{path} is no socket", "remove it, or choose another")
    elif mode & 0o077:
        text = f"{path} has mode {mode:04o}: others may connect"
        yield warned("control socket", text, f"chmod 600 {path}")
    else:
        yield passed("control socket", f"{path} has mode {mode:04o}")
