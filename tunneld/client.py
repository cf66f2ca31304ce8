"""The public Python API: connections to private endpoints, as trio streams.

    async with tunneld.client.connect("edge.example.org:8090", cert=…, key=…, ca=…) as client:
        stream = await client.dial("192.168.1.2", 4001)

`stream` is a half-closeable trio stream, fit for any trio HTTP or gRPC code. Without a proxy the
local daemon dials, through its control socket.
"""

import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import h11
import trio

from ctl.address import AddressError, parse_address
from ctl.messages import PROTOCOL_VERSION, ControlError, Decoder, FrameError, Message, encode
from ctl.paths import control_path
from tunneld import __version__
from tunneld.dialing import DialError as ProxyDialError
from tunneld.dialing import join_authority
from tunneld.role import RoleError
from tunneld.tlscontext import client_context
from tunneld.transport.base import Transport
from tunneld.transport.local import LocalTransport
from tunneld.transport.plain import PlainTransport
from tunneld.transport.stream import TransportStream, connect_tcp, connect_unix, handshake
from tunneld.transport.tls import TlsTransport

__all__ = ["Client", "DialError", "connect"]

_CONNECT_TIMEOUT = 10.0
"""Seconds for reaching the server: TCP and TLS."""
_MAX_REPLY = 64 * 1024
"""Octets of a refusal's body that are read for its text."""


