"""A server's listener for agents whose tunnel comes in a WebSocket.

The WebSocket carries the tunnel's TLS, so who is in between, a web server say, ends nothing of it:
the agent's certificate counts here as on the tunnel listener.
"""

import ipaddress
import socket
import ssl
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
import trio

from tunneld.accepting import peer_of
from tunneld.config import ServerConfig, WebsocketListener
from tunneld.handshakes import CrowdedOutError, Handshakes
from tunneld.server.agents import AgentServer
from tunneld.server.forwarded import client_address
from tunneld.server.httpupgrade import RefusedError, parse_upgrade
from tunneld.server.servertls import Current
from tunneld.transport.plain import PlainTransport
from tunneld.transport.pump import tune_carrier
from tunneld.transport.stream import TransportStream, handshake, linger
from tunneld.transport.tls import TlsTransport
from tunneld.transport.websocket import (
    MAX_HEAD,
    MAX_MESSAGE,
    READ_SIZE,
    SUBPROTOCOL,
    HeadTooLongError,
    Upgrade,
    UpgradeError,
    carry,
    read_head,
)

if TYPE_CHECKING:
    from trio_websocket import WebSocketConnection

log = structlog.get_logger(__name__)

ALPN = ["http/1.1"]


class WebsocketServer:
    """See the module.

    Args:
      agents: serve what the WebSockets carry.
      timeout: seconds for TLS, if there is any around the WebSocket, and for its request.
      max_handshakes: connections that are no WebSockets yet, at once.
    """

    def __init__(
        self, agents: AgentServer, config: WebsocketListener, timeout: float, max_handshakes: int
    ) -> None:
        self._agents = agents
        self._path = config.path
        self._trusted = [ipaddress.ip_network(text) for text in config.trusted_proxies]
        self._timeout = timeout
        self._handshakes = Handshakes(max_handshakes)

    def reconfigure(self, config: ServerConfig) -> None:
        """Go by another configuration from the next connection on."""
        self._timeout = config.head_timeout
        self._handshakes.reconfigure(config.max_handshakes)

    async def serve(self, outer: Current | None, inner: Current, sock: socket.socket) -> None:
        """One connection, to its end.

        Args:
          outer: gives the context of the moment for TLS around the WebSocket; None for none.
          inner: the same for the tunnel's TLS.
        """
        peer = peer_of(sock)
        try:
            tune_carrier(sock)
            async with trio.open_nursery() as pumps:
                await self._serve(pumps, outer, inner, sock, peer)
        except Exception:  # a bug: it ends this connection alone
            log.exception("WebSocket failed", peer=peer)
        finally:
            sock.close()

    async def _serve(
        self,
        pumps: trio.Nursery,
        outer: Current | None,
        inner: Current,
        sock: socket.socket,
        peer: str,
    ) -> None:
        try:
            with self._handshakes.hurry(sock, self._timeout) as coming:
                stream = await _open_stream(outer, sock)
                peer = await self._check(stream, peer)
                upgrade = partial(_upgrade, stream)
                carried = await pumps.start(_carry, stream, upgrade, peer)
                coming.done()
                await self._agents.serve(inner, carried, peer)
        except RefusedError as exc:
            log.info("WebSocket refused", peer=peer, error=str(exc))
            await linger(sock)
        except (trio.TooSlowError, CrowdedOutError):
            log.debug("WebSocket closed: no request in time", peer=peer)
        except ssl.SSLError as exc:
            log.info("WebSocket refused", peer=peer, error=f"TLS: {exc.reason or exc}")
            await linger(sock)
        except (OSError, EOFError, UpgradeError) as exc:
            log.debug("WebSocket closed", peer=peer, error=str(exc))

    async def _check(self, stream: TransportStream, peer: str) -> str:
        """Read the request, and answer one that is not valid; who comes, for people.

        Raises:
          RefusedError: it was not.
          UpgradeError: there was none.
        """
        try:
            try:
                head = await read_head(stream)
            except HeadTooLongError as exc:
                raise RefusedError(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"over {MAX_HEAD} octets"
                ) from exc
            request = parse_upgrade(head, self._path)
            octets = stream.take_early()
            stream.unread(octets)
            if len(octets) > len(head):
                raise RefusedError(HTTPStatus.BAD_REQUEST, "octets behind the request's head")
        except RefusedError as exc:
            try:
                await stream.send_all(exc.reply)
            except trio.BrokenResourceError:
                pass  # it does not wait for the answer
            raise
        address = peer.rpartition(":")[0].strip("[]")
        client = client_address(address, request.forwarded, self._trusted)
        return peer if client == address else f"{client} (via {peer})"


async def _open_stream(current: Current | None, sock: socket.socket) -> TransportStream:
    if current is None:
        return TransportStream(PlainTransport(sock))
    transport = TlsTransport(sock, current(), server_side=True)
    await handshake(transport)
    return TransportStream(transport)


async def _carry(
    stream: TransportStream,
    upgrade: Upgrade,
    peer: str,
    task_status: trio.TaskStatus[socket.socket],
) -> None:
    broken = await carry(stream, upgrade, task_status=task_status)
    if broken is not None:
        log.info("WebSocket lost", peer=peer, error=broken)


async def _upgrade(stream: TransportStream, nursery: trio.Nursery) -> "WebSocketConnection":
    from trio_websocket import wrap_server_stream

    request = await wrap_server_stream(
        nursery, stream, max_message_size=MAX_MESSAGE, receive_buffer_size=READ_SIZE
    )
    return await request.accept(subprotocol=SUBPROTOCOL)
