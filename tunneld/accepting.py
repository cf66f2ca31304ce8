"""Listening sockets whose connections go to the data plane: raw sockets, not trio streams."""

import errno
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import structlog
import trio

from ctl.address import Address
from tunneld.descriptors import descriptors
from tunneld.inherited import SYSTEMD, UNIX, LentListener, inherited
from tunneld.listening import claim_listeners, listen_error, parse_listen
from tunneld.openlisteners import open_listeners
from tunneld.transport.base import tune

log = structlog.get_logger(__name__)

_BACKLOG = 1024
_ACCEPTS_PER_WAKE = 16
_SHARED_TCP = "fd:/tcp/"
_SHARED_UNIX = "fd:/unix/"
"""Not addresses that a configuration may have: their "port" is no number."""
_PAUSE = 0.1
"""Seconds without accepting when descriptors have run out."""
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_GONE = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EINTR})


class SharedListener(LentListener):
    """A listening socket that other processes accept from as well."""


async def listen(address: str, *, reuse_port: bool = False) -> list[socket.socket]:
    """Non-blocking listening sockets for ``host:port``, ``unix:/path``, ``systemd:NAME``, or what
    `shared_address` gave. Where the process has inherited some, these are all.

    Args:
      reuse_port: share TCP ports with other sockets that say so too.
    Raises:
      RoleError: not an address, or it cannot be listened on.
    """
    if address.startswith((_SHARED_TCP, _SHARED_UNIX)):
        numbers = address.rpartition("/")[2].split(",")
        return [SharedListener(fileno=os.dup(int(number))) for number in numbers]
    if taken := claim_listeners(address):
        return _noted(address, taken)
    if address.startswith(UNIX):
        return [listen_unix(address)]
    host, port = parse_listen(address)
    try:
        infos = await trio.socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as exc:
        raise listen_error(address, exc) from exc
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    for family, kind, protocol, _, where in infos:
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as exc:  # such as a machine without IPv6
            failure = exc
            continue
        sockets.append(sock)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(where)
            sock.listen(_BACKLOG)
            sock.setblocking(False)
        except OSError as exc:
            for each in sockets:
                each.close()
            raise listen_error(address, exc) from exc
    if not sockets and failure is not None:
        raise listen_error(address, failure) from failure
    return _noted(address, sockets)


def _noted(address: str, sockets: list[socket.socket]) -> list[socket.socket]:
    """The same, and a successor of this process shall have those that are its own."""
    for sock in sockets:
        if not isinstance(sock, LentListener):
            open_listeners.add(address, sock)
    return sockets


def shared_address(listeners: Sequence[socket.socket]) -> str:
    """What a process that inherits ``listeners``, all of them UNIX or none, gives to `listen`."""
    local = listeners[0].family == socket.AF_UNIX
    numbers = ",".join(str(sock.fileno()) for sock in listeners)
    return f"{_SHARED_UNIX if local else _SHARED_TCP}{numbers}"


def is_local(address: str) -> bool:
    """Whether `listen` makes a UNIX socket of it, or finds one."""
    if address.startswith(SYSTEMD):
        return inherited.is_unix(address)
    return address.startswith((UNIX, _SHARED_UNIX))


def listen_unix(address: str) -> socket.socket:
    """A non-blocking listening socket for ``unix:/path``.

    Raises:
      RoleError: it cannot be listened on.
    """
    path = address.removeprefix("unix:")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        umask = os.umask(0o117)
        try:
            sock.bind(path)
        finally:
            os.umask(umask)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        raise listen_error(address, exc) from exc
    open_listeners.add(address, sock)
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody answers on."""
    if not Path(path).is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)


def address_of(sock: socket.socket) -> str:
    """``host:port`` or ``unix:/path`` of a socket's own end."""
    return name_of(sock.family, sock.getsockname())


def peer_of(sock: socket.socket) -> str:
    """The same of the other end; a UNIX client has no name."""
    try:
        return name_of(sock.family, sock.getpeername())
    except OSError:
        return "gone"


def name_of(family: int, name: object) -> str:
    """A socket address as text."""
    if family == socket.AF_UNIX:
        return f"unix:{name}" if name else "unix"
    assert isinstance(name, tuple)
    return str(Address(name[0], name[1]))


def close_listener(sock: socket.socket) -> None:
    """Stop listening; a UNIX socket's file goes away with it, unless others keep it. Twice is
    harmless."""
    if sock.fileno() < 0:
        return
    path = ""
    kept = isinstance(sock, LentListener) or open_listeners.given_away
    if sock.family == socket.AF_UNIX and not kept:
        path = sock.getsockname()
    trio.lowlevel.notify_closing(sock)
    sock.close()
    if path:
        Path(path).unlink(missing_ok=True)


async def accept_each(
    listener: socket.socket,
    handler: Callable[[socket.socket], Awaitable[None]],
    connections: trio.Nursery,
) -> None:
    """Run ``handler`` in ``connections`` for each connection, until cancelled; `accept_rest` then
    takes those that wait, before the listener is closed.

    The handler owns the socket. When descriptors run out, connections wait in the backlog.
    """
    # Of those who share a listener whoever is idle shall have the next connection.
    at_once = 1 if isinstance(listener, SharedListener) else _ACCEPTS_PER_WAKE
    while True:
        await trio.lowlevel.wait_readable(listener)
        for _ in range(at_once):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                break
            except OSError as exc:
                if exc.errno in _GONE:
                    continue
                if exc.errno not in _EXHAUSTED:
                    raise
                descriptors.note(f"cannot accept connections: {exc.strerror}")
                await trio.sleep(_PAUSE)
                break
            number = sock.fileno()
            _hand_on(sock, handler, connections)
            if number >= descriptors.usable:
                await descriptors.wait_for_some()
                break


def accept_rest(
    listener: socket.socket,
    handler: Callable[[socket.socket], Awaitable[None]],
    connections: trio.Nursery,
) -> None:
    """Take the connections that wait, right before the listener is closed: the kernel would reset
    them, unless another process keeps the socket and takes them."""
    if isinstance(listener, LentListener) or open_listeners.given_away:
        return
    while True:
        try:
            sock, _ = listener.accept()
        except OSError as exc:
            if exc.errno in _GONE:
                continue
            return  # no more wait, or there is no descriptor for them
        _hand_on(sock, handler, connections)


def _hand_on(
    sock: socket.socket,
    handler: Callable[[socket.socket], Awaitable[None]],
    connections: trio.Nursery,
) -> None:
    sock.setblocking(False)
    try:
        tune(sock)
    except OSError:  # reset while it waited
        sock.close()
        return
    connections.start_soon(handler, sock)
