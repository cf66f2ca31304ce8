"""The control socket as a file: where it may be, whose it is, and when one is stale."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ctl.paths import PathError, make_private_directory
from tunneld.openlisteners import open_listeners

BACKLOG = 512
"""Connections that wait to be accepted; further clients wait in connect()."""


class SocketInUseError(Exception):
    """Somebody listens on the path."""


def prepare_directory(directory: Path) -> None:
    """Make the directory of the socket, mode 0700, or see that it can be trusted.

    A directory such as /tmp is fine too: its sticky bit keeps others from exchanging our files.

    Raises:
      PathError: others could exchange the socket in it.
      OSError: it cannot be made.
    """
    try:
        status = directory.lstat()
    except FileNotFoundError:
        make_private_directory(directory)
        return
    if not (status.st_mode & stat.S_ISVTX and status.st_uid in (0, os.getuid())):
        make_private_directory(directory)


@contextmanager
def control_socket(path: Path) -> Iterator[socket.socket]:
    """Listen on ``path``, mode 0600, and remove it in the end, unless a successor has it. The
    caller holds the lock that keeps other daemons away.

    Raises:
      SocketInUseError: somebody listens there.
      PathError: there is something else than a socket.
      OSError: it cannot be made.
    """
    remove_stale_socket(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        umask = os.umask(0o177)
        try:
            sock.bind(os.fspath(path))
        finally:
            os.umask(umask)
        made = path.lstat()
        try:
            sock.listen(BACKLOG)
            yield sock
        finally:
            if not open_listeners.given_away:
                remove_own_socket(path, made)


def remove_stale_socket(path: Path) -> bool:
    """Remove a socket file that nobody listens on; whether there was one.

    Raises:
      SocketInUseError: somebody does.
      PathError: it is no socket.
      OSError: it cannot be looked at, or removed.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(status.st_mode):
        raise PathError(f"{path} is no socket; remove it or choose another place")
    if _answers(path):
        raise SocketInUseError(f"somebody else listens on {path}")
    path.unlink(missing_ok=True)
    return True


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            return True  # its backlog is full
    return True


def remove_own_socket(path: Path, made: os.stat_result) -> None:
    try:
        if os.path.samestat(path.lstat(), made):
            path.unlink()
    except FileNotFoundError:
        pass