class DialError(Exception):
    """A dial failed.

    Attributes:
      code: stable: ``refused``, ``timeout``, ``dns``, ``unreachable``, ``no_agent``, ``denied``,
        ``bad_request``, ``busy``, ``no_daemon``, ``failed``.
      message: what failed and where.
      hint: what to do about it, or "".
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


class Client:
    """Dials through one server. Get one from `connect`."""

    def __init__(
        self,
        proxy: str | None,
        control: Path,
        context: ssl.SSLContext | None,
        server_name: str,
        secret: str = "",
    ) -> None:
        self._proxy = proxy
        self._control = control
        self._context = context
        self._server_name = server_name
        self._secret = secret
        self._streams: list[TransportStream] = []

    async def dial(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        """Connect to ``host:port`` in the agent's network; names are resolved there.

        The stream belongs to the caller; those that are open when the client closes are reset.

        Raises:
          DialError: the server, or the endpoint behind it, cannot be reached.
        """
        stream = await self._reach()
        try:
            if self._proxy is None:
                await _ask_daemon(stream, host, port)
            else:
                await _ask_proxy(stream, host, port, self._secret)
        except (trio.BrokenResourceError, EOFError, FrameError, h11.RemoteProtocolError) as exc:
            stream.close()
            raise self._lost(exc) from exc
        except BaseException:
            stream.close()
            raise
        self._streams.append(stream)
        return stream

    def close(self) -> None:
        """Reset every stream that is still open."""
        for stream in self._streams:
            stream.abort()
        self._streams.clear()

    def _lost(self, exc: Exception) -> DialError:
        """For a connection that broke before the dial was answered."""
        where = self._proxy or str(self._control)
        if isinstance(exc.__cause__, ssl.SSLError):
            hint = "show a client certificate that the server's CA has issued (cert, key)"
            why = f"TLS: {exc.__cause__.reason or exc.__cause__}"
            return DialError("denied", f"{where} refused us: {why}", hint)
        return DialError("failed", f"{where}: {exc or 'connection lost amid the dial'}")

    async def _reach(self) -> TransportStream:
        self._streams = [stream for stream in self._streams if not stream.closed]
        where = self._proxy or f"unix:{self._control}"
        try:
            with trio.fail_after(_CONNECT_TIMEOUT):
                return TransportStream(await self._connect(where))
        except trio.TooSlowError:
            raise _unreachable(where, f"no answer in {_CONNECT_TIMEOUT:.0f} s") from None
        except EOFError as exc:
            raise _unreachable(where, str(exc)) from exc
        except OSError as exc:
            if self._proxy is None:
                hint = "start it with: tunneld start"
                raise DialError("no_daemon", f"no daemon at {self._control}", hint) from exc
            raise _unreachable(where, _reason(exc)) from exc

    async def _connect(self, where: str) -> Transport:
        if where.startswith("unix:"):
            sock = await connect_unix(where.removeprefix("unix:"))
            return LocalTransport(sock) if self._proxy is None else PlainTransport(sock)
        address = parse_address(where)
        sock = await connect_tcp(address.host, address.port)
        assert self._context is not None
        name = self._server_name or address.host
        transport = TlsTransport(sock, self._context, server_side=False, server_hostname=name)
        try:
            await handshake(transport)
        except BaseException:
            transport.close()
            raise
        return transport


@asynccontextmanager
async def connect(
    proxy: str | None = None,
    *,
    cert: str | Path | None = None,
    key: str | Path | None = None,
    ca: str | Path | None = None,
    server_name: str | None = None,
    secret: str = "",
    control: str | Path | None = None,
) -> AsyncIterator[Client]:
    """A client of a server's frontend, or of the local daemon.

    Args:
      proxy: ``host:port`` (TLS) or ``unix:/path`` of a frontend; None for the local daemon.
      cert, key: our certificate and its key, PEM files; the server asks for them.
      ca: what the server's certificate is checked against; None for the system's CAs.
      server_name: name or address that the certificate must show; None for the proxy's host.
      secret: a token, or ``NAME:PASSWORD``, for servers that know their clients by that.
      control: the local daemon's control socket; None for the user's default.
    Raises:
      DialError: code ``bad_request``, an unusable proxy address, certificate file or secret.
    """
    context = None
    if ":" not in secret and not (secret.isascii() and secret.isprintable()):
        raise DialError("bad_request", "the secret has a character that no token has")
    if proxy is not None and not proxy.startswith("unix:"):
        try:
            parse_address(proxy)
            context = client_context(str(cert or ""), str(key or ""), str(ca or ""), ["http/1.1"])
        except (AddressError, RoleError) as exc:
            raise DialError("bad_request", str(exc)) from exc
    client = Client(proxy, control_path(control), context, server_name or "", secret)
    try:
        yield client
    finally:
        client.close()


async def _ask_proxy(stream: TransportStream, host: str, port: int, secret: str) -> None:
    """CONNECT, and what it was answered."""
    authority = join_authority(host, port)
    connection = h11.Connection(h11.CLIENT)
    headers = [("Host", authority), ("User-Agent", f"tunneld/{__version__}")]
    if secret:
        headers.append(("Proxy-Authorization", _authorization(secret)))
    try:
        request = h11.Request(method="CONNECT", target=authority, headers=headers)
    except h11.LocalProtocolError as exc:
        raise DialError("bad_request", f"cannot ask for {authority!r}: {exc}") from exc
    head = connection.send(request) or b""
    await stream.send_all(head + (connection.send(h11.EndOfMessage()) or b""))
    response = await _next_response(stream, connection)
    if 200 <= response.status_code < 300:
        stream.unread(connection.trailing_data[0])
        return
    proxy_status = dict(response.headers).get(b"proxy-status", b"").decode("latin-1")
    error = ProxyDialError.from_proxy_status(response.status_code, proxy_status)
    text = await _body(stream, connection)
    refused = (ProxyDialError(error.kind, text) if text else error).to_control()
    raise DialError(refused.code, refused.message, refused.hint)


def _authorization(secret: str) -> str:
    """RFC 7617 for a name and a password, RFC 6750 for a token, which has no colon."""
    if ":" not in secret:
        return f"Bearer {secret}"
    return f"Basic {base64.b64encode(secret.encode('utf-8', 'surrogateescape')).decode()}"


async def _next_response(stream: TransportStream, connection: h11.Connection) -> h11.Response:
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Response):
            return event
        if event is h11.NEED_DATA:
            octets = await stream.receive_some()
            if not octets:
                raise EOFError("the server closed the connection without an answer")
            connection.receive_data(octets)


async def _body(stream: TransportStream, connection: h11.Connection) -> str:
    """The text of a refusal, as much of it as comes."""
    body = bytearray()
    while len(body) < _MAX_REPLY:
        event = connection.next_event()
        if isinstance(event, h11.Data):
            body += event.data
        elif event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        else:
            break
    return body.decode("utf-8", "replace").strip()


async def _ask_daemon(stream: TransportStream, host: str, port: int) -> None:
    decoder = Decoder()
    hello = {"version": PROTOCOL_VERSION, "client": f"tunneld.client/{__version__}"}
    await _request(stream, decoder, 1, "hello", hello)
    await _request(stream, decoder, 2, "dial", {"host": host, "port": port})
    stream.unread(decoder.take_rest())


async def _request(
    stream: TransportStream, decoder: Decoder, number: int, method: str, params: Message
) -> None:
    await stream.send_all(encode({"id": number, "method": method, "params": params}))
    while (reply := decoder.next_message()) is None:
        octets = await stream.receive_some()
        if not octets:
            raise EOFError("the daemon closed the connection without an answer")
        decoder.feed(octets)
    if "error" in reply:
        error = ControlError.from_map(reply["error"])
        raise DialError(error.code, error.message, error.hint)


def _unreachable(where: str, why: str) -> DialError:
    hint = "check the server's address, and that its frontend listens there"
    return DialError("unreachable", f"cannot reach the server {where}: {why}", hint)


def _reason(exc: OSError) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {exc.verify_message}"
    if isinstance(exc, ssl.SSLError):
        return f"TLS: {exc.reason or exc}"
    return exc.strerror or str(exc)
