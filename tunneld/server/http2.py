"""HTTP/2 on a frontend, a stream for each connection: CONNECT (RFC 9113 section 8.5), and
konnectivity's calls."""

from functools import partial
from http import HTTPStatus

import structlog
import trio

from frames import Headers, Limits, Role
from tunneld.caller import Caller
from tunneld.config import ServerConfig
from tunneld.conns import Conn
from tunneld.dialing import DialError
from tunneld.reactor import Reactor
from tunneld.relay import DialledEnd, Relay
from tunneld.server.dialer import Dialer
from tunneld.server.grpcserver import GrpcServer, is_call
from tunneld.server.proxyservice import ProxyService
from tunneld.session import Session, SessionError
from tunneld.streamend import StreamEnd
from tunneld.transport.stream import TransportStream

log = structlog.get_logger(__name__)

_RECEIVE_WINDOW = 4 * 1024 * 1024
_MAX_STREAMS = 10_000
"""Connections of one client at once: kube-apiserver may have all of its on one."""


class Http2Frontend:
    """Serves clients that speak HTTP/2.

    Args:
      connect: whether CONNECT is served; calls always are.
      keepalive: seconds (`Session`).
    """

    def __init__(
        self,
        reactor: Reactor,
        dialer: Dialer,
        proxy: ProxyService,
        name: str,
        *,
        connect: bool,
        keepalive: float,
    ) -> None:
        self._reactor = reactor
        self._dialer = dialer
        self._proxy = proxy
        self._name = name
        self._connects = connect
        self._keepalive = keepalive
        self._sessions: set[Session] = set()

    def reconfigure(self, config: ServerConfig) -> None:
        """Go by another configuration from the next client on."""
        self._keepalive = config.frontend_keepalive

    def drain(self) -> None:
        """Take no new streams from anybody."""
        for session in list(self._sessions):
            session.drain()

    async def serve(self, stream: TransportStream, caller: Caller) -> None:
        """Serve one client to its end; ``stream`` is given up."""
        early = stream.take_early()
        calls = GrpcServer("ProxyService", "Proxy", partial(self._proxy.serve, caller))
        async with trio.open_nursery() as requests:  # relays end with the session, or soon after

            def on_request(end: StreamEnd, headers: Headers) -> None:
                if not self._connects or is_call(headers):
                    requests.start_soon(calls.serve, end, headers)
                else:
                    requests.start_soon(self._request, caller, end, headers)

            session = Session(
                self._reactor,
                stream.detach(),
                Role.SERVER,
                limits=Limits(max_concurrent_streams=_MAX_STREAMS),
                receive_window=_RECEIVE_WINDOW,
                keepalive=self._keepalive,
                on_request=on_request,
            )
            self._sessions.add(session)
            try:
                await session.run(early)
            except SessionError as exc:
                log.debug("client lost", client=str(caller), error=str(exc))
            finally:
                self._sessions.discard(session)

    async def _request(self, caller: Caller, front: StreamEnd, headers: Headers) -> None:
        fields = dict(headers)
        if fields[b":method"] != b"CONNECT" or b":protocol" in fields:
            status = HTTPStatus.METHOD_NOT_ALLOWED
            extra = [(b"allow", b"CONNECT")]
            front.reply(status, "this proxy only supports CONNECT passthrough\n", extra)
            return
        try:
            await self._connect(caller, front, fields[b":authority"].decode("latin-1"))
        except DialError as exc:
            value = exc.proxy_status(self._name).encode("latin-1", "replace")
            front.reply(exc.kind.status, str(exc), [(b"proxy-status", value)])
        except Exception:  # a bug: it ends this stream alone
            log.exception("client failed", client=str(caller))
            front.abort()

    async def _connect(self, caller: Caller, front: StreamEnd, authority: str) -> None:
        async def carry(end: DialledEnd, conn: Conn) -> None:
            front.on_lost = None
            if front.respond([(b":status", b"200")]):
                conn.octets = lambda: (end.sent, front.sent)
                conn.relay = relay = Relay(front, end)
                await relay.run()

        with trio.CancelScope() as lost:
            front.on_lost = lost.cancel
            if front.lost is None:
                await self._dialer.connect(caller, authority, carry)
