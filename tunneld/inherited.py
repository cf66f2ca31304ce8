"""Listening sockets that this process has not opened itself: it was started with them.

systemd opens the sockets of socket units and hands them to the service (sd_listen_fds(3)). Whoever
wants to listen on an address asks the process's registry, `inherited`, first. What is lent stays
with its keeper: connections wait in it while nobody accepts, so that none is refused while a role
or the whole daemon starts again.
"""

import ipaddress
import os
import socket
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass

from ctl.address import AddressError, parse_listen_address

SYSTEMD = "systemd:"
"""Before the name of a socket (``FileDescriptorName=``) where an address is expected."""
UNIX = "unix:"

_FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START of sd-daemon.h."""
_FAMILIES = frozenset({socket.AF_INET, socket.AF_INET6, socket.AF_UNIX})
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class LentListener(socket.socket):
    """A listening socket that somebody else keeps open: to close it ends nothing, and the file of
    a UNIX socket is not ours to remove."""


@dataclass(frozen=True, slots=True)
class _Held:
    sock: socket.socket
    name: str
    listen: str
    lent: bool

    def answers_to(self, address: str) -> bool:
        """Whether who asks for ``address`` shall have this one."""
        if address.startswith(SYSTEMD):
            return self.name == address.removeprefix(SYSTEMD)
        return address == self.listen or _is_at(self.sock, address)

    def __str__(self) -> str:
        return f"{self.name or 'unnamed'} at {_where(self.sock)}"


class InheritedSockets:
    """Sockets by address and by name; everything is done by plain calls."""

    def __init__(self) -> None:
        self._held: list[_Held] = []

    def add(
        self, sock: socket.socket, *, name: str = "", listen: str = "", lent: bool = True
    ) -> None:
        """Take a listening stream socket in, which is ours from now on.

        Args:
          name: by which ``systemd:NAME`` finds it; several sockets may have the same.
          listen: an address of the configuration that it serves besides its own, such as one with
            port 0.
          lent: whether another process keeps it for us, across restarts of a role; if not, the
            first who claims it gets it for good.
        """
        sock.setblocking(False)
        self._held.append(_Held(sock, name, listen, lent))

    def claim(self, address: str) -> list[socket.socket]:
        """Listeners for ``HOST:PORT``, ``:PORT``, ``unix:/path`` or ``systemd:NAME``; none if
        there are none. A host must be an IP address: names are not looked up.

        Raises:
          OSError: descriptors have run out.
        """
        found = [held for held in self._held if held.answers_to(address)]
        sockets: list[socket.socket] = []
        try:
            for held in found:
                sockets.append(self._give(held))
        except OSError:
            for sock in sockets:
                sock.close()
            raise
        return sockets

    def is_unix(self, address: str) -> bool:
        """Whether ``address`` is that of an inherited UNIX socket."""
        return any(
            held.sock.family == socket.AF_UNIX for held in self._held if held.answers_to(address)
        )

    def __iter__(self) -> Iterator[tuple[socket.socket, str, str]]:
        """Those that another process keeps for us, each with its name and its other address: a
        successor of ours shall have them too."""
        return ((held.sock, held.name, held.listen) for held in self._held if held.lent)

    @property
    def names(self) -> list[str]:
        """Those that `claim` knows."""
        return sorted({held.name for held in self._held if held.name})

    def keep_only(self, addresses: Iterable[str]) -> list[str]:
        """Close what none of the ``addresses`` asks for; what that was, for the log."""
        wanted = list(addresses)
        left = [held for held in self._held if not any(map(held.answers_to, wanted))]
        for held in left:
            self._held.remove(held)
        closed = [str(held) for held in left]
        for held in left:
            held.sock.close()
        return closed

    def _give(self, held: _Held) -> socket.socket:
        if held.lent:
            return LentListener(fileno=os.dup(held.sock.fileno()))
        self._held.remove(held)
        return held.sock


inherited = InheritedSockets()
"""Those of this process."""


def take_from_environment(
    environ: MutableMapping[str, str] = os.environ, registry: InheritedSockets = inherited
) -> list[str]:
    """Take in what systemd has handed over, once; the variables about it are removed, so that no
    child takes them for its own.

    To be called by the process that was executed, before it forks.

    Returns:
      What was wrong with some of them, for the log; these are closed.
    Source: sd_listen_fds(3).
    """
    pid, count, names, _ = (environ.pop(each, "") for each in _VARIABLES)
    if pid != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return []
    complaints = []
    named = names.split(":") if names else []
    for number in range(int(count)):
        descriptor = _FIRST_DESCRIPTOR + number
        try:
            os.set_inheritable(descriptor, False)
        except OSError as exc:
            complaints.append(f"descriptor {descriptor} of {count} from 3: {exc.strerror}")
            break
        problem = _take(descriptor, named[number] if number < len(named) else "", registry)
        if problem:
            complaints.append(problem)
    return complaints


def _take(descriptor: int, name: str, registry: InheritedSockets) -> str:
    """Take one descriptor in; or close it and say why."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as exc:
        os.close(descriptor)
        return f"{name or 'unnamed'}, descriptor {descriptor}, is no socket: {exc.strerror}"
    if not _listens(sock):
        sock.close()
        return (
            f"{name or 'unnamed'}, descriptor {descriptor}, is no listening stream socket of IP or"
            " UNIX; use ListenStream= and Accept=no"
        )
    registry.add(sock, name=name)
    return ""


def _listens(sock: socket.socket) -> bool:
    return (
        sock.family in _FAMILIES
        and sock.type == socket.SOCK_STREAM
        and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    )


def _is_at(sock: socket.socket, address: str) -> bool:
    """Whether a socket is bound to ``address``; ``:PORT`` is any socket for all addresses."""
    where = sock.getsockname()
    if address.startswith(UNIX) or sock.family == socket.AF_UNIX:
        return address == f"{UNIX}{where}"
    try:
        host, port = parse_listen_address(address)
        wanted = ipaddress.ip_address(host) if host else None
    except (AddressError, ValueError):
        return False
    bound = ipaddress.ip_address(where[0])
    return port == where[1] and (bound.is_unspecified if wanted is None else bound == wanted)


def _where(sock: socket.socket) -> str:
    where = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"{UNIX}{where}"
    return f"[{where[0]}]:{where[1]}" if ":" in where[0] else f"{where[0]}:{where[1]}"
