"""Dials of a server: which agent, through its tunnel, and the connection on the list meanwhile."""

import math
import socket
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import structlog
import trio

from tunneld.caller import Caller
from tunneld.config import ServerConfig
from tunneld.conns import Conn, Conns
from tunneld.descriptors import descriptors
from tunneld.dialing import (
    AGENT_TIMEOUT,
    BAD_ADDRESS,
    MAX_AUTHORITY,
    NO_AGENT,
    TUNNEL_LOST,
    DialError,
    check_length,
)
from tunneld.dialrecord import DialRecord, DialRecords
from tunneld.events import Event, emit
from tunneld.pacedend import paced
from tunneld.quota import LimitedError, Refusals, Visit
from tunneld.relay import DialledEnd, RelayError
from tunneld.server.admission import Admission
from tunneld.server.chooser import Chooser
from tunneld.server.policy import Verdict
from tunneld.server.registry import Tunnel
from tunneld.telemetry import (
    BACKEND_CLOSE,
    BACKEND_DIAL_TIMEOUT,
    ERROR_RESPONSE,
    FROM_AGENT,
    FRONTEND_CLOSE,
    TO_AGENT,
    ServerTelemetry,
)
from tunneld.telemetry import NO_AGENT as REASON_NO_AGENT

log = structlog.get_logger(__name__)

Carry: TypeAlias = Callable[[DialledEnd, Conn], Awaitable[None]]
"""Takes over when the endpoint is connected, and returns when the connection has ended."""

_PROTOCOLS = frozenset({"tcp", "tcp4", "tcp6"})
"""What an agent may be asked for. Go's dialer knows more: one could reach UNIX sockets there."""
_REASONS = {
    NO_AGENT: REASON_NO_AGENT,
    AGENT_TIMEOUT: BACKEND_DIAL_TIMEOUT,
    TUNNEL_LOST: BACKEND_CLOSE,
}
"""Of failed dials; an agent's error is `ERROR_RESPONSE`."""


