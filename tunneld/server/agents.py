"""A server's listener for agents: native ones (``rh2``) and konnectivity's (``h2``); the ALPN
protocol decides."""

import math
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeAlias

import structlog
import trio

from frames import Headers, Limits, Role, Setting
from frames.grpc import GrpcError, Request, Status, response_headers
from tunneld import rh2
from tunneld.accepting import peer_of
from tunneld.agentinfo import AgentInfo
from tunneld.config import ServerConfig
from tunneld.events import Event, emit
from tunneld.handshakes import CrowdedOutError, Handshake, Handshakes
from tunneld.identifiers import IdentifiersError, parse_foreign_identifiers
from tunneld.reactor import Reactor
from tunneld.secretsfile import SecretsFile
from tunneld.server.agentidentity import AgentIdentities
from tunneld.server.claims import Claims
from tunneld.server.grants import ClaimError, Grants
from tunneld.server.grpcserver import GrpcServer
from tunneld.server.packettunnel import PacketTunnel
from tunneld.server.registry import Registry
from tunneld.server.servertls import Current
from tunneld.server.tunnel import AgentRejectedError, AlreadyConnectedError, NativeTunnel
from tunneld.session import Session, SessionError
from tunneld.streamend import StreamEnd
from tunneld.telemetry import AGENTS, CONNECT, ServerTelemetry
from tunneld.tlscontext import refusal
from tunneld.tlspeers import TlsPeers
from tunneld.tokenproof import new_challenge
from tunneld.transport.base import tune_tunnel
from tunneld.transport.stream import handshake, linger
from tunneld.transport.tls import TlsTransport

log = structlog.get_logger(__name__)

H2 = "h2"
ALPN = [rh2.ALPN, H2]

Protocol: TypeAlias = Callable[[TlsTransport, str, Handshake], Awaitable[None]]
"""Serves an agent's connection behind its TLS handshake."""

Authenticate: TypeAlias = Callable[[Sequence[str]], Awaitable[None]]
"""Takes the values of an agent's ``authorization``; raises `AgentRejectedError` to refuse it."""

_SETTINGS: dict[int, int] = {Setting.INITIAL_WINDOW_SIZE: 1 << 20}
_RECEIVE_WINDOW = 16 * 1024 * 1024
"""Octets: of a konnectivity agent's stream, which all its connections share, and of the whole."""


