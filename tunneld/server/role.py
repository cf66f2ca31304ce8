"""The server role: frontends for clients, a listener for agents, and what carries between."""

import socket
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import structlog
import trio

from tunneld.accepting import address_of
from tunneld.audit import open_audit
from tunneld.caller import CONTROL
from tunneld.certfile import Fact
from tunneld.config import RoleConfig, ServerConfig, WebsocketListener
from tunneld.conns import Conn, Conns
from tunneld.dialing import DialError, join_authority
from tunneld.lifetimes import Lifetimes
from tunneld.prepared import Prepared
from tunneld.questions import Answers, answer
from tunneld.relay import DialledEnd, Relay, RelayError
from tunneld.role import Host, Role, RoleError
from tunneld.rolemetrics import conn_metrics, dial_metrics, telemetry_metrics
from tunneld.rules import RuleError
from tunneld.server.access import Access, end_forgotten
from tunneld.server.admission import Admission
from tunneld.server.agents import ALPN, AgentServer
from tunneld.server.chooser import Chooser
from tunneld.server.clientdial import ClientDials
from tunneld.server.dialer import Dialer
from tunneld.server.doors import Doors, Handler, Listener, listening
from tunneld.server.forwards import ForwardServer
from tunneld.server.frontend import HTTP1, HTTP2, FrontendServer
from tunneld.server.hold import FirstByteHold
from tunneld.server.http2 import Http2Frontend
from tunneld.server.policy import Policy
from tunneld.server.proxyservice import ProxyService
from tunneld.server.questions import ServerQuestions
from tunneld.server.registry import Registry
from tunneld.server.selfcheck import SelfCheck
from tunneld.server.servermetrics import server_metrics
from tunneld.server.servertls import Current, ServerTls
from tunneld.server.view import agent_rows, kill
from tunneld.session import buffers
from tunneld.socketend import SocketEnd
from tunneld.telemetry import ServerTelemetry
from tunneld.transport.local import LocalTransport
from tunneld.transport.stream import TransportStream

if TYPE_CHECKING:
    from tunneld.server.websocket import WebsocketServer

log = structlog.get_logger(__name__)

_SPEAKS = {"any": [HTTP2, HTTP1], "grpc": [HTTP2], "http-connect": [HTTP1]}
"""By mode of the server; in the order in which ALPN prefers them."""


