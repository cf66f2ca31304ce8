"""The daemon's own files: state directory and control socket."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ctl.paths import PathError, check_private_directory
from tunneld.doctor.finding import Finding, failed, noted, passed, warned


def check_state(directory: Path) -> Iterator[Finding]:
    """Whether the state directory is there, and ours alone."""
    try:
        check_private_directory(directory)
    except FileNotFoundError:
        yield noted("state directory", f"{directory} is not there yet; the daemon makes it")
    except PathError as exc:
        yield failed("state directory", str(exc), "correct that, or choose another: --state")
    except OSError as exc:
        yield failed("state directory", f"{directory}: {exc.strerror}", "run as the daemon's user")
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
