"""A local TCP listener whose connections are dialled to one endpoint.

A thread for each connection: they spend their time in poll(2) and system calls. Half-close goes
both ways; a connection that is cut beyond us is reset towards the local client.
"""

import errno
import socket
import struct
import threading
from collections.abc import Callable

from ctl.address import Address
from ctl.dialling import Dialer
from ctl.ends import SocketEnd, TunnelEnd
from ctl.messages import ControlError
from ctl.pump import SMALL_CHUNK, Pump

_BACKLOG = 128
_RETRY_PAUSE = 0.1
"""Seconds to wait when descriptors have run out, for connections to end."""
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_GONE_ALREADY = {errno.ECONNABORTED, errno.EPROTO}
"""The client left between its connect and our accept; accept(2)."""
_LINGER_NONE = struct.pack("ii", 1, 0)

Note = Callable[[str], None]


def listen(local: Address) -> socket.socket:
    """A TCP listener on ``local``; port 0 lets the kernel choose.

    Raises:
      ControlError: ``exists`` if the address is in use, else ``failed``; with a way out.
    """
    try:
        found = socket.getaddrinfo(*local, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _type, _protocol, _name, sockaddr = found[0]
        return socket.create_server(
            (str(sockaddr[0]), int(sockaddr[1])), family=family, backlog=_BACKLOG
        )
    except socket.gaierror as exc:
        raise ControlError("failed", f"cannot listen on {local}: {exc.strerror}") from exc
    except OSError as exc:
        raise _cannot_listen(local, exc) from exc


def address_of(listener: socket.socket) -> Address:
    """Where it listens."""
    host, port = listener.getsockname()[:2]
    return Address(host, port)


class Forwarder:
    """Serves a listener until it is interrupted."""

    def __init__(self, dialer: Dialer, destination: Address, note: Note) -> None:
        self._dialer = dialer
        self._destination = destination
        self._note = note
        self._pause = threading.Event()

    def serve(self, listener: socket.socket) -> None:
        """Accept and carry connections; returns only by an exception."""
        while True:
            try:
                local, peer = listener.accept()
            except OSError as exc:
                self._handle_accept_error(exc)
                continue
            threading.Thread(
                target=self.carry, args=(local, str(Address(*peer[:2]))), daemon=True
            ).start()

    def carry(self, local: socket.socket, peer: str) -> None:
        """Carry one accepted connection to its end, and close it."""
        with local:
            try:
                self._relay(local, peer)
            except ControlError as exc:
                self._note(f"{peer}: error[{exc.code}]: {exc.message}")
                local.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
            except OSError as exc:
                self._note(f"{peer}: {exc.strerror or exc}")

    def _relay(self, local: socket.socket, peer: str) -> None:
        local.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        dialled = self._dialer.dial(self._destination)
        with dialled.sock:
            self._note(f"{peer}: connected to {self._destination}")
            end = SocketEnd(local)
            Pump(TunnelEnd(dialled.sock), end, end, SMALL_CHUNK).run_until_done()
            self._note(f"{peer}: closed")

    def _handle_accept_error(self, exc: OSError) -> None:
        if exc.errno in _GONE_ALREADY:
            return
        if exc.errno not in _OUT_OF_RESOURCES:
            raise exc
        self._note(f"cannot accept: {exc.strerror}; trying again")
        self._pause.wait(_RETRY_PAUSE)


def _cannot_listen(local: Address, exc: OSError) -> ControlError:
    match exc.errno:
        case errno.EADDRINUSE:
            return ControlError(
                "exists",
                f"cannot listen on {local}: the address is in use",
                "choose another port, or 0 for any free one",
            )
        case errno.EACCES:
            return ControlError(
                "failed",
                f"cannot listen on {local}: ports below 1024 need privileges here",
                "choose a port from 1024 on, or 0 for any free one",
            )
        case errno.EADDRNOTAVAIL:
            return ControlError(
                "failed",
                f"cannot listen on {local}: no interface has that address",
                "choose 127.0.0.1, or an address of this machine",
            )
    return ControlError("failed", f"cannot listen on {local}: {exc.strerror}")
