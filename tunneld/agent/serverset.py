"""One tunnel to every server behind the agent's address.

All servers answer at one address, a load balancer's or a name's, and which of them does is not the
agent's choice. Each says its own id and how many there are; so the agent connects until it holds
that many, and ends what it has twice. The rule is konnectivity's; beyond it, a lost tunnel is
looked after at once, and missing servers are dialled in a row for as long as new ones answer.
"""

import math
import random
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import structlog
import trio

from tunneld.agent.link import LINK_ERRORS, PATIENCE, Link, reason_of
from tunneld.backoff import Backoff
from tunneld.config import AgentConfig
from tunneld.events import Event, emit
from tunneld.role import Host, RoleState
from tunneld.session import SessionError
from tunneld.telemetry import AgentTelemetry
from tunneld.tlspeers import TlsPeers

log = structlog.get_logger(__name__)

_MAX_SERVERS = 256
"""Servers that are looked for, whatever number one of them says: each tunnel costs a descriptor."""
_MAX_LEAVING = 16
"""Tunnels to servers that are about to go, at a time: of more, the oldest takes no more dials."""
_LASTING = 10.0
"""Seconds after which a tunnel counts as one that worked: the back-off starts over."""
_SOON = 0.05
"""Seconds before another look where chance decides which server answers, at first."""
_GROWTH = 1.5
_JITTER = 1.1

Connect: TypeAlias = Callable[[], Awaitable[Link]]
"""A link over a new connection, yet to be run. Raises `LINK_ERRORS`."""


class ServerSet:
    """See the module.

    Args:
      count: how many servers there are, as somebody else than them knows it; None if nobody
        does now.
      peers: keep the tunnels' certificates in view, if given.
    """

    def __init__(
        self,
        config: AgentConfig,
        host: Host,
        telemetry: AgentTelemetry,
        connect: Connect,
        count: Callable[[], int | None] | None = None,
        peers: TlsPeers | None = None,
    ) -> None:
        self.held: dict[str, Link] = {}
        """Links to servers that stay, by server id."""
        self.links: list[Link] = []
        """All, with those to servers that are about to go."""
        self._address = config.server
        self._host = host
        self._telemetry = telemetry
        self._connect = connect
        self._count = count
        self._said = 1
        """Number of servers, as the latest new one said it."""
        self._peers = TlsPeers() if peers is None else peers
        self.reconfigure(config)
        self._lost = trio.Event()
        self._state = (RoleState.STARTING, f"connecting to {self._address}")

    def reconfigure(self, config: AgentConfig) -> None:
        """Go by another configuration from the next look on."""
        self._forever = config.sync_forever
        self._backoff = Backoff(config.backoff_min, config.backoff_max)
        """For when there is no tunnel at all, or one was lost."""
        self._interval = _Interval(config.sync_interval, config.sync_interval_cap)
        """For when there are some, but others are missing."""
        self._twice = _Interval(min(_SOON, config.sync_interval), config.sync_interval)
        """For when one answered that was there already: the next may be another."""

    async def run(self) -> None:
        """Keep the tunnels up until drained; then return when the last has ended."""
        self._host.set_state(*self._state)
        async with trio.open_nursery() as links:
            with trio.CancelScope() as looking:
                links.start_soon(self._drain, looking)
                await self._look(links)

    async def _drain(self, looking: trio.CancelScope) -> None:
        await self._host.drain.wait()
        looking.cancel()
        for link in self.links:
            link.drain()

    # -- looking for servers ------------------------------------------------------------------

    async def _look(self, links: trio.Nursery) -> None:
        while True:
            delay = await self._round(links)
            with trio.move_on_after(delay):
                await self._lost.wait()
                self._lost = trio.Event()
                delay = min(delay, self._backoff.next_delay())
                log.info("looking for a server again", retry_in=round(delay, 2))
                await trio.sleep(delay)

    async def _round(self, links: trio.Nursery) -> float:
        """Look once for a server that is missing; seconds to the next time."""
        self._tell()
        if self._has_all:
            return self._interval.first() if self._count or self._forever else math.inf
        return await self._dial(links)

    async def _dial(self, links: trio.Nursery) -> float:
        try:
            link = await self._connect()
            with trio.fail_after(PATIENCE):
                is_new: bool = await links.start(self._hold, link)
        except LINK_ERRORS as exc:
            return self._failed(reason_of(exc))
        if not is_new:
            log.debug("connected twice", server_id=link.server_id)
            return self._interval.first() if self._forever else self._twice.next()
        self._twice.reset()
        if link.server_id not in self.held:
            return math.inf  # lost already, which ends the wait
        return self._interval.first() if self._has_all or self._forever else 0

    @property
    def _wanted(self) -> int:
        count = self._count() if self._count is not None else None
        return max(1, self._said if count is None else count)

    @property
    def _has_all(self) -> bool:
        return not self._forever and len(self.held) >= self._wanted

    def _failed(self, reason: str) -> float:
        """Seconds until the next attempt."""
        delay = self._interval.next() if self.held else self._backoff.next_delay()
        missing = "further tunnel" if self.held else "tunnel"
        log.warning(f"no {missing} to {self._address}: {reason}", retry_in=round(delay, 2))
        self._tell(reason)
        return delay

    # -- holding them -------------------------------------------------------------------------

    async def _hold(self, link: Link, task_status: trio.TaskStatus[bool]) -> None:
        """Run ``link`` to its end; it counts from its offer on."""
        hold = _Hold(self, link, task_status)
        reason = "its certificate is revoked"
        try:
            with trio.CancelScope() as scope, self._peers.present(link.transport, scope.cancel):
                await link.run(hold)
                reason = "the server ended the tunnel"
            if not hold.offered:
                raise SessionError(reason)
        except LINK_ERRORS as exc:
            if not hold.offered:
                raise
            reason = reason_of(exc)
        finally:
            counted = self.release(link)
            if hold.since is not None:
                self.links.remove(link)
                self._telemetry.open_server_connections -= 1
        if counted and not self.drained:
            emit(Event.TUNNEL_LOST, server_id=link.server_id, error=reason)
            self.replace(hold.lasted, reason)
        elif hold.since is not None:
            log.info("tunnel has ended", server_id=link.server_id)

    @property
    def drained(self) -> bool:
        """Whether no more servers are looked for."""
        return self._host.drain.is_set()

    def keep(self, link: Link) -> bool:
        """The server has said who it is; whether there is no other link to it."""
        if link.server_id in self.held:
            return False
        self.held[link.server_id] = link
        self.links.append(link)
        self._said = min(link.server_count, _MAX_SERVERS)
        self._telemetry.open_server_connections += 1
        emit(Event.TUNNEL_UP, server=self._address, server_id=link.server_id)
        self._tell()
        return True

    def release(self, link: Link) -> bool:
        """Count the link's server no more; whether it has counted until now."""
        if self.held.get(link.server_id) is not link:
            return False
        del self.held[link.server_id]
        return True

    def limit_leaving(self) -> None:
        """Have tunnels to servers that are about to go end, where there are too many: one that says
        so again and again gets a new one each time."""
        leaving = [link for link in self.links if self.held.get(link.server_id) is not link]
        for link in leaving[:-_MAX_LEAVING]:
            link.drain()

    def replace(self, lasted: float, reason: str) -> None:
        """Look for another server; the last one has counted for so many seconds."""
        if lasted > _LASTING:
            self._backoff.reset()
        self._tell(reason)
        self._lost.set()

    def _tell(self, reason: str = "") -> None:
        """Say what is held; ``reason`` is why there is no more."""
        wanted = self._telemetry.known_server_count = self._wanted
        held = len(self.held)
        if held == wanted == 1:
            state = (RoleState.READY, f"connected to {self._address}")
        elif held:
            state = (RoleState.READY, f"connected to {held} of {max(wanted, held)} servers")
        elif reason:
            state = (RoleState.BACKOFF, f"no tunnel to {self._address}: {reason}")
        else:
            return
        if state != self._state:
            self._state = state
            self._host.set_state(*state)


