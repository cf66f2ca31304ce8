"""Dials of a server: which agent, through its tunnel, and the connection on the list meanwhile."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import structlog

from tunneld.conns import Conn, Conns
from tunneld.dialing import DialError, split_authority
from tunneld.relay import RelayError
from tunneld.server.registry import Registry
from tunneld.streamend import StreamEnd

log = structlog.get_logger(__name__)

Carry: TypeAlias = Callable[[StreamEnd, Conn], Awaitable[None]]
"""Takes over when the endpoint is connected, and returns when the connection has ended."""


class Dialer:
    """Connects clients with endpoints.

    Args:
      timeout: seconds for the agent's answer.
    """

    def __init__(self, registry: Registry, conns: Conns, timeout: float) -> None:
        self._registry = registry
        self._conns = conns
        self._timeout = timeout

    async def connect(self, client: str, authority: str, carry: Carry) -> None:
        """Dial ``host:port`` and have ``carry`` carry the connection.

        Args:
          client: who asks, for lists and logs.
        Raises:
          DialError: the endpoint could not be reached; ``carry`` was not called.
        """
        try:
            await self._connect(client, authority, carry)
        except DialError as exc:
            log.info("dial failed", client=client, destination=authority, error=str(exc))
            raise
        except RelayError as exc:
            log.debug("connection broken", client=client, destination=authority, error=str(exc))

    async def _connect(self, client: str, authority: str, carry: Carry) -> None:
        host, port = split_authority(authority)
        tunnel = self._registry.choose(host)
        with self._conns.listed(client, authority, tunnel.info.agent_id) as conn:
            tunnel.conns += 1
            try:
                end = await tunnel.dial(host, port, self._timeout)
                try:
                    conn.state = "open"
                    await carry(end, conn)
                finally:
                    end.abort()  # unless it has ended by itself
            finally:
                tunnel.conns -= 1
