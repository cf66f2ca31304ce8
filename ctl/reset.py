"""Resets on UNIX stream sockets, which know none: a break-off would look like a clean end.

The end that breaks off sends one octet that carries a descriptor (SCM_RIGHTS), and closes. No
octet of a dialled connection carries one, so the receiver knows it from data by asking for the
ancillary data with no room for it: the kernel drops the descriptor and says MSG_CTRUNC. A read
never goes beyond such an octet (unix(7)), so it is the last one of what was read.
"""

import errno
import functools
import os
import socket

_OCTET = b"\0"
_MORE_ROOM = 1 << 20
"""Octets of send buffer at most. The kernel grants up to twice wmem_max, by default twice what a
socket begins with: however full it was, another octet fits."""


def send_reset(sock: socket.socket) -> None:
    """Say that what was sent is not all; never blocks. The caller closes the socket next."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MORE_ROOM)
        socket.send_fds(sock, [_OCTET], [_any_descriptor()], socket.MSG_DONTWAIT)
    except OSError:
        pass  # half-closed, or nobody is there to hear it


def receive_into(sock: socket.socket, view: memoryview, flags: int = 0) -> tuple[int, bool]:
    """Receive octets; 0 at the end.

    Returns:
      How many octets there are, and whether a reset follows them.
    Raises:
      OSError: as `socket.recv_into` does.
    """
    size, _ancillary, message_flags, _address = sock.recvmsg_into([view], 0, flags)
    if message_flags & socket.MSG_CTRUNC:
        return size - len(_OCTET), True
    return size, False


def receive(sock: socket.socket, size: int) -> bytes:
    """Receive up to ``size`` octets; b"" at the end.

    Raises:
      ConnectionResetError: a reset came; what came with it is dropped.
      OSError: as `socket.recv` does.
    """
    buffer = bytearray(size)
    octets, is_reset = receive_into(sock, memoryview(buffer))
    if is_reset:
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    return bytes(buffer[:octets])


@functools.cache
def _any_descriptor() -> int:
    """Opened once and kept: at the time of a reset there may be none to be had."""
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
