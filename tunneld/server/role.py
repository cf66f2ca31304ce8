"""The server role: frontends for clients, a listener for agents, and what carries between."""

import socket
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import structlog
import trio

from tunneld import rh2
from tunneld.accepting import accept_each, address_of, close_listener, listen, peer_of
from tunneld.config import Frontend, ServerConfig, TunnelListener
from tunneld.conns import Conn, Conns
from tunneld.dialing import DialError, join_authority
from tunneld.relay import Relay, RelayError
from tunneld.role import Host, Role
from tunneld.server.dialer import Dialer
from tunneld.server.frontend import FrontendServer
from tunneld.server.hold import FirstByteHold
from tunneld.server.http2 import Http2Frontend
from tunneld.server.registry import Registry
from tunneld.server.tunnel import AgentRejectedError, Tunnel
from tunneld.session import SessionError
from tunneld.socketend import SocketEnd
from tunneld.streamend import StreamEnd
from tunneld.tlscontext import server_context
from tunneld.transport.local import LocalTransport
from tunneld.transport.stream import TransportStream, handshake, linger
from tunneld.transport.tls import TlsTransport

log = structlog.get_logger(__name__)

Handler: TypeAlias = Callable[[socket.socket], Awaitable[None]]
Listener: TypeAlias = tuple[socket.socket, Handler]
"""A listening socket, and what serves its connections."""


