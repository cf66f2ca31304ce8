"""The agent role: keeps tunnels up to its servers, where the dials come from."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import structlog
import trio

from ctl.address import AddressError
from tunneld import rh2
from tunneld.agent.agenttls import AgentTls
from tunneld.agent.connector import Connector
from tunneld.agent.dialout import Dialout
from tunneld.agent.intake import Intake
from tunneld.agent.link import PATIENCE, Link
from tunneld.agent.linkcheck import readiness, tunnel_metrics
from tunneld.agent.nativelink import NativeLink
from tunneld.agent.packetlink import PacketLink
from tunneld.agent.policy import DestinationPolicy
from tunneld.agent.questions import AgentQuestions
from tunneld.agent.requests import Requests
from tunneld.agent.serverset import ServerSet
from tunneld.agentinfo import AgentInfo
from tunneld.audit import open_audit
from tunneld.certfile import Fact
from tunneld.config import AgentConfig, RoleConfig
from tunneld.conns import Conns
from tunneld.identity import names_of_file
from tunneld.prepared import Prepared
from tunneld.questions import Answers, answer
from tunneld.role import Host, Role, RoleError
from tunneld.rolemetrics import conn_metrics, dial_metrics, telemetry_metrics
from tunneld.rules import RuleError
from tunneld.serverurl import ServerUrl, parse_server
from tunneld.session import SessionError, buffers
from tunneld.telemetry import AgentTelemetry
from tunneld.transport.tls import TlsTransport

log = structlog.get_logger(__name__)


class AgentRole(Role):
    """See the module. What is public beyond `Role` is for programs that run one; set it before
    `run`."""

    def __init__(self, config: AgentConfig, host: Host) -> None:
        self.telemetry = AgentTelemetry()
        self.server_count_source: Callable[[], int | None] | None = None
        """Asked how many servers there are; None, as its answer too, for what they say."""
        self.outlasts_drain = False
        """Whether, once drained, it goes on serving konnectivity servers, new dials included, until
        cancelled or all of them have ended it: as konnectivity's agent does."""
        self._config = config
        self._host = host
        self._conns = Conns(("endpoint", "server"))
        self._audit = open_audit(config.audit, host, "agent", self._conns)
        self._servers: ServerSet | None = None
        self._tls: AgentTls | None = None
        self._answers: Answers = {}
        self._intake = Intake(config.limits, self.telemetry)
        self.policy = _policy(config)
        if self.policy.is_open:
            log.warning("policy is open: servers reach whatever this agent reaches")

    async def run(self, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
        self._tls = tls = AgentTls(self._config, self._path)
        self._connector = self._make_connector(self._config, tls)
        self._agent = agent_id = self._agent_id(self._config)
        self._requests = requests = Requests(
            self._host.reactor,
            agent_id,
            self._conns,
            self.telemetry,
            self._config.connect_timeout,
            self.policy,
            self._intake,
        )
        self._answers = AgentQuestions(requests, self.policy).table()
        task_status.started([])
        async with (
            self._conns.watched(),
            self._audit.running() if self._audit else nullcontext(),
            trio.open_nursery() as pumps,
            trio.open_nursery() as dials,
        ):

            async def connect() -> Link:
                info = AgentInfo(
                    agent_id=agent_id,
                    identifiers=self._config.identifiers,
                    authorization=self._authorization(),
                )
                transport = await self._connector.connect(pumps)
                if transport.tls.selected_alpn_protocol() == rh2.ALPN:
                    return self._native(transport, info, requests, dials)
                return self._packets(transport, info)

            self._servers = ServerSet(
                self._config,
                self._host,
                self.telemetry,
                connect,
                self.server_count_source,
                tls.servers,
            )
            async with trio.open_nursery() as checking:
                checking.start_soon(tls.end_revoked, PATIENCE)
                checking.start_soon(buffers.watch)
                await self._servers.run()
                checking.cancel_scope.cancel()

    def _native(
        self, transport: TlsTransport, info: AgentInfo, requests: Requests, dials: trio.Nursery
    ) -> NativeLink:
        return NativeLink(
            self._host.reactor, transport, info, requests, dials, self._config.keepalive
        )

    def _packets(self, transport: TlsTransport, info: AgentInfo) -> PacketLink:
        config = self._config
        server = self._server().address
        # As Go's agent has it: the name alone with a client certificate.
        authority = (config.server_name or server.host) if config.cert else str(server)
        return PacketLink(
            self._host.reactor,
            transport,
            info,
            authority,
            self._conns,
            self.telemetry,
            self.policy,
            self._intake,
            timeout=config.connect_timeout,
            hold=config.first_byte_hold,
            keepalive=config.keepalive,
            outlasts_drain=self.outlasts_drain,
        )

    def _authorization(self) -> str:
        """The token as it is now.

        Raises:
          SessionError: there should be one, and is not.
        """
        if not self._config.token_path:
            return ""
        path = Path(self._path(self._config.token_path))
        try:
            token = path.read_text().strip()
        except (OSError, ValueError) as exc:
            raise SessionError(f"cannot read the token in {path}: {exc}") from exc
        if not token:
            raise SessionError(f"no token in {path}")
        return f"Bearer {token}"

    @property
    def connected(self) -> int:
        """How many servers it is connected to, those aside that are about to go."""
        return len(self._servers.held) if self._servers is not None else 0

    @property
    def links(self) -> list[Link]:
        """The tunnels there are."""
        return list(self._servers.links) if self._servers is not None else []

    def _make_connector(self, config: AgentConfig, tls: AgentTls) -> Connector:
        server = self._server()
        dialout = Dialout(config, server, self._path)
        return Connector(tls.current, dialout, config.server_name or server.address.host)

    # -- changes --------------------------------------------------------------------------------

    def prepare(self, config: RoleConfig) -> Prepared:
        assert isinstance(config, AgentConfig)
        _policy(config)
        if self._tls is None:  # not started yet: it begins with what is there then
            return Prepared((), partial(self._reconfigure, config))
        agent_id = self._agent_id(config)
        if agent_id != self._agent:
            raise RoleError(
                f"{config.cert} names the agent {agent_id!r}, and this one is {self._agent!r}; "
                f"restart it to change its id: tunnelctl role restart {config.name}"
            )
        files = self._tls.prepare(config)

        def commit() -> None:
            files.commit()
            self._reconfigure(config)

        return Prepared(files.changes, commit)

    def _reconfigure(self, config: AgentConfig) -> None:
        self._config = config
        self.policy.replace(config.policy)
        self._intake.change(config.limits)
        if self._tls is not None:
            self._connector = self._make_connector(config, self._tls)
            self._requests.reconfigure(config)
        if self._servers is not None:
            self._servers.reconfigure(config)

    def certificates(self) -> list[tuple[str, Fact]]:
        return list(self._tls.facts()) if self._tls is not None else []

    def _server(self) -> ServerUrl:
        try:
            return parse_server(self._config.server)
        except AddressError as exc:
            raise RoleError(f"server: {exc}") from exc

    def _agent_id(self, config: AgentConfig) -> str:
        if config.agent_id:
            return config.agent_id
        if not config.cert:
            raise RoleError("no agent-id, and no certificate to take it from; set agent-id")
        try:
            return names_of_file(Path(self._path(config.cert)))[0]
        except (OSError, ValueError, IndexError) as exc:
            raise RoleError(f"no agent-id, and none in {config.cert}: {exc}; set agent-id") from exc

    def _path(self, path: str) -> str:
        return str(self._host.state_dir / path) if path else ""

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        return await answer(self._answers, method, params)

    def metrics(self) -> list[dict[str, Any]]:
        return [
            *telemetry_metrics(self.telemetry),
            *dial_metrics(self.telemetry),
            *conn_metrics(self._conns, self.telemetry),
            *tunnel_metrics(self.links),
            *(self._audit.metrics() if self._audit else ()),
        ]

    async def readiness(self) -> list[tuple[str, str]]:
        return await readiness(self.links, self._config.server)

    def kill(self, what: Literal["conn", "client", "agent"], name: str, reason: str) -> list[str]:
        return self._conns.kill(name, reason) if what == "conn" else []

    def conns(self) -> list[dict[str, Any]]:
        return self._conns.rows(self._host.name)


def _policy(config: AgentConfig) -> DestinationPolicy:
    """Raises RoleError: a rule makes no sense."""
    try:
        return DestinationPolicy(config.policy)
    except RuleError as exc:
        raise RoleError(f"policy: {exc}") from exc
