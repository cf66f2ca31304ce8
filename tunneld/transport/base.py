"""What carries octets: one non-blocking socket, with or without TLS, driven by whoever owns it.

Nothing here waits. A trio task drives a transport through `tunneld.transport.stream`; the data
plane drives it from the reactor. It belongs to one of them at a time.
"""

import errno
import os
import socket
import struct
from typing import Protocol

WOULD_BLOCK = -1
"""`Transport.receive_into` found nothing to read now."""

_USER_TIMEOUT = 20_000
"""Milliseconds, as konnectivity's programs set it."""
_KEEPALIVE_IDLE = 60
_KEEPALIVE_INTERVAL = 15
"""Seconds of silence before the first probe, and between probes."""
_KEEPALIVE_COUNT = 4
"""Probes without an answer that break the connection."""
_LINGER_NONE = struct.pack("ii", 1, 0)
_LINGER_OFF = struct.pack("ii", 0, 0)


class Transport(Protocol):
    """A byte stream over a socket. Errors of the peer or the network come as `OSError`."""

    sock: socket.socket

    def receive_into(self, view: memoryview) -> int:
        """Octets read into ``view``; 0 at the end of the stream, `WOULD_BLOCK` if none now."""

    has_pending: bool
    """Whether `receive_into` has more that the socket's readiness does not show."""

    def send(self, data: memoryview) -> None:
        """Take over all of ``data``; `flush` brings it out."""

    def flush(self) -> bool:
        """Send what is kept; whether all of it has left."""

    @property
    def unsent(self) -> int:
        """Octets of `send` that have not left, or that are amid a record that has not."""

    def send_eof(self) -> bool:
        """Half-close; nothing may be unsent. Whether it has left; else `flush` brings it out."""

    def close(self) -> None:
        """Close the socket."""

    def abort(self) -> None:
        """Close it with a reset, so that the peer can't take a cut-off stream for a whole one."""


class ClosedTransport:
    """Stands for one that was closed, and keeps nothing of it: there is nobody at the other end."""

    sock: socket.socket
    """There is none."""
    has_pending = False
    unsent = 0

    def receive_into(self, view: memoryview) -> int:
        raise _no_socket()

    def send(self, data: memoryview) -> None:
        raise _no_socket()

    def flush(self) -> bool:
        raise _no_socket()

    def send_eof(self) -> bool:
        raise _no_socket()

    def close(self) -> None:
        """It is closed."""

    def abort(self) -> None:
        """It is closed."""


def _no_socket() -> OSError:
    return OSError(errno.EBADF, os.strerror(errno.EBADF))


def abort_socket(sock: socket.socket) -> None:
    """Close with RST (SO_LINGER of zero seconds); a UNIX socket just closes."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
    except OSError:
        pass  # already disconnected: closing is all that is left
    sock.close()


def reset_at_death(sock: socket.socket) -> None:
    """Have the kernel reset the connection if this process is killed: left alone, it would end it
    in order, and nobody could tell that from the end of the stream. `close_in_order` ends that."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)


def close_in_order(sock: socket.socket) -> None:
    """Have closing be no reset any more."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
    except OSError:
        pass  # as in `abort_socket`


def tune(sock: socket.socket) -> None:
    """Options for every TCP socket of a relay or tunnel; harmless on others. A peer that is gone is
    found within two minutes, where the kernel by itself would take more than two hours."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_COUNT)


def tune_tunnel(sock: socket.socket) -> None:
    """More options for the TCP socket of a tunnel: octets that nobody acknowledges for 20 s break
    it, where the kernel by itself would go on for a quarter of an hour."""
    tune(sock)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT)
