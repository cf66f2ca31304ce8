"""Ends of a byte stream as the pump sees them: sockets, and the descriptors 0 and 1 of a process.

Reading follows poll(2) and so never waits; writing must not wait either, whatever the descriptor
is. `O_NONBLOCK` belongs to the open file and would reach other programs that share a terminal or
pipe with us. So pipes and terminals are opened anew, and sockets written with `MSG_DONTWAIT`.
"""

import errno
import os
import select
import socket
import stat
from typing import Protocol

from ctl.reset import receive_into

_AT_ONCE = select.PIPE_BUF
"""Octets that a pipe surely takes when poll(2) calls it writable: it has a free page then."""


class Source(Protocol):
    """Where octets come from."""

    fd: int

    def read_into(self, buffer: memoryview) -> int:
        """Read what is there; 0 is the end. Called when poll(2) says readable.

        Raises:
          BlockingIOError: nothing is there after all.
          OSError: it broke.
        """


class Sink(Protocol):
    """Where octets go."""

    fd: int

    def write(self, data: memoryview) -> int:
        """Write what fits.

        Raises:
          BlockingIOError: nothing fits.
          OSError: it broke.
        """

    def finish(self) -> None:
        """Tell the other end that nothing more comes."""


class SocketEnd:
    """Both directions of a stream socket, whose own blocking mode does not matter."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()

    def read_into(self, buffer: memoryview) -> int:
        return self.sock.recv_into(buffer, 0, socket.MSG_DONTWAIT)

    def write(self, data: memoryview) -> int:
        return self.sock.send(data, socket.MSG_DONTWAIT)

    def finish(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other end is gone already, and knows


class TunnelEnd(SocketEnd):
    """A dialled connection: on its UNIX socket, a reset is told from the end."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._is_reset = False

    def read_into(self, buffer: memoryview) -> int:
        size = 0
        if not self._is_reset:
            size, self._is_reset = receive_into(self.sock, buffer, socket.MSG_DONTWAIT)
        if self._is_reset and not size:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return size


class FileSource:
    """A file, pipe, terminal or socket to read from; the descriptor stays the caller's."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def read_into(self, buffer: memoryview) -> int:
        return os.readv(self.fd, [buffer])


class FileSink:
    """A file, pipe or terminal to write to; `finish` closes the descriptor."""

    def __init__(self, fd: int) -> None:
        self._given = fd
        self._opened = _open_anew(fd)
        self.fd = fd if self._opened is None else self._opened
        may_wait = self._opened is None and not stat.S_ISREG(os.fstat(fd).st_mode)
        self._most = _AT_ONCE if may_wait else None

    def write(self, data: memoryview) -> int:
        return os.write(self.fd, data[: self._most])

    def finish(self) -> None:
        if self._opened is not None:
            os.close(self._opened)
            self._opened = None
        os.close(self._given)


class SocketSink(SocketEnd):
    """A descriptor that happens to be a socket; it stays the caller's."""

    def __init__(self, fd: int) -> None:
        super().__init__(socket.socket(fileno=fd))

    def __del__(self) -> None:
        self.sock.detach()  # else the object would close it


def open_sink(fd: int) -> Sink:
    """An end that writes to ``fd``; its `finish` ends what the other side reads."""
    if stat.S_ISSOCK(os.fstat(fd).st_mode):
        return SocketSink(fd)
    return FileSink(fd)


def _open_anew(fd: int) -> int | None:
    """The same pipe or terminal as an open file of our own, not blocking; None if that fails."""
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        return None
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open(f"/proc/self/fd/{fd}", flags)
    except OSError:  # no /proc, or the terminal belongs to another user
        return None