class _Hold:
    """One link's `Holder`."""

    def __init__(self, servers: ServerSet, link: Link, task_status: trio.TaskStatus[bool]) -> None:
        self.offered = False
        self.since: float | None = None
        """When the link was kept, if it was."""
        self._servers = servers
        self._link = link
        self._task_status = task_status

    def offer(self) -> bool:
        self.offered = True
        is_new = self._servers.keep(self._link)
        if is_new:
            self.since = trio.current_time()
        self._task_status.started(is_new)
        return is_new

    @property
    def lasted(self) -> float:
        """Seconds since it was kept."""
        return trio.current_time() - self.since if self.since is not None else 0.0

    def leaving(self) -> None:
        if not self._servers.drained and self._servers.release(self._link):
            log.info("server is about to go", server_id=self._link.server_id)
            self._servers.limit_leaving()
            self._servers.replace(self.lasted, "the server is about to go")


class _Interval:
    """Seconds between looks, as konnectivity's agents take them: each drawn a bit longer, so that
    many agents do not keep step."""

    def __init__(self, minimum: float, maximum: float) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self._ceiling = minimum

    def first(self) -> float:
        """After a look that did not fail."""
        self.reset()
        return self._minimum * random.uniform(1, _JITTER)

    def reset(self) -> None:
        """Start over."""
        self._ceiling = self._minimum

    def next(self) -> float:
        """After one that failed; longer each time."""
        interval = self._ceiling
        self._ceiling = min(interval * _GROWTH, self._maximum)
        return interval * random.uniform(1, _JITTER)
