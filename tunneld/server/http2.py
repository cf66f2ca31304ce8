"""CONNECT over HTTP/2 on a frontend (RFC 9113 section 8.5): a stream for each connection."""

from http import HTTPStatus

import structlog
import trio

from frames import Headers, Limits, Role
from tunneld.conns import Conn
from tunneld.dialing import DialError
from tunneld.reactor import Reactor
from tunneld.relay import Relay
from tunneld.server.dialer import Dialer
from tunneld.session import Session, SessionError
from tunneld.streamend import StreamEnd
from tunneld.transport.stream import TransportStream

log = structlog.get_logger(__name__)

_RECEIVE_WINDOW = 4 * 1024 * 1024
_KEEPALIVE = 60.0
"""Seconds: a lost client costs memory only, and PINGs wake mobile ones."""


class Http2Frontend:
    """Serves clients that speak HTTP/2."""

    def __init__(self, reactor: Reactor, dialer: Dialer, name: str) -> None:
        self._reactor = reactor
        self._dialer = dialer
        self._name = name
        self._sessions: set[Session] = set()

    def drain(self) -> None:
        """Take no new streams from anybody."""
        for session in list(self._sessions):
            session.drain()

    async def serve(self, stream: TransportStream, peer: str) -> None:
        """Serve one client to its end; ``stream`` is given up."""
        early = stream.take_early()
        async with trio.open_nursery() as requests:  # relays end with the session, or soon after

            def on_request(end: StreamEnd, headers: Headers) -> None:
                requests.start_soon(self._request, peer, end, headers)

            session = Session(
                self._reactor,
                stream.detach(),
                Role.SERVER,
                limits=Limits(),
                receive_window=_RECEIVE_WINDOW,
                keepalive=_KEEPALIVE,
                on_request=on_request,
            )
            self._sessions.add(session)
            try:
                await session.run(early)
            except SessionError as exc:
                log.debug("client lost", client=peer, error=str(exc))
            finally:
                self._sessions.discard(session)

    async def _request(self, peer: str, front: StreamEnd, headers: Headers) -> None:
        fields = dict(headers)
        if fields[b":method"] != b"CONNECT" or b":protocol" in fields:
            status = HTTPStatus.METHOD_NOT_ALLOWED
            extra = [(b"allow", b"CONNECT")]
            front.reply(status, "this proxy only supports CONNECT passthrough\n", extra)
            return
        try:
            await self._connect(peer, front, fields[b":authority"].decode("latin-1"))
        except DialError as exc:
            value = exc.proxy_status(self._name).encode("latin-1", "replace")
            front.reply(exc.kind.status, str(exc), [(b"proxy-status", value)])
        except Exception:  # a bug: it ends this stream alone
            log.exception("client failed", client=peer)
            front.abort()

    async def _connect(self, peer: str, front: StreamEnd, authority: str) -> None:
        async def carry(end: StreamEnd, conn: Conn) -> None:
            front.on_lost = None
            if front.respond([(b":status", b"200")]):
                conn.octets = lambda: (end.sent, front.sent)
                await Relay(front, end).run()

        with trio.CancelScope() as lost:
            front.on_lost = lost.cancel
            if front.lost is None:
                await self._dialer.connect(peer, authority, carry)
