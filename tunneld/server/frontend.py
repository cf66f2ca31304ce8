"""A frontend: takes a client's connection, finds out what it speaks, and serves it.

TLS with client certificates, or a UNIX socket. HTTP/1.1 CONNECT and HTTP/2 share the port, unless
the configuration allows one alone; a client's first octets tell them apart, whatever its ALPN says.
"""

import socket
import ssl
from collections.abc import Collection

import structlog
import trio

from frames.frame import PREFACE
from tunneld.accepting import peer_of
from tunneld.caller import Caller
from tunneld.config import ServerConfig
from tunneld.conns import Conn
from tunneld.dialing import DialError
from tunneld.handshakes import CrowdedOutError, Handshakes
from tunneld.reactor import Reactor
from tunneld.relay import DialledEnd, Relay
from tunneld.server import http1
from tunneld.server.callers import caller_of
from tunneld.server.dialer import Dialer
from tunneld.server.hold import FirstByteHold
from tunneld.server.http2 import Http2Frontend
from tunneld.server.servertls import Current
from tunneld.server.watch import watching
from tunneld.socketend import SocketEnd
from tunneld.telemetry import ServerTelemetry
from tunneld.tlscontext import refusal
from tunneld.tlspeers import TlsPeers
from tunneld.transport.base import Transport
from tunneld.transport.plain import PlainTransport
from tunneld.transport.stream import TransportStream, handshake, linger
from tunneld.transport.tls import TlsTransport

log = structlog.get_logger(__name__)

HTTP1 = "http/1.1"
HTTP2 = "h2"
"""What a frontend may speak, by their names in ALPN."""

_SIGN = PREFACE[:16]
"""``PRI * HTTP/2.0``: no HTTP/1 request begins like this (RFC 9113 section 3.4)."""


