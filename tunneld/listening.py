"""Opening listeners, and what to tell the user when that fails."""

import errno
import socket

import trio

from ctl.address import Address, AddressError, parse_listen_address
from tunneld.inherited import SYSTEMD, LentListener, inherited
from tunneld.openlisteners import open_listeners
from tunneld.role import RoleError

_ADVICE = {
    errno.EADDRINUSE: "stop what listens there (ss -lntup names it), or choose another address",
    errno.EADDRNOTAVAIL: "no interface here has this address; choose one that `ip address` shows",
    errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE; choose a higher one",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


async def listen_tcp(listen: str) -> list[trio.SocketListener]:
    """Listen on ``host:port`` or ``[v6]:port``; a name may stand for several addresses. What the
    process has inherited comes first, by its address or as ``systemd:NAME``.

    Raises:
      RoleError: not an address, or it cannot be listened on.
    """
    if taken := claim_listeners(listen):
        if taken[0].family == socket.AF_UNIX:
            for sock in taken:
                sock.close()
            raise RoleError(f"cannot listen on {listen}: it is a UNIX socket, expected TCP")
        plain = [socket.socket(fileno=sock.detach()) for sock in taken]  # trio wants no subclass
        taken_over = [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in plain]
        if any(isinstance(sock, LentListener) for sock in taken):
            return taken_over
        return _noted(listen, taken_over)
    address = parse_listen(listen)
    try:
        opened = await trio.open_tcp_listeners(address.port, host=address.host or None)
        return _noted(listen, opened)
    except OSError as exc:
        raise listen_error(listen, exc) from exc


def _noted(listen: str, listeners: list[trio.SocketListener]) -> list[trio.SocketListener]:
    """The same, and a successor of this process shall have them."""
    for listener in listeners:
        open_listeners.add(listen, listener.socket)
    return listeners


def claim_listeners(listen: str) -> list[socket.socket]:
    """The inherited sockets for a ``listen`` key; none if there are none.

    Raises:
      RoleError: ``systemd:NAME`` where no socket has that name, or descriptors have run out.
    """
    try:
        taken = inherited.claim(listen)
    except OSError as exc:
        raise listen_error(listen, exc) from exc
    if not taken and listen.startswith(SYSTEMD):
        name = listen.removeprefix(SYSTEMD)
        names = ", ".join(inherited.names) or "none at all"
        raise RoleError(
            f"cannot listen on {listen}: this process was started with no socket of that name, but"
            f" with {names}; see FileDescriptorName={name} and Service= of the socket unit"
        )
    return taken


def parse_listen(listen: str) -> Address:
    """The host and port of a ``listen`` key (`parse_listen_address`).

    Raises:
      RoleError: not an address.
    """
    try:
        return parse_listen_address(listen)
    except AddressError as exc:
        raise RoleError(f"cannot listen: {exc}") from exc


def listen_error(listen: str, error: OSError) -> RoleError:
    """What `OSError` of opening a listener means to the user."""
    why = error.strerror or error
    return RoleError(f"cannot listen on {listen}: {why}; {listen_advice(error)}")


def listen_advice(error: OSError) -> str:
    """What to do about it."""
    if isinstance(error, socket.gaierror):
        return "the name does not resolve here; give an address"
    return _ADVICE.get(error.errno or 0, "choose another address")


def listener_address(listener: trio.SocketListener) -> str:
    """``host:port`` of an open listener, as `Role.run` reports it."""
    host, port, *_ = listener.socket.getsockname()
    return str(Address(host, port))
