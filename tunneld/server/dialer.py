"""Dials of a server: which agent, through its tunnel, and the connection on the list meanwhile."""

import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import structlog
import trio

from tunneld.caller import Caller
from tunneld.conns import Conn, Conns
from tunneld.dialing import AGENT_TIMEOUT, NO_AGENT, TUNNEL_LOST, DialError, host_of
from tunneld.relay import DialledEnd, RelayError
from tunneld.server.registry import Registry, Tunnel
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
    """

    def __init__(
        self, registry: Registry, conns: Conns, telemetry: ServerTelemetry, timeout: float
    ) -> None:
        self._registry = registry
        self._conns = conns
        self._telemetry = telemetry
        self._timeout = timeout or math.inf

    async def connect(
        self, caller: Caller, address: str, carry: Carry, *, protocol: str = "tcp"
    ) -> None:
        """Dial ``host:port`` and have ``carry`` carry the connection.

        Raises:
          DialError: the endpoint could not be reached; ``carry`` was not called.
        """
        try:
            await self._connect(caller, address, carry, protocol)
        except DialError as exc:
            self._telemetry.dial_failure_count[_REASONS.get(exc.kind, ERROR_RESPONSE)] += 1
            log.info("dial failed", client=str(caller), destination=address, error=str(exc))
            raise
        except RelayError as exc:
            log.debug("connection broken", client=str(caller), destination=address, error=str(exc))

    async def _connect(self, caller: Caller, address: str, carry: Carry, protocol: str) -> None:
        tunnel = self._registry.choose(host_of(address))
        with self._conns.listed(caller, address, tunnel.info.agent_id) as conn:
            tunnel.conns += 1
            tunnel.dials += 1
            try:
                await self._carry(await self._dial(tunnel, address, protocol), conn, carry)
            finally:
                tunnel.conns -= 1

    async def _dial(self, tunnel: Tunnel, address: str, protocol: str) -> DialledEnd:
        telemetry, begun = self._telemetry, time.monotonic()
        telemetry.pending_backend_dials += 1
        try:
            end = await tunnel.dial(address, protocol, self._timeout)
        except trio.TooSlowError:
            who = f"agent {tunnel.info.agent_id} in {self._timeout:g} s"
            text = f"timed out waiting for backend dial: no answer of {who}"
            raise DialError(AGENT_TIMEOUT, text) from None
        except trio.Cancelled:
            telemetry.dial_failure_count[FRONTEND_CLOSE] += 1
            raise
        finally:
            telemetry.pending_backend_dials -= 1
        telemetry.dial_duration_seconds.observe(time.monotonic() - begun)
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