class Dialer:
    """Connects clients with endpoints.

    Args:
      timeout: seconds for the agent's answer; 0 waits for as long as the client does.
      agent_wait: seconds for an agent to come, where there is none.
    """

    def __init__(
        self,
        chooser: Chooser,
        conns: Conns,
        telemetry: ServerTelemetry,
        timeout: float,
        agent_wait: float = 0.0,
        *,
        admission: Admission,
    ) -> None:
        self.records = DialRecords()
        self._chooser = chooser
        self._conns = conns
        self._telemetry = telemetry
        self._admission = admission
        self._refusals = Refusals()
        self._timeout = timeout or math.inf
        self._agent_wait = agent_wait
        self._agents_by = -math.inf

    def reconfigure(self, config: ServerConfig) -> None:
        """Go by another configuration from the next dial on."""
        self._timeout = config.dial_timeout or math.inf
        self._agent_wait = config.agent_wait
        self._admission.change(config.limits)

    async def connect(
        self,
        caller: Caller,
        address: str,
        carry: Carry,
        *,
        protocol: str = "tcp",
        entry: str = "",
        agent: str | None = None,
        record: DialRecord | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        """Dial ``host:port`` and have ``carry`` carry the connection.

        Args:
          entry: what the client speaks, for traces.
          agent: id of the only agent that may take it.
          record: to note in what is done, for who wants to read it.
          sock: the client's, if it has one for this connection alone.
        Raises:
          DialError: the endpoint could not be reached; ``carry`` was not called.
        """
        record = record or DialRecord(caller, address[:MAX_AUTHORITY])
        record.entry = entry
        try:
            listed = self._conns.listed(caller, record.destination, dial=record.id)
            with listed as conn, Visit() as visit:
                check_length(address)
                if protocol not in _PROTOCOLS:
                    raise DialError(BAD_ADDRESS, f"dial: unknown network {protocol}")
                self._admission.admit(caller, visit)
                if sock is not None:
                    descriptors.check(sock, "this server")
                await self._connect(record, conn, visit, carry, protocol, agent)
        except DialError as exc:
            self._failed(record, exc)
            raise
        except RelayError as exc:
            log.debug(
                "connection broken",
                client=str(caller),
                destination=address,
                dial=record.id,
                error=str(exc),
            )

    def _failed(self, record: DialRecord, exc: DialError) -> None:
        exc.dial = record.id
        record.failed(exc)
        self.records.keep(record)
        self._telemetry.tunneld_dial_failures[exc.kind.code] += 1
        if isinstance(exc, LimitedError):
            self._telemetry.tunneld_refused_dials_total[exc.limit] += 1
            self._refusals.log(exc, record.id, str(record.caller))
            return
        self._telemetry.dial_failure_count[_REASONS.get(exc.kind, ERROR_RESPONSE)] += 1
        emit(
            Event.DIAL_FAILED,
            client=str(record.caller),
            destination=record.destination,
            dial=record.id,
            code=exc.kind.code,
            error=str(exc),
        )

    async def _connect(
        self,
        record: DialRecord,
        conn: Conn,
        visit: Visit,
        carry: Carry,
        protocol: str,
        agent: str | None,
    ) -> None:
        try:
            tunnel, verdict = await self._choose(record, agent)
        finally:
            conn.agent, conn.rule = record.agent, record.rule
        conn.link = tunnel
        self._admission.admit_to(record.agent, visit)
        rules = self._chooser.rules_for(verdict)
        tunnel.conns += 1
        tunnel.dials += 1
        try:
            end = await self._dial(tunnel, protocol, record, rules)
            try:
                self._chooser.judge(record, verdict)
            except DialError:
                end.abort()
                raise
            finally:
                conn.dialled, conn.rule = record.address, record.rule
            visit.connected()
            await self._carry(paced(end, visit.paces), conn, carry)
        finally:
            tunnel.conns -= 1

    def wait_for_agents(self, seconds: float) -> None:
        """Have dials wait for an agent as long as this, at least, during the next so many seconds:
        we have just begun to serve clients that had agents before."""
        self._agents_by = trio.current_time() + seconds

    async def _choose(self, record: DialRecord, agent: str | None) -> tuple[Tunnel, Verdict]:
        """As `Chooser.choose`; waits for an agent where there is none."""
        until = max(trio.current_time() + self._agent_wait, self._agents_by)
        while True:
            try:
                return self._chooser.choose(record, agent)
            except DialError as exc:
                if exc.kind is not NO_AGENT or trio.current_time() >= until:
                    raise
            with trio.move_on_at(until):
                await self._chooser.next_agent()

    async def _dial(
        self, tunnel: Tunnel, protocol: str, record: DialRecord, rules: str
    ) -> DialledEnd:
        telemetry, begun = self._telemetry, time.monotonic()
        telemetry.pending_backend_dials += 1
        try:
            end = await tunnel.dial(record.destination, protocol, self._timeout, record, rules)
        except trio.TooSlowError:
            who = f"agent {record.agent} in {self._timeout:g} s"
            text = f"timed out waiting for backend dial: no answer of {who}"
            raise DialError(AGENT_TIMEOUT, text) from None
        except trio.Cancelled:
            telemetry.dial_failure_count[FRONTEND_CLOSE] += 1
            raise
        finally:
            telemetry.pending_backend_dials -= 1
        took = time.monotonic() - begun
        telemetry.dial_duration_seconds.observe(took)
        telemetry.tunneld_dial_seconds.observe(took)
        record.step("connected", "{}", record.address or "the agent has answered")
        return end

    async def _carry(self, end: DialledEnd, conn: Conn, carry: Carry) -> None:
        telemetry, begun = self._telemetry, time.monotonic()
        telemetry.established_connections += 1
        try:
            conn.state = "open"
            await carry(end, conn)
        finally:
            end.abort()  # unless it has ended by itself
            telemetry.established_connections -= 1
            telemetry.connection_duration_seconds.observe(time.monotonic() - begun)
            sent, received = conn.octets()
            telemetry.tunneld_carried_bytes_total[TO_AGENT] += sent
            telemetry.tunneld_carried_bytes_total[FROM_AGENT] += received
