"""Who a client of a frontend is, by what its connection shows."""

import pwd
import socket
import struct
from functools import lru_cache

from tunneld.caller import ANONYMOUS, Caller
from tunneld.identity import client_of_der
from tunneld.transport.base import Transport
from tunneld.transport.tls import TlsTransport

_CREDENTIALS = struct.Struct("3i")
"""Of SO_PEERCRED (unix(7)): pid, uid, gid."""


def caller_of(transport: Transport, address: str) -> Caller:
    """The client at the other end: by its certificate, or as the user of a UNIX socket.

    Args:
      transport: past its handshake.
    """
    if isinstance(transport, TlsTransport):
        certificate = transport.tls.getpeercert(binary_form=True)
        try:
            name = client_of_der(certificate) if certificate else ""
        except ValueError:  # OpenSSL reads some that others do not
            name = ""
        return Caller(f"cert:{name}" if name else ANONYMOUS, address)
    if transport.sock.family == socket.AF_UNIX:
        return Caller(f"user:{_user_name(user_id_of(transport.sock))}", address)
    return Caller(ANONYMOUS, address)


def user_id_of(sock: socket.socket) -> int:
    """The user at the other end of a UNIX socket."""
    octets = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(octets)[1]
    return uid


@lru_cache(1024)
def _user_name(uid: int) -> str:
    """Its number, if it has no name here."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
