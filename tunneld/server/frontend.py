"""A frontend: takes a client's connection, finds out what it speaks, and serves it.

TLS, a UNIX socket, or plain TCP on loopback. HTTP/1.1 CONNECT, HTTP/2 and SOCKS5 share the port,
unless the configuration allows one alone; a client's first octets tell them apart, whatever its
ALPN says.
"""

import socket
import ssl
from collections.abc import Collection
from http import HTTPStatus

import structlog
import trio

from frames.frame import PREFACE
from tunneld.accepting import peer_of
from tunneld.caller import Caller
from tunneld.config import ServerConfig
from tunneld.dialing import DialError
from tunneld.events import Event, emit
from tunneld.handshakes import CrowdedOutError, Handshake, Handshakes
from tunneld.server import http1
from tunneld.server.clientdial import ClientDials
from tunneld.server.credentials import Credentials, parse_credentials
from tunneld.server.gate import ForbiddenError, Gate, Terms, Visitor
from tunneld.server.http2 import Http2Frontend
from tunneld.server.preamble import PROXY_PROTOCOL, VERSION_2, WRONG_VERSION, proxy_header
from tunneld.server.servertls import Current
from tunneld.server.socks import SocksNegotiation, is_socks, serve_socks
from tunneld.server.verifier import UnauthorizedError
from tunneld.socks5 import SocksError
from tunneld.telemetry import CLIENTS, ServerTelemetry
from tunneld.tlscontext import refusal
from tunneld.tlspeers import TlsPeers
from tunneld.transport.base import Transport
from tunneld.transport.plain import PlainTransport
from tunneld.transport.stream import TransportStream, handshake, linger, say_goodbye
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
      socks: whether SOCKS5 is served besides.
      head_timeout: seconds for the TLS handshake with the first request head, and for each
        later one.
      max_handshakes: clients that have not asked for anything yet, at once.
      as_upstream: see `http1.failed`.
    """

    def __init__(
        self,
        dials: ClientDials,
        http2: Http2Frontend,
        telemetry: ServerTelemetry,
        name: str,
        *,
        speaks: Collection[str],
        socks: bool,
        head_timeout: float,
        max_handshakes: int,
        as_upstream: bool,
    ) -> None:
        self._dials = dials
        self._http2 = http2
        self._telemetry = telemetry
        self._name = name
        self._speaks = speaks
        self._socks = socks
        self._head_timeout = head_timeout
        self._as_upstream = as_upstream
        self._draining = self._patient = False
        self._handshakes = Handshakes(max_handshakes)
        self.peers = TlsPeers()

    def reconfigure(self, config: ServerConfig) -> None:
        """Go by another configuration from the next connection on."""
        self._head_timeout = config.head_timeout
        self._handshakes.reconfigure(config.max_handshakes)
        self._as_upstream = config.konnectivity_wording
        self._http2.reconfigure(config)

    def end_idle(self, seconds: float) -> None:
        """Let clients of HTTP/2 go that have had no connection for so long."""
        self._http2.end_idle(seconds)

    def drain(self, *, patient: bool = False) -> None:
        """Close what is idle; every other connection ends with what it carries now.

        Args:
          patient: whether who has not come to its first request yet may do so.
        """
        self._draining = True
        self._patient = patient
        if not patient:
            self._handshakes.end_all()
        self._http2.drain()

    async def serve(self, gate: Gate, current: Current | None, sock: socket.socket) -> None:
        """Serve one connection to its end.

        Args:
          gate: who may use the frontend.
          current: gives the TLS context of the moment; None of a plain frontend.
        """
        peer = peer_of(sock)
        transport: Transport = PlainTransport(sock)
        if current is not None:
            transport = TlsTransport(sock, current(), server_side=True, fin_is_end=True)
        stream, terms = TransportStream(transport), gate.terms
        try:
            with (
                self._handshakes.hurry(sock, self._head_timeout) as coming,
                self.peers.present(transport, coming.end),
            ):
                await self._serve(gate, terms, stream, peer, coming)
        except trio.TooSlowError:
            self._missed("timeout")
            log.info("client closed: no request in time", client=peer)
        except CrowdedOutError:
            self._missed("crowded_out")
            log.debug("client closed: too many before their requests", client=peer)
        except ssl.SSLError as exc:
            self._missed((exc.reason or "tls").lower())
            emit(Event.CLIENT_REFUSED, client=peer, error=refusal(exc))
            await linger(sock)
        except (OSError, EOFError, trio.BrokenResourceError) as exc:
            log.info("client lost", client=peer, error=str(exc.__cause__ or exc))
        except http1.BadRequestError as exc:
            log.info("bad request", client=peer, error=str(exc))
            await say_goodbye(stream, exc.reply)
        except SocksError as exc:
            self._missed("rejected")
            emit(Event.CLIENT_REFUSED, client=peer, error=f"SOCKS: {exc}")
            await say_goodbye(stream, exc.reply)
        except ForbiddenError as exc:
            emit(Event.CLIENT_REFUSED, client=peer, error=str(exc))
            await say_goodbye(stream, http1.reply(HTTPStatus.FORBIDDEN, f"{exc}\n"))
        except Exception:  # a bug: it ends this client alone
            log.exception("client failed", client=peer)
        finally:
            stream.close()

    def _missed(self, reason: str) -> None:
        self._telemetry.tunneld_handshake_failures[CLIENTS, reason] += 1

    async def _serve(
        self, gate: Gate, terms: Terms, stream: TransportStream, peer: str, coming: Handshake
    ) -> None:
        wanted = head = None
        if isinstance(stream.transport, TlsTransport):
            await handshake(stream.transport)
        octets = await _first_octets(stream)
        visitor = gate.visitor(stream.transport, peer, terms)
        http2 = octets.startswith(_SIGN)
        if self._socks and is_socks(octets):
            wanted = await SocksNegotiation(stream, visitor, octets).run()
        else:
            self._check_version(http2)
            head = None if http2 else await _read_head(stream, octets)
        if http2 and visitor.needs_secret:  # HTTP/2 alone asks for nothing
            visitor.on_known = coming.done
            stream.unread(octets)
            await self._http2.serve(stream, visitor)
            return
        coming.done()
        if self._draining and not self._patient:
            return
        if wanted is not None:
            await serve_socks(self._dials, stream, *wanted)
        elif http2:
            stream.unread(octets)
            await self._http2.serve(stream, visitor)
        elif head is not None:
            await self._http1(stream, visitor, head)

    def _check_version(self, http2: bool) -> None:
        if (HTTP2 if http2 else HTTP1) not in self._speaks:
            raise http1.wrong_version(http2)

    async def _http1(self, stream: TransportStream, visitor: Visitor, first: http1.Head) -> None:
        head: http1.Head | None = first
        while head is not None:
            if head.method != b"CONNECT":
                reply = http1.not_connect(head)
            else:
                try:
                    caller = await visitor.identify(_credentials_of(head))
                except UnauthorizedError as exc:
                    emit(Event.CLIENT_REFUSED, client=visitor.caller.address, error=str(exc))
                    reply = http1.unauthorized(exc, keep_alive=head.keep_alive)
                else:
                    await self._connect(stream, visitor, caller, head)
                    return
            if not head.keep_alive or self._draining:
                await say_goodbye(stream, reply)
                return
            with self._handshakes.hurry(stream.transport.sock, self._head_timeout):
                await stream.send_all(reply)
                head = await _read_head(stream)

    async def _connect(
        self, stream: TransportStream, visitor: Visitor, caller: Caller, head: http1.Head
    ) -> None:
        asked = head.headers.get(PROXY_PROTOCOL)
        if asked not in (None, VERSION_2):
            raise http1.bad(WRONG_VERSION)
        preamble = proxy_header(visitor.transport, head.target) if asked else None
        self._telemetry.http_connections += 1
        try:
            await self._dials.connect(
                stream,
                caller,
                head.target,
                http1.ESTABLISHED,
                entry="HTTP/1.1 CONNECT",
                preamble=preamble,
            )
        except DialError as exc:
            reply = http1.failed(exc, self._name, as_upstream=self._as_upstream)
            await say_goodbye(stream, reply)
        finally:
            self._telemetry.http_connections -= 1


def _credentials_of(head: http1.Head) -> Credentials | None:
    value = head.headers.get(b"proxy-authorization")
    return None if value is None else parse_credentials([value])


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
