"""A transport without TLS: TCP to an endpoint, or a UNIX socket."""

import socket

from tunneld.transport.base import WOULD_BLOCK, abort_socket


class PlainTransport:
    """See `tunneld.transport.base.Transport`. What the socket does not take is copied."""

    __slots__ = ("_kept", "has_pending", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.has_pending = False
        self._kept = bytearray()

    def receive_into(self, view: memoryview) -> int:
        try:
            return self.sock.recv_into(view)
        except BlockingIOError:
            return WOULD_BLOCK

    def send(self, data: memoryview) -> None:
        sent = 0
        if not self._kept:
            try:
                sent = self.sock.send(data)
            except BlockingIOError:
                pass
        if sent < len(data):
            self._kept += data[sent:]

    def flush(self) -> bool:
        while self._kept:
            try:
                sent = self.sock.send(self._kept)
            except BlockingIOError:
                return False
            del self._kept[:sent]
        return True

    @property
    def unsent(self) -> int:
        return len(self._kept)

    def send_eof(self) -> bool:
        self.sock.shutdown(socket.SHUT_WR)
        return True

    def close(self) -> None:
        self.sock.close()

    def abort(self) -> None:
        abort_socket(self.sock)
