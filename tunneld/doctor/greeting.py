"""What a server says first, behind TLS: whether it lets us in, who it is, and what its time is.

In TLS 1.3 the client's handshake is complete before the server has looked at the client's
certificate, so that only the server's first octets tell whether it was accepted. A tunneld server
(``rh2``) asks the agent who it is; we say that it is connected already. A konnectivity server
(``h2``) sends SETTINGS.
"""

import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass

from frames import RemoteProtocolError, Role
from frames.buffered import BufferedConnection
from frames.events import Event, RequestReceived
from tunneld import agentinfo, rh2

TIMEOUT = 5.0
"""Seconds for the first octets, and again for each more."""
_CONFLICT = [(b":status", b"409")]
_LEAVE = 0.2
"""Seconds for the server's close_notify."""
_MAX = 64 * 1024
"""Octets that are read for it."""


class GreetingError(Exception):
    """The server does not greet us as one does; the text says what it does."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the server said."""

    server_id: str = ""
    """"" for a konnectivity server, which tells it to agents alone."""
    date: str = ""
    """As in HTTP; "" if it does not say."""
    came: float = 0.0
    """Unix time of its arrival."""


def hear(sock: ssl.SSLSocket) -> Greeting:
    """Take in a server's first words; the caller closes the socket.

    Raises:
      OSError: of the network; `ssl.SSLError` with the alert of a server that refuses us.
      GreetingError: it closes, or says something else.
    """
    sock.settimeout(TIMEOUT)
    native = sock.selected_alpn_protocol() == rh2.ALPN
    greeting = _hear_native(sock) if native else _hear_konnectivity(sock)
    _take_leave(sock)
    return greeting


def _take_leave(sock: ssl.SSLSocket) -> None:
    """With TLS's close_notify, or the server's log has us as cut off."""
    sock.settimeout(_LEAVE)
    try:
        sock.unwrap()
    except OSError:
        pass  # it still talks, or is gone: we have heard what we came for


def _hear_native(sock: ssl.SSLSocket) -> Greeting:
    connection = BufferedConnection(Role.SERVER, settings=rh2.SETTINGS, limits=rh2.LIMITS)
    connection.connection.initiate()
    sock.sendall(connection.data_to_send())
    for event in _events(sock, connection):
        if isinstance(event, RequestReceived):
            # Of a request's own fields each comes once; what a hostile server repeats is last.
            headers = dict(event.headers)
            _decline(connection, event.stream_id)
            sock.sendall(connection.data_to_send())
            return Greeting(
                headers.get(agentinfo.SERVER_ID, b"").decode("utf-8", "replace"),
                headers.get(b"date", b"").decode("latin-1"),
                time.time(),
            )
    raise GreetingError("it does not ask who we are")


def _decline(connection: BufferedConnection, stream_id: int) -> None:
    """Answer as an agent does that has a tunnel to this server already: it ends this one, and
    the server thinks nothing of it."""
    stream = connection.connection.streams[stream_id]
    connection.connection.send_headers(stream, _CONFLICT, end_stream=True)
    connection.connection.send_goaway()


def _hear_konnectivity(sock: ssl.SSLSocket) -> Greeting:
    connection = BufferedConnection(Role.CLIENT)
    connection.connection.initiate()
    sock.sendall(connection.data_to_send())
    for _ in _events(sock, connection):
        return Greeting()
    raise GreetingError("it does not speak HTTP/2")


def _events(sock: ssl.SSLSocket, connection: BufferedConnection) -> Iterator[Event]:
    taken = 0
    while taken < _MAX:
        octets = sock.recv(16 * 1024)
        if not octets:
            raise GreetingError("it closes the connection without a word")
        taken += len(octets)
        try:
            yield from connection.receive_data(octets)
        except RemoteProtocolError as exc:
            raise GreetingError(f"it does not speak HTTP/2: {exc}") from exc