class ServerRole(Role):
    """See the module."""

    def __init__(self, config: ServerConfig, host: Host) -> None:
        self._config = config
        self._host = host
        self.telemetry = telemetry = ServerTelemetry()
        self._registry = Registry(config.strategies, telemetry)
        self._conns = Conns()
        self._selfcheck = SelfCheck(shared=config.reuse_port)
        self._audit = open_audit(config.audit, host, "server", self._conns)
        self._hold = FirstByteHold(config.first_byte_hold)
        self.policy = _policy(config)
        if self.policy.is_open:
            log.warning("policy is open: every client reaches whatever the agents reach")
        chooser = Chooser(self._registry, self.policy)
        self._dialer = Dialer(
            chooser,
            self._conns,
            telemetry,
            config.dial_timeout,
            config.agent_wait,
            admission=Admission(config.limits, host.reactor),
        )
        self._frontends = self._make_frontends(f"tunneld-{host.name}")
        self._lifetimes = Lifetimes(config, self._conns, self._frontends.end_idle)
        self.agent_server = AgentServer(
            host.reactor,
            self._registry,
            telemetry,
            config.server_id or str(uuid.uuid4()),
            server_count=config.server_count,
            keepalive=config.keepalive,
            timeout=config.head_timeout,
            max_handshakes=config.max_handshakes,
            grace=config.half_close_grace,
            any_agent_id=config.any_agent_id,
            grants=lambda: self.policy.grants,
        )
        self._doors = Doors(host, self._registry, self._dialer, reuse_port=config.reuse_port)
        self._answers: Answers = {
            **ServerQuestions(self._dialer, chooser, self.policy).table(),
            **self._doors.answers(),
        }
        self._websocket_server: WebsocketServer | None = None
        self._access = Access(self._path)
        self._tls = ServerTls(
            self._path,
            (_SPEAKS[config.mode], ALPN, _SPEAKS["http-connect"]),
            self._frontends.peers,
            self.agent_server.peers,
        )

    def _make_frontends(self, name: str) -> FrontendServer:
        config, reactor = self._config, self._host.reactor
        proxy = ProxyService(reactor, self._dialer, self._hold, self.telemetry)
        http2 = Http2Frontend(
            reactor,
            self._dialer,
            proxy,
            name,
            connect=config.mode == "any",
            keepalive=config.frontend_keepalive,
        )
        self._dials = ClientDials(reactor, self._dialer, self._hold)
        return FrontendServer(
            self._dials,
            http2,
            self.telemetry,
            name,
            speaks=_SPEAKS[config.mode],
            socks=config.mode == "any",
            head_timeout=config.head_timeout,
            max_handshakes=config.max_handshakes,
            as_upstream=config.konnectivity_wording,
        )

    @property
    def ready(self) -> bool:
        """Whether dials are taken, and an agent is there for the first strategy."""
        return self._registry.ready and not self._host.drain.is_set()

    async def run(self, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
        self._tls.load(self._config)
        self._access.load(self._config)
        self._ask_agents(self._config)
        frontends: list[tuple[str, Handler]] = [
            (
                frontend.listen,
                self._selfcheck.guard(
                    partial(
                        self._frontends.serve,
                        self._access.gate(index),
                        self._tls.frontend(index),
                    ),
                    self._tls.frontend(index),
                ),
            )
            for index, frontend in enumerate(self._config.frontends)
        ]
        forwards: list[tuple[str, Handler]] = [
            (forward.listen, ForwardServer(forward, self._dials).serve)
            for forward in self._config.forwards
        ]
        inner = self._tls.tunnel()
        tunnels: list[tuple[str, Handler]] = [
            (
                self._config.tunnel.listen,
                self._selfcheck.guard(partial(self.agent_server.serve, inner), inner),
            )
        ]
        if self._config.websocket is not None:
            tunnels.append(self._websockets(self._config.websocket, inner))
        reuse_port = self._config.reuse_port
        async with (
            listening([*frontends, *forwards], self._path, reuse_port=reuse_port) as for_clients,
            listening(tunnels, self._path, reuse_port=reuse_port) as for_agents,
            self._conns.watched(),
            self._audit.running() if self._audit else nullcontext(),
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._hold.run)
            nursery.start_soon(self._lifetimes.run)
            nursery.start_soon(buffers.watch)
            nursery.start_soon(self._tls.end_revoked, lambda: self._config.head_timeout)
            self._selfcheck.listeners = [
                (address_of(sock), handler) for sock, handler in for_clients + for_agents
            ]
            task_status.started([address_of(sock) for sock, _ in for_clients + for_agents])
            await self._serve(for_clients, for_agents)
            nursery.cancel_scope.cancel()

    async def _serve(self, for_clients: list[Listener], for_agents: list[Listener]) -> None:
        """Accept until told to drain; then let what runs end. Whoever stops us sets the limit."""
        async with trio.open_nursery() as tunnels:
            async with trio.open_nursery() as clients:
                await self._doors.accept(for_clients, for_agents, clients, tunnels)
                self._registry.leave()
                self._frontends.drain(patient=self._host.patient)
            await self._conns.wait_empty()  # those of the control socket
            await self._registry.drain()
            tunnels.cancel_scope.cancel()

    def _websockets(self, listener: WebsocketListener, inner: Current) -> tuple[str, Handler]:
        # Few servers have one.
        from tunneld.server.websocket import WebsocketServer

        config = self._config
        self._websocket_server = server = WebsocketServer(
            self.agent_server, listener, config.head_timeout, config.max_handshakes
        )
        return listener.listen, partial(server.serve, self._tls.websocket(), inner)

    def _path(self, path: str) -> str:
        return str(self._host.state_dir / path)

    # -- changes --------------------------------------------------------------------------------

    def prepare(self, config: RoleConfig) -> Prepared:
        assert isinstance(config, ServerConfig)
        files = self._tls.prepare(config)
        secrets = self._access.prepare(config)
        _policy(config)

        def commit() -> None:
            files.commit()
            known = self._access.names(self._config)
            secrets.commit()
            self._reconfigure(config)
            end_forgotten(known, self._access.names(config), self._registry, self._conns)

        return Prepared([*files.changes, *secrets.changes], commit)

    def _ask_agents(self, config: ServerConfig) -> None:
        """Tell the listener for agents what it asks of them."""
        self.agent_server.secrets = self._access.get(config.tunnel.secrets)
        self.agent_server.wants_proof = bool(config.tunnel.client_ca or config.tunnel.secrets)

    def _reconfigure(self, config: ServerConfig) -> None:
        self._config = config
        self._ask_agents(config)
        self.policy.replace(config.policy)
        self._dialer.reconfigure(config)
        self._lifetimes.reconfigure(config)
        self._frontends.reconfigure(config)
        self.agent_server.reconfigure(config)
        if self._websocket_server is not None:
            self._websocket_server.reconfigure(config)

    def certificates(self) -> list[tuple[str, Fact]]:
        return list(self._tls.facts())

    # -- for the control socket ---------------------------------------------------------------

    def agents(self) -> list[dict[str, Any]]:
        return agent_rows(self._host.name, self._registry, self._conns)

    def conns(self) -> list[dict[str, Any]]:
        return self._conns.rows(self._host.name)

    def metrics(self) -> list[dict[str, Any]]:
        return [
            *telemetry_metrics(self.telemetry),
            *dial_metrics(self.telemetry),
            *conn_metrics(self._conns, self.telemetry),
            *server_metrics(self._registry, self.policy, self.telemetry),
            *(self._audit.metrics() if self._audit else ()),
        ]

    async def readiness(self) -> list[tuple[str, str]]:
        return await self._selfcheck.readiness(self._registry.tunnels)

    def kill(self, what: Literal["conn", "client", "agent"], name: str, reason: str) -> list[str]:
        return kill(self._registry, self._conns, what, name, reason)

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        return await answer(self._answers, method, params)

    async def dial_local(
        self, sock: socket.socket, host: str, port: int, accept: Callable[[str], bytes]
    ) -> None:
        async def carry(end: DialledEnd, conn: Conn) -> None:
            stream = TransportStream(LocalTransport(sock))
            try:
                await stream.send_all(accept(conn.agent))
            except trio.BrokenResourceError as exc:
                raise RelayError(f"client: {exc}") from exc
            client = SocketEnd(self._host.reactor, stream.detach(), "client")
            conn.octets = lambda: (client.read, client.written)
            conn.relay = relay = Relay(client, end)
            await relay.run()

        try:
            await self._dialer.connect(
                CONTROL, join_authority(host, port), carry, entry="the control socket", sock=sock
            )
        except DialError as exc:
            raise exc.to_control() from exc
        except BaseException:
            sock.close()
            raise
        sock.close()


def _policy(config: ServerConfig) -> Policy:
    """Raises RoleError: a rule makes no sense."""
    try:
        return Policy(config.policy)
    except RuleError as exc:
        raise RoleError(f"policy: {exc}") from exc