class AgentServer:
    """Serves the agents of a server.

    Args:
      server_count: how many servers there are, for agents to connect to.
      keepalive: seconds (`Session`).
      timeout: seconds for an agent's TLS handshake, and again for konnectivity's to call Connect.
      max_handshakes: connections that are no agents yet, at once.
      grace: seconds (`PacketTunnel`).
      any_agent_id: whether an agent may take an id that its certificate does not name.
      grants: what agents may claim, as it is now.
    """

    authenticate: Authenticate | None = None
    """Asked, if set, before an agent may join."""
    secrets: SecretsFile | None = None
    """Whose tokens agents are known by that show no certificate."""
    wants_proof = False
    """Whether they must do either: that was another question when a handshake began, perhaps."""

    def __init__(
        self,
        reactor: Reactor,
        registry: Registry,
        telemetry: ServerTelemetry,
        server_id: str,
        *,
        server_count: int,
        keepalive: float,
        timeout: float,
        max_handshakes: int,
        grace: float,
        any_agent_id: bool,
        grants: Callable[[], Grants],
    ) -> None:
        self._grants = grants
        self._reactor = reactor
        self._registry = registry
        self._telemetry = telemetry
        self._server_id = server_id
        self._server_count = server_count
        self._keepalive = keepalive
        self._timeout = timeout
        self._handshakes = Handshakes(max_handshakes)
        self.peers = TlsPeers()
        self._grace = grace
        self._any_agent_id = any_agent_id

    def reconfigure(self, config: ServerConfig) -> None:
        """Go by another configuration from the next agent on."""
        self._server_count = config.server_count
        self._keepalive = config.keepalive
        self._timeout = config.head_timeout
        self._handshakes.reconfigure(config.max_handshakes)
        self._grace = config.half_close_grace
        self._any_agent_id = config.any_agent_id

    async def serve(self, current: Current, sock: socket.socket, peer: str = "") -> None:
        """One agent's connection, from its handshake to its end.

        Args:
          peer: who is at the other end, where ``sock`` does not know it.
        """
        peer = peer or peer_of(sock)
        transport = TlsTransport(sock, current(), server_side=True)
        try:
            tune_tunnel(sock)
            with (
                self._handshakes.hurry(sock, self._timeout) as coming,
                self.peers.present(transport, coming.end),
            ):
                await handshake(transport)
                await self._protocol(transport)(transport, peer, coming)
        except trio.TooSlowError:
            self._missed("timeout")
            log.info("agent closed: no handshake in time", peer=peer)
        except CrowdedOutError:
            self._missed("crowded_out")
            log.debug("agent closed: too many amid their handshakes", peer=peer)
        except ssl.SSLError as exc:
            self._missed((exc.reason or "tls").lower())
            emit(Event.AGENT_REFUSED, peer=peer, error=refusal(exc))
            await linger(sock)
        except AgentRejectedError as exc:
            self._missed("rejected")
            emit(Event.AGENT_REFUSED, peer=peer, error=str(exc))
        except (OSError, EOFError) as exc:
            self._missed("lost")
            log.info("agent lost amid the handshake", peer=peer, error=str(exc))
        except Exception:  # a bug: it ends this connection alone
            log.exception("agent failed", peer=peer)
        finally:
            sock.close()

    def _missed(self, reason: str) -> None:
        self._telemetry.tunneld_handshake_failures[AGENTS, reason] += 1

    def _protocol(self, transport: TlsTransport) -> Protocol:
        match transport.tls.selected_alpn_protocol():
            case rh2.ALPN:
                return self._native
            case "h2":
                return self._konnectivity
        raise AgentRejectedError(f"it offers no ALPN protocol of {', '.join(ALPN)}")

    async def _admit(
        self,
        info: AgentInfo,
        claims: Claims,
        identities: AgentIdentities,
        tokens: Sequence[str],
    ) -> None:
        """Refuse an agent that may not be who it says it is.

        Args:
          identities: who it has proved to be.
          tokens: what it has shown, for `authenticate`.
        """
        if not info.agent_id.isprintable():
            raise AgentRejectedError(f"agent id {info.agent_id!r} cannot be printed")
        if self.authenticate is not None:
            await self.authenticate(tokens)
        if self.wants_proof and not identities.are_proved:
            raise AgentRejectedError(
                "it has shown no certificate, and no tokens are known any more"
            )
        grants = self._grants()
        if not self._any_agent_id and not grants and info.agent_id not in identities.ids:
            names = ", ".join(identities.ids) or "none"
            by = "certificate or token" if self.secrets is not None else "certificate"
            text = f"agent id {info.agent_id!r} is not one its {by} allows: {names}"
            raise AgentRejectedError(text)
        try:
            grants.check(identities.names, identities.ids, info.agent_id, claims)
        except ClaimError as exc:
            raise AgentRejectedError(f"its claims are not granted: {exc}") from exc

    # -- native -------------------------------------------------------------------------------

    async def _native(self, transport: TlsTransport, peer: str, coming: Handshake) -> None:
        coming.extend(math.inf)  # `identify` has a limit of its own, and tells the agent
        tunnel = NativeTunnel(self._reactor, transport, peer, self._keepalive, self._server_count)
        async with trio.open_nursery() as nursery:
            await nursery.start(self._run_native, tunnel)
            await self._join_native(tunnel, AgentIdentities(transport, self.secrets), coming)

    async def _join_native(
        self, tunnel: NativeTunnel, identities: AgentIdentities, coming: Handshake
    ) -> None:
        """Have the agent say who it is; let it take dials for as long as its session lasts."""
        session = tunnel.session
        try:
            challenge = new_challenge() if self.secrets is not None else b""
            await tunnel.identify(self._server_id, challenge)
            token = tunnel.info.authorization
            identities.add_proof(token, challenge, tunnel.info.agent_id)
            tokens = [token] if token else []
            await self._admit(tunnel.info, tunnel.claims, identities, tokens)
            tunnel.identity = " ".join(identities.names)
        except AlreadyConnectedError:
            log.debug("agent is connected already", peer=tunnel.peer)
            return  # it ends the session
        except AgentRejectedError as exc:
            if not session.over.is_set():
                self._missed("rejected")
                emit(Event.AGENT_REFUSED, peer=tunnel.peer, error=str(exc))
                session.refuse(str(exc))
            return
        coming.done()
        emit(Event.AGENT_CONNECTED, agent=tunnel.info.agent_id, peer=tunnel.peer)
        # Counted as konnectivity's, so that a dashboard shows the same when both sides are ours.
        self._telemetry.grpc_connections[CONNECT] += 1
        try:
            with self._registry.joined(tunnel):
                await session.over.wait()
        finally:
            self._telemetry.grpc_connections[CONNECT] -= 1

    async def _run_native(
        self, tunnel: NativeTunnel, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            await tunnel.session.run(task_status=task_status)
        except SessionError as exc:
            emit(Event.AGENT_LOST, agent=tunnel.info.agent_id, peer=tunnel.peer, error=str(exc))
        else:
            if tunnel.identity:  # else it has a tunnel already
                emit(Event.AGENT_LEFT, agent=tunnel.info.agent_id, peer=tunnel.peer)

    # -- konnectivity -------------------------------------------------------------------------

    async def _konnectivity(self, transport: TlsTransport, peer: str, coming: Handshake) -> None:
        coming.extend(self._timeout)
        connect = partial(self._connect, peer, transport, coming)
        server = GrpcServer("AgentService", "Connect", connect)
        async with trio.open_nursery() as calls:  # they end with the session

            def on_request(end: StreamEnd, headers: Headers) -> None:
                calls.start_soon(server.serve, end, headers)

            session = Session(
                self._reactor,
                transport,
                Role.SERVER,
                settings=_SETTINGS,
                limits=Limits(max_concurrent_streams=16),
                receive_window=_RECEIVE_WINDOW,
                keepalive=self._keepalive,
                on_request=on_request,
            )
            try:
                await session.run()
            except SessionError as exc:
                log.debug("connection of an agent ended", peer=peer, error=str(exc))

    async def _connect(
        self,
        peer: str,
        transport: TlsTransport,
        coming: Handshake,
        end: StreamEnd,
        request: Request,
    ) -> None:
        """One AgentService/Connect: an agent, for as long as its stream lasts."""
        self._telemetry.grpc_connections[CONNECT] += 1
        try:
            identities = AgentIdentities(transport, self.secrets)
            tunnel = await self._welcome(peer, identities, end, request)
            tunnel.identity = " ".join(identities.names)
            coming.done()
            emit(Event.AGENT_CONNECTED, agent=tunnel.info.agent_id, peer=peer, protocol="h2")
            try:
                with self._registry.joined(tunnel):
                    tunnel.start()
                    await tunnel.over.wait()
            finally:
                tunnel.close("the server is shutting down")
            if tunnel.error is not None:
                emit(
                    Event.AGENT_LOST,
                    agent=tunnel.info.agent_id,
                    peer=peer,
                    error=tunnel.error.message,
                )
                raise tunnel.error
            emit(Event.AGENT_LEFT, agent=tunnel.info.agent_id, peer=peer)
        finally:
            self._telemetry.grpc_connections[CONNECT] -= 1

    async def _welcome(
        self, peer: str, identities: AgentIdentities, end: StreamEnd, request: Request
    ) -> PacketTunnel:
        """Check who comes, and answer.

        Raises:
          GrpcError: with upstream's status and texts.
        """
        try:
            info, claims = _introduce(request)
            tokens = [
                value.decode("latin-1") for value in request.metadata.get(b"authorization", [])
            ]
            identities.add_tokens(tokens)
            await self._admit(info, claims, identities, tokens)
        except AgentRejectedError as exc:
            self._missed("rejected")
            emit(Event.AGENT_REFUSED, peer=peer, error=str(exc))
            raise GrpcError(Status.UNKNOWN, str(exc)) from exc
        server = [
            (b"serverid", self._server_id.encode()),
            (b"servercount", b"%d" % self._server_count),
        ]
        if not end.respond(response_headers(request.content_type, server)):
            raise GrpcError(Status.CANCELLED, end.lost or "the agent takes no such head")
        return PacketTunnel(end, self._reactor, self._telemetry, info, claims, peer, self._grace)


def _introduce(request: Request) -> tuple[AgentInfo, Claims]:
    """What an agent says of itself in its metadata; the texts are upstream's."""
    ids = _texts(request, b"agentid")
    if len(ids) != 1:
        text = f"expected one agent ID in the context, got [{' '.join(ids)}]"
        raise AgentRejectedError(text)
    identifiers = _texts(request, b"agentidentifiers")
    if len(identifiers) > 1:
        shown = " ".join(identifiers)
        text = f"expected at most one set of agent identifiers in the context, got [{shown}]"
        raise AgentRejectedError(text)
    text = "".join(identifiers)
    try:
        claims = Claims(parse_foreign_identifiers(text))
    except IdentifiersError as exc:
        raise AgentRejectedError(str(exc)) from exc
    version = request.user_agent.decode("latin-1")
    return AgentInfo(agent_id=ids[0], identifiers=text, version=version), claims


def _texts(request: Request, name: bytes) -> list[str]:
    return [value.decode("utf-8", "replace") for value in request.metadata.get(name, [])]
