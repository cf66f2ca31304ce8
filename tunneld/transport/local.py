"""The transport of a local client's connection: a UNIX socket on which resets are told."""

import errno
import os
import socket

from ctl.reset import receive_into, send_reset
from tunneld.transport.base import WOULD_BLOCK
from tunneld.transport.plain import PlainTransport


class LocalTransport(PlainTransport):
    """Between the daemon and its clients, which know how a reset is told (`ctl.reset`); the UNIX
    sockets of frontends are for programs that do not."""

    __slots__ = ("_is_reset",)

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._is_reset = False

    def receive_into(self, view: memoryview) -> int:
        size = 0
        if not self._is_reset:
            try:
                size, self._is_reset = receive_into(self.sock, view)
            except BlockingIOError:
                return WOULD_BLOCK
            self.has_pending = self._is_reset
        if self._is_reset and not size:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return size

    def abort(self) -> None:
        send_reset(self.sock)
        self.close()
