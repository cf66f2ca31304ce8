"""Locks on directories: who holds one is alive, and the kernel frees it whatever way he dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netns.errors import NetnsError

_RETRY = 0.02


@contextmanager
def lock_directory(directory: Path, timeout: float, holder: str) -> Iterator[None]:
    """Hold the lock of an existing directory.

    Args:
      timeout: seconds to wait for it.
      holder: who else may have it, for the error.
    Raises:
      NetnsError: ``busy``.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not _acquire(fd, timeout):
            raise NetnsError(
                "busy",
                f"{directory} is locked by {holder}",
                "wait until it is done, then try again",
            )
        yield
    finally:
        os.close(fd)


def is_locked(directory: Path) -> bool:
    """Whether somebody holds the lock; False for a directory that is not there."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def _acquire(fd: int, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    # Without LOCK_NB there is no way to give up; `is_locked` also holds it for a moment.
    while not _try(fd, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            return False
        time.sleep(_RETRY)
    return True


def _try(fd: int, operation: int) -> bool:
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
