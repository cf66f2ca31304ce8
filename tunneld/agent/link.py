"""What the agent's two kinds of tunnel have in common: `nativelink` and `packetlink`."""

import ssl
from typing import Protocol

import trio

from tunneld.session import SessionError
from tunneld.transport.base import Transport

LINK_ERRORS = (OSError, EOFError, trio.TooSlowError, SessionError)
"""How a link fails to come up, or ends."""

PATIENCE = 10.0
"""Seconds for TCP and TLS towards a server, and again for the server to say who it is."""


class Holder(Protocol):
    """Who holds a link, as the link sees it."""

    def offer(self) -> bool:
        """The server has said who it is. Whether the link is wanted: if not, there is one to that
        server already, and this one has to end at once, without taking dials."""

    def leaving(self) -> None:
        """The server has said that it is about to go; what runs may still end."""


class Link(Protocol):
    """One live tunnel to one server instance."""

    transport: Transport
    """What it runs on."""
    server_id: str
    """Unique among the servers behind one address; known from the offer on."""
    server_count: int
    """How many there are, as this one says; at least 1."""

    async def run(self, holder: Holder) -> None:
        """Serve the server until the tunnel is over; cancelling cuts it off. To be called once,
        whatever happens: it is what closes the connection.

        Raises:
          LINK_ERRORS: it never came up, or ended other than by both sides' will.
        """

    def drain(self) -> None:
        """Have the server send its dials elsewhere, and end when what runs has ended."""


def reason_of(exc: Exception) -> str:
    """Why a link failed, for people."""
    if isinstance(exc, trio.TooSlowError):
        return f"no answer in {PATIENCE:.0f} s"
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"TLS: the server's certificate is not accepted: {exc.verify_message}"
    if isinstance(exc, ssl.SSLError):
        return f"TLS: {exc.reason or exc}"
    if isinstance(exc, OSError):
        return exc.strerror or str(exc)
    return str(exc)