class FrontendServer:
    """Serves the clients of all frontends of a server.

    Args:
      name: of the server, for ``Proxy-Status``.
      speaks: `HTTP1`, `HTTP2` or both.
      head_timeout: seconds for the TLS handshake with the first request head, and for each
        later one.
      max_handshakes: clients that have not asked for anything yet, at once.
      as_upstream: see `http1.failed`.
    """

    def __init__(
        self,
        reactor: Reactor,
        dialer: Dialer,
        hold: FirstByteHold,
        http2: Http2Frontend,
        telemetry: ServerTelemetry,
        name: str,
        *,
        speaks: Collection[str],
        head_timeout: float,
        max_handshakes: int,
        as_upstream: bool,
    ) -> None:
        self._reactor = reactor
        self._dialer = dialer
        self._hold = hold
        self._http2 = http2
        self._telemetry = telemetry
        self._name = name
        self._speaks = speaks
        self._head_timeout = head_timeout
        self._as_upstream = as_upstream
        self._draining = False
        self._handshakes = Handshakes(max_handshakes)
        self.peers = TlsPeers()

    def reconfigure(self, config: ServerConfig) -> None:
        """Go by another configuration from the next connection on."""
        self._head_timeout = config.head_timeout
        self._handshakes.reconfigure(config.max_handshakes)
        self._as_upstream = config.konnectivity_wording
        self._http2.reconfigure(config)

    def drain(self) -> None:
        """Close what is idle; every other connection ends with what it carries now."""
        self._draining = True
        self._handshakes.end_all()
        self._http2.drain()

    async def serve(self, current: Current | None, sock: socket.socket) -> None:
        """Serve one connection to its end.

        Args:
          current: gives the TLS context of the moment; None of a plain frontend.
        """
        peer = peer_of(sock)
        transport: Transport = PlainTransport(sock)
        if current is not None:
            transport = TlsTransport(sock, current(), server_side=True, fin_is_end=True)
        stream = TransportStream(transport)
        try:
            with self.peers.present(transport):
                await self._serve(stream, peer)
        except trio.TooSlowError:
            log.info("client closed: no request in time", client=peer)
        except CrowdedOutError:
            log.debug("client closed: too many before their requests", client=peer)
        except ssl.SSLError as exc:
            log.info("client refused", client=peer, error=refusal(exc))
            await linger(sock)
        except (OSError, EOFError, trio.BrokenResourceError) as exc:
            log.info("client lost", client=peer, error=str(exc.__cause__ or exc))
        except http1.BadRequestError as exc:
            log.info("bad request", client=peer, error=str(exc))
            await _say_goodbye(stream, exc.reply)
        except Exception:  # a bug: it ends this client alone
            log.exception("client failed", client=peer)
        finally:
            stream.close()

    async def _serve(self, stream: TransportStream, peer: str) -> None:
        with self._handshakes.hurry(stream.transport.sock, self._head_timeout):
            if isinstance(stream.transport, TlsTransport):
                await handshake(stream.transport)
            octets = await _first_octets(stream)
            http2 = octets.startswith(_SIGN)
            self._check_version(http2)
            head = None if http2 else await _read_head(stream, octets)
        caller = caller_of(stream.transport, peer)
        if http2 and not self._draining:
            stream.unread(octets)
            await self._http2.serve(stream, caller)
        elif head is not None:
            await self._http1(stream, caller, head)

    def _check_version(self, http2: bool) -> None:
        if (HTTP2 if http2 else HTTP1) not in self._speaks:
            raise http1.wrong_version(http2)

    async def _http1(self, stream: TransportStream, caller: Caller, first: http1.Head) -> None:
        head: http1.Head | None = first
        while head is not None and not self._draining:
            if head.method == b"CONNECT":
                await self._connect(stream, caller, head.target)
                return
            if not head.keep_alive:
                await _say_goodbye(stream, http1.not_connect(head))
                return
            with self._handshakes.hurry(stream.transport.sock, self._head_timeout):
                await stream.send_all(http1.not_connect(head))
                head = await _read_head(stream)

    async def _connect(self, stream: TransportStream, caller: Caller, authority: str) -> None:
        self._telemetry.http_connections += 1
        try:
            await self._dial(stream, caller, authority)
        finally:
            self._telemetry.http_connections -= 1

    async def _dial(self, stream: TransportStream, caller: Caller, authority: str) -> None:
        with watching(self._reactor, stream) as watch:

            async def carry(end: DialledEnd, conn: Conn) -> None:
                watch.stop()
                await self._carry(stream, end, conn)

            try:
                await self._dialer.connect(caller, authority, carry)
            except DialError as exc:
                watch.stop()
                reply = http1.failed(exc, self._name, as_upstream=self._as_upstream)
                await _say_goodbye(stream, reply)

    async def _carry(self, stream: TransportStream, end: DialledEnd, conn: Conn) -> None:
        early = stream.take_early()
        self._hold.hold(end, len(early))
        await stream.send_all(http1.ESTABLISHED)
        client = SocketEnd(self._reactor, stream.detach(), "client", early)
        conn.octets = lambda: (client.read, client.written)
        self._hold.begin(end, stream.transport.sock)
        conn.relay = relay = Relay(client, end)
        await relay.run()


async def _first_octets(stream: TransportStream) -> bytes:
    """So many that they tell HTTP/2 from HTTP/1; fewer, if the client ends before."""
    octets = b""
    while len(octets) < len(_SIGN) and _SIGN.startswith(octets):
        more = await stream.receive_some()
        if not more:
            break
        octets += more
    return octets


async def _read_head(stream: TransportStream, octets: bytes = b"") -> http1.Head | None:
    """The next request's head, which begins with ``octets``; None if the client ends before it
    is complete."""
    reader = http1.HeadReader()
    found = reader.feed(octets)
    while found is None:
        octets = await stream.receive_some()
        if not octets:
            return None
        found = reader.feed(octets)
    head, behind = found
    stream.unread(behind)
    return head


async def _say_goodbye(stream: TransportStream, reply: bytes) -> None:
    """A last reply, and a close that does not overtake it."""
    with trio.move_on_after(1):
        try:
            await stream.send_all(reply)
            await stream.send_eof()
        except trio.BrokenResourceError:
            return
        await linger(stream.transport.sock)
