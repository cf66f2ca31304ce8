"""Who may use a frontend: what its clients have to show, and who each of them is."""

import socket
from collections.abc import Callable

from tunneld.caller import ANONYMOUS, Caller
from tunneld.config import Frontend
from tunneld.handshakes import source_of
from tunneld.server.callers import caller_of, user_id_of
from tunneld.server.credentials import Credentials
from tunneld.server.verifier import UnauthorizedError, Verifier
from tunneld.transport.base import Transport


class ForbiddenError(Exception):
    """The client is known, and may not use this frontend."""


class Gate:
    """Of one frontend. A client is known by its certificate, or as the user of a UNIX socket; else
    it has to show a secret, where the frontend has a file of them.

    Args:
      verifier: of the file; None for a frontend without one.
    """

    def __init__(self, frontend: Frontend, verifier: Verifier | None) -> None:
        self._users = frozenset(frontend.users)
        self._verifier = verifier

    def reconfigure(self, frontend: Frontend, verifier: Verifier | None) -> None:
        """Go by another configuration from the next connection on."""
        self._users = frozenset(frontend.users)
        self._verifier = verifier

    def visitor(self, transport: Transport, address: str) -> "Visitor":
        """The client at the other end, as far as its connection tells.

        Args:
          transport: past its handshake.
        Raises:
          ForbiddenError: it may not use the frontend.
        """
        caller = caller_of(transport, address)
        if self._verifier is None and not self._users:
            return Visitor(caller, transport, None)
        if transport.sock.family == socket.AF_UNIX:
            known = self._is_listed(caller, transport.sock)
            if not known and self._verifier is None:
                raise ForbiddenError(f"{caller.name} is not among the users of this frontend")
        else:
            known = caller.name != ANONYMOUS
        return Visitor(caller, transport, None if known else self._verifier)

    def _is_listed(self, caller: Caller, sock: socket.socket) -> bool:
        name = caller.name.removeprefix("user:")
        return name in self._users or str(user_id_of(sock)) in self._users


class Visitor:
    """A client on one connection.

    Args:
      caller: as its connection shows it.
      verifier: asked before it is let in; None for one that is known.
    """

    def __init__(self, caller: Caller, transport: Transport, verifier: Verifier | None) -> None:
        self.caller = caller
        self.transport = transport
        self._verifier = verifier
        self.on_known: Callable[[], None] | None = None
        """Called each time it has shown who it is."""

    @property
    def needs_secret(self) -> bool:
        """Whether it is yet to show who it is."""
        return self._verifier is not None

    @property
    def _source(self) -> str:
        """Whose guesses are counted together; each user of this host has their own."""
        sock = self.transport.sock
        return self.caller.name if sock.family == socket.AF_UNIX else source_of(sock)

    async def identify(self, credentials: Credentials | None) -> Caller:
        """Who it is, by what it shows with a request. A client that is known may show anything.

        Raises:
          UnauthorizedError: that is not known.
        """
        if self._verifier is None:
            return self.caller
        if credentials is None:
            raise UnauthorizedError(
                "this proxy wants to know who you are: give proxy-authorization"
            )
        name = await self._verifier.verify(credentials, self._source)
        if self.on_known is not None:
            self.on_known()
        return Caller(f"secret:{name}", self.caller.address)
