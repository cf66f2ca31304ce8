"""How the agent gets to its servers: directly, through an HTTP proxy, inside a WebSocket, or both.

Whatever is in between carries octets; the tunnel's TLS goes from end to end.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from ctl.address import Address, AddressError
from tunneld.agent.link import LINK_ERRORS, reason_of
from tunneld.config import AgentConfig
from tunneld.proxyurl import Proxy, parse_credentials, proxy_for
from tunneld.role import RoleError
from tunneld.serverurl import ServerUrl
from tunneld.session import SessionError
from tunneld.tlscontext import client_context
from tunneld.transport.base import Transport, tune_tunnel
from tunneld.transport.plain import PlainTransport
from tunneld.transport.pump import last_words, pump, socket_pair, tune_carrier
from tunneld.transport.stream import TransportStream, connect_tcp, handshake
from tunneld.transport.tls import TlsTransport

_ALPN = ["http/1.1"]
"""Towards proxies and web servers: CONNECT and WebSockets of HTTP/1.1."""


class Dialout:
    """See the module. Files and environment are read anew for each connection.

    Args:
      path: makes file names of ``config`` absolute.
    """

    def __init__(self, config: AgentConfig, server: ServerUrl, path: Callable[[str], str]) -> None:
        self._config = config
        self._server = server
        self._path = path

    async def open(self, pumps: trio.Nursery, deadline: float) -> socket.socket:
        """A socket to one of the servers, non-blocking.

        Args:
          pumps: where the tasks run that stand behind it, if it needs any.
          deadline: Trio time.
        Raises:
          LINK_ERRORS: that failed; with a `SessionError` that says so where it is another than the
            server that fails.
        """
        proxy = self._proxy()
        if proxy is None:
            with trio.fail_at(deadline):
                sock = await connect_tcp(*self._server.address)
                tune_tunnel(sock)
        else:
            sock = await self._through(proxy, pumps, deadline)
        if not self._server.scheme:
            return sock
        with _explained(str(self._server), deadline):
            return await self._websocket(sock, pumps)

    def _proxy(self) -> Proxy | None:
        try:
            proxy = proxy_for(self._config.http_proxy, self._server.address, os.environ)
            if proxy is None or not self._config.http_proxy_credentials:
                return proxy
            return proxy._replace(credentials=self._credentials())
        except AddressError as exc:
            raise SessionError(f"http-proxy: {exc}") from exc

    def _credentials(self) -> bytes:
        path = Path(self._path(self._config.http_proxy_credentials))
        try:
            return parse_credentials(path.read_bytes().strip())
        except (OSError, AddressError) as exc:
            raise SessionError(f"cannot use http-proxy-credentials in {path}: {exc}") from exc

    async def _through(self, proxy: Proxy, pumps: trio.Nursery, deadline: float) -> socket.socket:
        # Few agents need it, and it brings h11.
        from tunneld.agent.httpproxy import connect_through

        with _explained(f"the HTTP proxy {proxy}", deadline):
            sock = await connect_tcp(*proxy.address)
            tune_tunnel(sock)
            stream = TransportStream(
                await self._secure(sock, self._config.http_proxy_ca, proxy.address)
                if proxy.scheme == "https"
                else PlainTransport(sock)
            )
            try:
                await connect_through(stream, proxy, self._server.address)
            except BaseException:
                stream.abort()
                raise
        if proxy.scheme == "https":
            tune_carrier(sock)
            ours, sock = socket_pair()
            pumps.start_soon(_carry, stream, ours)
        else:
            stream.detach()
        return sock

    async def _websocket(self, sock: socket.socket, pumps: trio.Nursery) -> socket.socket:
        # Few agents need it, and it brings wsproto.
        from tunneld.agent.websocket import open_websocket

        tune_carrier(sock)
        transport: Transport = PlainTransport(sock)
        if self._server.scheme == "wss":
            ca, address = self._config.websocket_ca, self._server.address
            transport = await self._secure(sock, ca, address)
        return await open_websocket(pumps, transport, self._server)

    async def _secure(self, sock: socket.socket, ca: str, address: Address) -> TlsTransport:
        """TLS to who is in between; closes the socket if that fails."""
        try:
            context = client_context("", "", self._path(ca), _ALPN)
            transport = TlsTransport(sock, context, server_side=False, server_hostname=address.host)
            await handshake(transport)
        except BaseException:
            sock.close()
            raise
        return transport


async def _carry(stream: TransportStream, sock: socket.socket) -> None:
    async with last_words() as scope:
        scope.shield = True
        await pump(stream, sock)


@contextmanager
def _explained(what: str, deadline: float) -> Iterator[None]:
    """Failures name ``what`` as who they are of."""
    try:
        with trio.fail_at(deadline):
            yield
    except SessionError:
        raise
    except RoleError as exc:
        raise SessionError(str(exc)) from exc
    except LINK_ERRORS as exc:
        raise SessionError(f"{what}: {reason_of(exc)}") from exc
