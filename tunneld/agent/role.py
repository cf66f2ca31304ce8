"""The agent role: keeps a tunnel up to its server, where the dials come from."""

import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import structlog
import trio

from ctl.address import Address, AddressError, parse_address
from frames import Headers
from frames import Role as Http2Role
from tunneld import rh2
from tunneld.agent.requests import Requests
from tunneld.agentinfo import AgentInfo
from tunneld.backoff import Backoff
from tunneld.config import AgentConfig
from tunneld.conns import Conns
from tunneld.identity import names_of_file
from tunneld.role import Host, Role, RoleError, RoleState
from tunneld.session import Session, SessionError
from tunneld.streamend import StreamEnd
from tunneld.tlscontext import client_context
from tunneld.transport.stream import connect_tcp, handshake
from tunneld.transport.tls import TlsTransport

log = structlog.get_logger(__name__)

MakeHandler: TypeAlias = Callable[[Callable[[], None]], Callable[[StreamEnd, Headers], None]]
"""`Requests.handler` for the dials of one role: takes what to call when the server greets."""

_LASTING = 10.0
"""Seconds after which a tunnel counts as one that worked: the backoff starts over."""
_CONNECT_TIMEOUT = 10.0
"""Seconds for TCP and TLS towards the server."""


class AgentRole(Role):
    """See the module."""

    def __init__(self, config: AgentConfig, host: Host) -> None:
        self._config = config
        self._host = host
        self._conns = Conns()
        self._backoff = Backoff(config.backoff_min, config.backoff_max)
        self._session: Session | None = None

    async def run(self, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
        server = self._server()
        context = client_context(
            self._path(self._config.cert),
            self._path(self._config.key),
            self._path(self._config.ca),
            [rh2.ALPN],
        )
        info = AgentInfo(agent_id=self._agent_id(), identifiers=self._config.identifiers)
        requests = Requests(self._host.reactor, info, self._conns, self._config.connect_timeout)
        task_status.started([])
        self._host.set_state(RoleState.STARTING, f"connecting to {server}")
        async with trio.open_nursery() as dials, trio.open_nursery() as nursery:
            nursery.start_soon(self._drain, nursery.cancel_scope)
            while not self._host.drain.is_set():
                await self._connect_once(context, server, partial(requests.handler, dials))
            nursery.cancel_scope.cancel()

    async def _drain(self, connecting: trio.CancelScope) -> None:
        """Have the session take no new streams; it ends when the last one has."""
        await self._host.drain.wait()
        if self._session is None:
            connecting.cancel()
        else:
            self._session.drain()

    async def _connect_once(
        self, context: ssl.SSLContext, server: Address, requests: MakeHandler
    ) -> None:
        """One tunnel to its end, and the pause after it."""
        begun = trio.current_time()
        try:
            await self._tunnel(context, server, requests)
            reason = "the server ended the tunnel"
        except (OSError, EOFError, trio.TooSlowError, SessionError) as exc:
            reason = _reason(exc)
        if self._host.drain.is_set():
            return
        if trio.current_time() - begun > _LASTING:
            self._backoff.reset()
        delay = self._backoff.next_delay()
        reason = f"no tunnel to {server}: {reason}"
        log.warning(reason, retry_in=round(delay, 2))
        self._host.set_state(RoleState.BACKOFF, reason)
        with trio.move_on_after(delay):
            await self._host.drain.wait()

    async def _tunnel(
        self, context: ssl.SSLContext, server: Address, requests: MakeHandler
    ) -> None:
        with trio.fail_after(_CONNECT_TIMEOUT):
            transport = await self._secure(context, server)
        if transport.tls.selected_alpn_protocol() != rh2.ALPN:
            transport.close()
            raise SessionError(f"it does not speak {rh2.ALPN}: is that its tunnel listener?")
        self._session = Session(
            self._host.reactor,
            transport,
            Http2Role.SERVER,
            settings=rh2.SETTINGS,
            limits=rh2.LIMITS,
            receive_window=rh2.RECEIVE_WINDOW,
            keepalive=self._config.keepalive,
            on_request=requests(lambda: self._connected(server)),
        )
        try:
            await self._session.run()
        finally:
            self._session = None

    async def _secure(self, context: ssl.SSLContext, server: Address) -> TlsTransport:
        sock = await connect_tcp(server.host, server.port)
        name = self._config.server_name or server.host
        transport = TlsTransport(sock, context, server_side=False, server_hostname=name)
        try:
            await handshake(transport)
        except BaseException:
            transport.close()
            raise
        return transport

    def _connected(self, server: Address) -> None:
        """The server has asked who we are: it takes us for its agent."""
        log.info("tunnel is up", server=str(server))
        self._host.set_state(RoleState.READY, f"connected to {server}")

    def _server(self) -> Address:
        try:
            return parse_address(self._config.server)
        except AddressError as exc:
            raise RoleError(f"server: {exc}") from exc

    def _agent_id(self) -> str:
        if self._config.agent_id:
            return self._config.agent_id
        try:
            return names_of_file(Path(self._path(self._config.cert)))[0]
        except (OSError, ValueError, IndexError) as exc:
            raise RoleError(
                f"no agent-id, and none in {self._config.cert}: {exc}; set agent-id"
            ) from exc

    def _path(self, path: str) -> str:
        return str(self._host.state_dir / path)

    def conns(self) -> list[dict[str, Any]]:
        return self._conns.rows(self._host.name)


def _reason(exc: Exception) -> str:
    if isinstance(exc, trio.TooSlowError):
        return f"no answer in {_CONNECT_TIMEOUT:.0f} s"
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"TLS: the server's certificate is not accepted: {exc.verify_message}"
    if isinstance(exc, ssl.SSLError):
        return f"TLS: {exc.reason or exc}"
    if isinstance(exc, OSError):
        return exc.strerror or str(exc)
    return str(exc)
