"""Who may use a frontend: what its clients have to show, and who each of them is."""

import socket
from collections.abc import Callable
from typing import NamedTuple

from tunneld.caller import ANONYMOUS, Caller
from tunneld.config import Frontend
from tunneld.handshakes import source_of
from tunneld.server.callers import caller_of, user_id_of
from tunneld.server.credentials import Credentials
from tunneld.server.verifier import UnauthorizedError, Verifier
from tunneld.transport.base import Transport


class ForbiddenError(Exception):
    """The client is known, and may not use this frontend."""


class Terms(NamedTuple):
    """What a frontend asks of its clients. A connection keeps those that it began with: they belong
    to the TLS context that it began with."""

    users: frozenset[str]
    verifier: Verifier | None


class Gate:
    """Of one frontend. A client is known by its certificate, or as the user of a UNIX socket; else
    it has to show a secret, where the frontend has a file of them.

    Args:
      verifier: of the file; None for a frontend without one.
    """

    def __init__(self, frontend: Frontend, verifier: Verifier | None) -> None:
        self.reconfigure(frontend, verifier)

    def reconfigure(self, frontend: Frontend, verifier: Verifier | None) -> None:
        """Go by another configuration from the next connection on."""
        self.terms = Terms(frozenset(frontend.users), verifier)

    def visitor(self, transport: Transport, address: str, terms: Terms) -> "Visitor":
        """The client at the other end, as far as its connection tells.

        Args:
          transport: past its handshake.
          terms: those when the connection began.
        Raises:
          ForbiddenError: it may not use the frontend.
        """
        caller = caller_of(transport, address)
        users, verifier = terms
        if verifier is None and not users:
            return Visitor(caller, transport, None)
        if transport.sock.family == socket.AF_UNIX:
            known = _is_listed(caller, transport.sock, users)
            if not known and verifier is None:
                raise ForbiddenError(f"{caller.name} is not among the users of this frontend")
        else:
            known = caller.name != ANONYMOUS or verifier is None
        return Visitor(caller, transport, None if known else self)


def _is_listed(caller: Caller, sock: socket.socket, users: frozenset[str]) -> bool:
    return caller.name.removeprefix("user:") in users or str(user_id_of(sock)) in users


class Visitor:
    """A client on one connection.

    Args:
      caller: as its connection shows it.
      gate: whose secrets, as they are by then, it has to show one of; None for one that is known.
    """

    def __init__(self, caller: Caller, transport: Transport, gate: Gate | None) -> None:
        self.caller = caller
        self.transport = transport
        self._gate = gate
        self.on_known: Callable[[], None] | None = None
        """Called each time it has shown who it is."""

    @property
    def needs_secret(self) -> bool:
        """Whether it is yet to show who it is."""
        return self._gate is not None

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
        if self._gate is None:
            return self.caller
        verifier = self._gate.terms.verifier
        if verifier is None:
            raise UnauthorizedError("this proxy knows nobody by a secret any more: connect again")
        if credentials is None:
            raise UnauthorizedError(
                "this proxy wants to know who you are: give proxy-authorization"
            )
        name = await verifier.verify(credentials, self._source)
        if self.on_known is not None:
            self.on_known()
        return Caller(f"secret:{name}", self.caller.address)
