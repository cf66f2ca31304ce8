"""Lock files: who holds one is alive, and the file says who that is.

The kernel frees the lock whatever way its holder dies, so that a file left behind means nothing.
"""

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

_PATIENCE = 0.1
"""Seconds to try for: `lock_holder` has the lock for a moment."""
_RETRY = 0.01


class LockHeldError(Exception):
    """Another process holds the lock; ``holder`` is what it wrote there."""

    def __init__(self, path: Path, holder: dict[str, Any]) -> None:
        super().__init__(f"{path} is locked by pid {holder.get('pid', 'unknown')}")
        self.path = path
        self.holder = holder


class LockFile:
    """A lock that this process holds; made by `acquire`, or of a descriptor inherited from another
    process that holds it as well."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path, holder: dict[str, Any]) -> "LockFile":
        """Take the lock of ``path`` and write ``holder`` there.

        Raises:
          LockHeldError: another process has it.
          OSError: the file cannot be made.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            if not _lock(descriptor, fcntl.LOCK_EX):
                other = _parse(os.pread(descriptor, 4096, 0))
                os.close(descriptor)
                if time.monotonic() > deadline:
                    raise LockHeldError(path, other)
                time.sleep(_RETRY)
            elif _is_file_at(path, descriptor):
                break
            else:
                os.close(descriptor)  # its holder has removed it since we opened it
        lock = cls(path, descriptor)
        lock.say(holder)
        return lock

    def say(self, holder: dict[str, Any]) -> None:
        """Write there who holds it."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(holder).encode(), 0)

    @property
    def path(self) -> Path:
        return self._path

    def fileno(self) -> int:
        """The descriptor; a process that inherits it holds the lock too."""
        return self._descriptor

    def release(self) -> None:
        """Remove the file, then give up the lock."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def leave(self) -> None:
        """Leave lock and file to who has inherited the descriptor."""
        os.close(self._descriptor)


def lock_holder(path: Path) -> dict[str, Any] | None:
    """What the living holder of the lock of ``path`` wrote there, or None if there is none.

    Raises:
      OSError: the file cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        if _lock(descriptor, fcntl.LOCK_SH):
            return None
        return _parse(os.pread(descriptor, 4096, 0))
    finally:
        os.close(descriptor)


def _lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_file_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _parse(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}  # its holder has not written it yet
    return value if isinstance(value, dict) else {}
