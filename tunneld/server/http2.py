"""HTTP/2 on a frontend, a stream for each connection: CONNECT (RFC 9113 section 8.5), and
konnectivity's calls."""

from functools import partial
from http import HTTPStatus

import structlog
import trio

from frames import Headers, Limits, Role
from frames.grpc import GrpcError, Request, Status
from tunneld.caller import Caller
from tunneld.config import ServerConfig
from tunneld.conns import Conn
from tunneld.dialing import DialError
from tunneld.events import Event, emit
from tunneld.reactor import Reactor
from tunneld.relay import DialledEnd, Relay
from tunneld.server.clientdial import Preamble
from tunneld.server.credentials import CHALLENGE, parse_credentials
from tunneld.server.dialer import Dialer
from tunneld.server.gate import Visitor
from tunneld.server.grpcserver import GrpcServer, is_call
from tunneld.server.preamble import PROXY_PROTOCOL, VERSION_2, WRONG_VERSION, proxy_header
from tunneld.server.proxyservice import ProxyService
from tunneld.server.verifier import UnauthorizedError
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
        self._idle: dict[Session, float] = {}
        """Since when clients have been seen without a stream, in Trio time."""
        self._draining = False

    def reconfigure(self, config: ServerConfig) -> None:
        """Go by another configuration from the next client on."""
        self._keepalive = config.frontend_keepalive

    def drain(self) -> None:
        """Take no new streams from anybody."""
        self._draining = True
        for session in list(self._sessions):
            session.drain()

    def end_idle(self, seconds: float) -> None:
        """Take no new streams from clients that have had none for so long; call it now and then."""
        now = trio.current_time()
        idle = (session for session in self._sessions if not session.ends)
        self._idle = {session: self._idle.get(session, now) for session in idle}
        for session, since in self._idle.items():
            if now - since >= seconds:
                session.drain()

    async def serve(self, stream: TransportStream, visitor: Visitor) -> None:
        """Serve one client to its end; ``stream`` is given up."""
        early = stream.take_early()
        calls = GrpcServer("ProxyService", "Proxy", partial(self._call, visitor))
        async with trio.open_nursery() as requests:  # relays end with the session, or soon after

            def on_request(end: StreamEnd, headers: Headers) -> None:
                if not self._connects or is_call(headers):
                    requests.start_soon(calls.serve, end, headers)
                else:
                    requests.start_soon(self._request, visitor, end, headers)

            session = Session(
                self._reactor,
                stream.detach(),
                Role.SERVER,
                limits=Limits(max_concurrent_streams=_MAX_STREAMS),
                receive_window=_RECEIVE_WINDOW,
                keepalive=self._keepalive,
                on_request=on_request,
                elastic=True,
            )
            self._sessions.add(session)
            if self._draining:  # it has come just before
                session.drain()
            try:
                await session.run(early)
            except SessionError as exc:
                log.debug("client lost", client=str(visitor.caller), error=str(exc))
            finally:
                self._sessions.discard(session)

    async def _call(self, visitor: Visitor, end: StreamEnd, request: Request) -> None:
        """A gRPC call; its metadata has no name of a proxy's own for what all proxies ask for."""
        metadata = request.metadata
        shown = metadata.get(b"proxy-authorization") or metadata.get(b"authorization", [])
        try:
            caller = await visitor.identify(parse_credentials(shown))
        except UnauthorizedError as exc:
            emit(Event.CLIENT_REFUSED, client=visitor.caller.address, error=str(exc))
            raise GrpcError(Status.UNAUTHENTICATED, str(exc)) from exc
        await self._proxy.serve(caller, end, request)

    async def _request(self, visitor: Visitor, front: StreamEnd, headers: Headers) -> None:
        fields = dict(headers)
        if fields[b":method"] != b"CONNECT" or b":protocol" in fields:
            status = HTTPStatus.METHOD_NOT_ALLOWED
            extra = [(b"allow", b"CONNECT")]
            front.reply(status, "this proxy only supports CONNECT passthrough\n", extra)
            return
        asked = fields.get(PROXY_PROTOCOL)
        if asked not in (None, VERSION_2):
            front.reply(HTTPStatus.BAD_REQUEST, f"{WRONG_VERSION}\n")
            return
        authority = fields[b":authority"].decode("latin-1")
        preamble = proxy_header(visitor.transport, authority) if asked else None
        value = fields.get(b"proxy-authorization")
        credentials = None if value is None else parse_credentials([value])
        try:
            caller = await visitor.identify(credentials)
            await self._connect(caller, front, authority, preamble)
        except UnauthorizedError as exc:
            emit(Event.CLIENT_REFUSED, client=visitor.caller.address, error=str(exc))
            _refuse(front, exc)
        except DialError as exc:
            value = exc.proxy_status(self._name).encode("latin-1", "replace")
            head = [(b"proxy-status", value)]
            if exc.retry_after:
                head.append((b"retry-after", b"%d" % exc.retry_after))
            front.reply(exc.kind.status, str(exc), head)
        except Exception:  # a bug: it ends this stream alone
            log.exception("client failed", client=str(visitor.caller))
            front.abort()

    async def _connect(
        self, caller: Caller, front: StreamEnd, authority: str, preamble: Preamble | None
    ) -> None:
        async def carry(end: DialledEnd, conn: Conn) -> None:
            front.on_lost = None
            if preamble is not None:
                end.deliver(memoryview(preamble(conn)), False)
            if front.respond([(b":status", b"200")]):
                conn.octets = lambda: (end.sent, front.sent)
                conn.relay = relay = Relay(front, end)
                await relay.run()

        with trio.CancelScope() as lost:
            front.on_lost = lost.cancel
            if front.lost is None:
                await self._dialer.connect(caller, authority, carry, entry="HTTP/2 CONNECT")


def _refuse(front: StreamEnd, error: UnauthorizedError) -> None:
    status = HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
    extra = [(b"proxy-authenticate", CHALLENGE.encode())]
    if error.retry_after:
        status = HTTPStatus.TOO_MANY_REQUESTS
        extra = [(b"retry-after", b"%d" % error.retry_after)]
    front.reply(status, f"{error}\n", extra)
