"""What a server may ask of an agent: who it is, and to connect to endpoints."""

import socket
from collections.abc import Callable

import structlog
import trio

from frames import Headers
from tunneld import agentinfo, rh2
from tunneld.agent.connect import connect
from tunneld.agent.intake import Intake
from tunneld.agent.policy import DestinationPolicy
from tunneld.agentinfo import AgentInfo
from tunneld.caller import SERVER
from tunneld.config import AgentConfig
from tunneld.conns import Conn, Conns
from tunneld.dialing import PROHIBITED, TIMEOUT, DialError, split_authority
from tunneld.dialrecord import DialRecord, DialRecords, usable_id, write_steps
from tunneld.events import Event, emit
from tunneld.quota import LimitedError, Visit
from tunneld.reactor import Reactor
from tunneld.relay import Relay, RelayError
from tunneld.socketend import SocketEnd
from tunneld.streamend import StreamEnd
from tunneld.telemetry import (
    DIAL_TIMEOUT,
    DIAL_UNKNOWN,
    FROM_AGENT,
    TO_AGENT,
    AgentTelemetry,
)
from tunneld.transport.plain import PlainTransport

log = structlog.get_logger(__name__)


class Requests:
    """Serves the requests of all native sessions of an agent.

    Args:
      timeout: seconds for connecting to an endpoint, name resolution included.
    """

    def __init__(
        self,
        reactor: Reactor,
        agent_id: str,
        conns: Conns,
        telemetry: AgentTelemetry,
        timeout: float,
        policy: DestinationPolicy,
        intake: Intake,
    ) -> None:
        self.records = DialRecords()
        self._policy = policy
        self._intake = intake
        self._reactor = reactor
        self._agent_id = agent_id
        self._conns = conns
        self._telemetry = telemetry
        self._timeout = timeout

    def reconfigure(self, config: AgentConfig) -> None:
        """Go by another configuration from the next dial on."""
        self._timeout = config.connect_timeout

    def handler(
        self,
        dials: trio.Nursery,
        greeted: Callable[[Headers], AgentInfo | None],
        leaving: Callable[[], None],
    ) -> Callable[[StreamEnd, Headers], None]:
        """For one session.

        Args:
          dials: where its connections run; they may outlast the session by a moment, while an
            endpoint takes the last octets.
          greeted: called with the headers of the server's question who we are; returns the
            answer, None if the session is not wanted.
          leaving: called when the server is about to go.
        """

        def on_request(end: StreamEnd, headers: Headers) -> None:
            fields = dict(headers)
            method = fields[b":method"]
            if method == b"CONNECT" and b":protocol" not in fields:
                dials.start_soon(self._dial, end, fields)
            elif method == b"GET" and fields[b":path"] == agentinfo.PATH:
                info = greeted(headers)
                if info is not None:
                    end.reply(200, info.encode().decode())
                else:
                    end.reply(409, "this agent is connected to that server already\n")
            elif method == b"GET" and fields[b":path"] == agentinfo.LEAVING_PATH:
                leaving()
                end.reply(200, "the agent looks for another server\n")
            else:
                end.reply(404, "an agent answers CONNECT, and who it is\n")

        return on_request

    async def _dial(self, end: StreamEnd, fields: dict[bytes, bytes]) -> None:
        """Connect, answer, and carry the connection until it ends."""
        authority = fields[b":authority"].decode("latin-1")
        dial_id = usable_id(fields.get(rh2.DIAL_ID, b"").decode("latin-1"))
        record = DialRecord(SERVER, authority, dial_id)
        record.wanted = rh2.TRACE in fields
        rules = fields.get(rh2.RULES, b"").decode("latin-1")
        try:
            with (
                self._conns.listed(SERVER, authority, self._agent_id, record.id) as conn,
                Visit() as visit,
            ):
                self._intake.admit(visit)
                await self._carry(end, conn, visit, record, rules)
        except DialError as exc:
            self._failed(end, record, exc)
        except RelayError as exc:
            log.debug("connection broken", destination=authority, dial=record.id, error=str(exc))
        except Exception:  # a bug: it ends this connection alone
            log.exception("dial failed", destination=authority, dial=record.id)
            end.abort()

    def _failed(self, end: StreamEnd, record: DialRecord, exc: DialError) -> None:
        reason = DIAL_TIMEOUT if exc.kind is TIMEOUT else DIAL_UNKNOWN
        self._telemetry.tunneld_dial_failures[exc.kind.code] += 1
        if isinstance(exc, LimitedError):
            self._intake.refused(exc, record.id)
        else:
            self._telemetry.endpoint_dial_failure_total[reason] += 1
            emit(
                Event.DIAL_FAILED,
                destination=record.destination,
                dial=record.id,
                code=exc.kind.code,
                error=str(exc),
            )
        record.failed(exc)
        self.records.keep(record)
        value = exc.proxy_status("tunneld-agent").encode("latin-1", "replace")
        steps = write_steps(record, rh2.MAX_TRACE).encode()
        end.reply(exc.kind.status, str(exc), [(b"proxy-status", value), (rh2.TRACE, steps)])

    async def _carry(
        self, end: StreamEnd, conn: Conn, visit: Visit, record: DialRecord, rules: str
    ) -> None:
        with trio.CancelScope() as lost:
            end.on_lost = lost.cancel
            if end.lost is not None:
                return
            begun = trio.current_time()
            sock = await self._connect(record, rules)
            took = trio.current_time() - begun
            self._telemetry.dial_duration_seconds.observe(took)
            self._telemetry.tunneld_dial_seconds.observe(took)
            end.on_lost = None
            endpoint = SocketEnd(self._reactor, PlainTransport(sock), "endpoint")
            conn.dialled = record.address
            head = [(b":status", b"200"), (rh2.ADDRESS, record.address.encode())]
            if record.wanted:
                head.append((rh2.TRACE, write_steps(record, rh2.MAX_TRACE).encode()))
            if not end.respond(head):
                endpoint.abort()
                return
            visit.connected()
            conn.state = "open"
            conn.link = end.session.pings
            conn.octets = lambda: (endpoint.written, endpoint.read)
            self._telemetry.open_endpoint_connections += 1
            try:
                conn.relay = relay = Relay(endpoint, end)
                await relay.run()
            finally:
                self._telemetry.open_endpoint_connections -= 1
                self._telemetry.tunneld_carried_bytes_total[TO_AGENT] += endpoint.written
                self._telemetry.tunneld_carried_bytes_total[FROM_AGENT] += endpoint.read

    async def try_out(self, record: DialRecord) -> None:
        """Connect as for a server's dial, and hang up.

        Raises:
          DialError: it failed.
        """
        sock = await self._connect(record, "")
        sock.close()

    async def _connect(self, record: DialRecord, rules: str) -> socket.socket:
        """A socket that is connected to an address which both policies allow.

        Raises:
          DialError: there is none.
        """
        host, port = split_authority(record.destination)
        try:
            check = self._policy.check(host, port, rules)
        except ValueError as exc:
            text = f"the server sent rules that cannot be read: {exc}"
            raise DialError(PROHIBITED, text) from exc
        record.step("policy", "{}", check)
        return await connect(host, port, self._timeout, why_not=check.why_not, record=record)