class ServerRole(Role):
    """See the module."""

    def __init__(self, config: ServerConfig, host: Host) -> None:
        self._config = config
        self._host = host
        self._server_id = config.server_id or str(uuid.uuid4())
        self._registry = Registry()
        self._conns = Conns()
        self._hold = FirstByteHold(config.first_byte_hold)
        name = f"tunneld-{host.name}"
        self._dialer = Dialer(self._registry, self._conns, config.dial_timeout)
        self._http2 = Http2Frontend(host.reactor, self._dialer, name)
        self._frontends = FrontendServer(
            host.reactor, self._dialer, self._hold, self._http2, name, config.head_timeout
        )

    async def run(self, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
        frontends = [
            (frontend.listen, partial(self._frontends.serve, self._frontend_context(frontend)))
            for frontend in self._config.frontends
        ]
        tunnels = (self._config.tunnel.listen, partial(self._serve_agent, self._tunnel_context()))
        async with (
            _listening(frontends, self._path) as for_clients,
            _listening([tunnels], self._path) as for_agents,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._hold.run)
            task_status.started([address_of(sock) for sock, _ in for_clients + for_agents])
            await self._serve(for_clients, for_agents)
            nursery.cancel_scope.cancel()

    async def _serve(self, for_clients: list[Listener], for_agents: list[Listener]) -> None:
        """Accept until told to drain; then let what runs end. Whoever stops us sets the limit."""
        async with trio.open_nursery() as tunnels:
            async with trio.open_nursery() as clients:
                async with trio.open_nursery() as accepting:
                    for sock, handler in for_clients:
                        accepting.start_soon(accept_each, sock, handler, clients)
                    for sock, handler in for_agents:
                        accepting.start_soon(accept_each, sock, handler, tunnels)
                    await self._host.drain.wait()
                    accepting.cancel_scope.cancel()
                for sock, _ in for_clients + for_agents:
                    close_listener(sock)
                self._frontends.drain()
            await self._conns.wait_empty()  # those of the control socket
            await self._registry.drain()
            tunnels.cancel_scope.cancel()

    def _frontend_context(self, frontend: Frontend) -> ssl.SSLContext | None:
        if frontend.listen.startswith("unix:"):
            return None
        return self._context(frontend, ["h2", "http/1.1"])

    def _tunnel_context(self) -> ssl.SSLContext:
        return self._context(self._config.tunnel, [rh2.ALPN])

    def _context(self, listener: Frontend | TunnelListener, alpn: list[str]) -> ssl.SSLContext:
        cert, key, ca = map(self._path, (listener.cert, listener.key, listener.client_ca))
        return server_context(cert, key, ca, alpn)

    def _path(self, path: str) -> str:
        return str(self._host.state_dir / path)

    async def _serve_agent(self, context: ssl.SSLContext, sock: socket.socket) -> None:
        """One agent's connection, from its handshake to its end."""
        peer = peer_of(sock)
        transport = TlsTransport(sock, context, server_side=True)
        try:
            with trio.fail_after(self._config.head_timeout):
                await handshake(transport)
            if transport.tls.selected_alpn_protocol() != rh2.ALPN:
                raise AgentRejectedError(f"it offers no ALPN protocol {rh2.ALPN}")
            await self._run_tunnel(Tunnel(self._host.reactor, transport, self._config.keepalive))
        except trio.TooSlowError:
            log.info("agent closed: no handshake in time", peer=peer)
        except ssl.SSLError as exc:
            log.warning("agent refused", peer=peer, error=f"TLS: {exc.reason or exc}")
            await linger(sock)
        except AgentRejectedError as exc:
            log.warning("agent refused", peer=peer, error=str(exc))
        except (OSError, EOFError) as exc:
            log.info("agent lost amid the handshake", peer=peer, error=str(exc))
        except Exception:  # a bug: it ends this tunnel alone
            log.exception("agent failed", peer=peer)
        finally:
            sock.close()

    async def _run_tunnel(self, tunnel: Tunnel) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._run_session, tunnel)
            await self._admit(tunnel)

    async def _admit(self, tunnel: Tunnel) -> None:
        """Have the agent say who it is; let it take dials for as long as its session lasts."""
        session = tunnel.session
        try:
            await tunnel.identify(self._server_id)
        except AgentRejectedError as exc:
            if not session.over.is_set():
                log.warning("agent refused", peer=tunnel.peer, error=str(exc))
                session.refuse(str(exc))
            return
        log.info("agent connected", agent=tunnel.info.agent_id, peer=tunnel.peer)
        with self._registry.joined(tunnel):
            await session.over.wait()

    async def _run_session(
        self, tunnel: Tunnel, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            await tunnel.session.run(task_status=task_status)
        except SessionError as exc:
            log.warning("agent lost", agent=tunnel.info.agent_id, peer=tunnel.peer, error=str(exc))
        else:
            log.info("agent left", agent=tunnel.info.agent_id, peer=tunnel.peer)

    # -- for the control socket ---------------------------------------------------------------

    def agents(self) -> list[dict[str, Any]]:
        return [
            {
                "server": self._host.name,
                "id": tunnel.info.agent_id,
                "identifiers": tunnel.claims.identifiers,
                "peer": tunnel.peer,
                "version": tunnel.info.version,
                "since": tunnel.since,
                "rtt_ms": None if tunnel.session.rtt is None else tunnel.session.rtt * 1000,
                "conns": tunnel.conns,
                "state": "draining" if tunnel.session.draining else "ready",
            }
            for tunnel in self._registry.tunnels
        ]

    def conns(self) -> list[dict[str, Any]]:
        return self._conns.rows(self._host.name)

    async def dial_local(
        self, sock: socket.socket, host: str, port: int, accept: Callable[[str], bytes]
    ) -> None:
        async def carry(end: StreamEnd, conn: Conn) -> None:
            stream = TransportStream(LocalTransport(sock))
            try:
                await stream.send_all(accept(conn.agent))
            except trio.BrokenResourceError as exc:
                raise RelayError(f"client: {exc}") from exc
            client = SocketEnd(self._host.reactor, stream.detach(), "client")
            conn.octets = lambda: (client.read, client.written)
            await Relay(client, end).run()

        try:
            await self._dialer.connect("local", join_authority(host, port), carry)
        except DialError as exc:
            raise exc.to_control() from exc
        except BaseException:
            sock.close()
            raise
        sock.close()


@asynccontextmanager
async def _listening(
    wanted: Sequence[tuple[str, Handler]], path: Callable[[str], str]
) -> AsyncIterator[list[Listener]]:
    """Listen on each address while the block runs.

    Args:
      path: makes a UNIX socket's path absolute.
    """
    listeners: list[Listener] = []
    try:
        for address, handler in wanted:
            if address.startswith("unix:"):
                address = "unix:" + path(address.removeprefix("unix:"))
            listeners += [(sock, handler) for sock in await listen(address)]
        yield listeners
    finally:
        for sock, _ in listeners:
            close_listener(sock)
