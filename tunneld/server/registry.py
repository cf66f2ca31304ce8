"""The agents that are connected, and which of them takes a dial."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Protocol, TypeAlias

import trio

from tunneld.agentinfo import AgentInfo
from tunneld.dialing import NO_AGENT, DialError
from tunneld.dialrecord import DialRecord
from tunneld.relay import DialledEnd
from tunneld.server.claims import DEFAULT_ROUTE, Claims, IpAddress, as_address, normal_name
from tunneld.telemetry import ServerTelemetry


class Tunnel(Protocol):
    """The live link to one agent, and dials through it."""

    info: AgentInfo
    claims: Claims
    peer: str
    since: float
    """Unix time."""
    protocol: str
    """By its ALPN name."""
    identity: str
    """Who the agent has proved to be."""
    conns: int
    """Relays and dials under way."""
    dials: int
    """Dials so far."""

    @property
    def usable(self) -> bool:
        """Whether a dial can go this way now."""

    @property
    def draining(self) -> bool:
        """Whether another tunnel shall be taken, if there is one."""

    @property
    def state(self) -> str:
        """For `tunnelctl agents`."""

    @property
    def rtt(self) -> float | None:
        """Seconds; None before it is known."""

    @property
    def checks_addresses(self) -> bool:
        """Whether the agent goes by rules about the address that it dials."""

    async def answers(self) -> None:
        """Return when the agent has answered a PING; never, if it goes before."""

    def kill(self, reason: str) -> None:
        """End the tunnel at once, and everything that goes through it."""

    @property
    def can_leave(self) -> bool:
        """Whether `leave` does anything."""

    def leave(self) -> None:
        """Have the agent open a tunnel to another server; this one stays as it is meanwhile."""

    def drain(self) -> None:
        """End the tunnel; for when nothing goes through it any more."""

    async def dial(
        self, address: str, protocol: str, timeout: float, record: DialRecord, rules: str
    ) -> DialledEnd:
        """Have the agent connect to ``address``.

        Args:
          protocol: ``tcp``, ``tcp4``, ``tcp6``, or what else the agent may know.
          record: of the dial; the agent's steps and the address it has dialled are put there.
          rules: what the agent has to know of addresses (`tunneld.rules`); "" for nothing.
        Raises:
          DialError: it could not.
          trio.TooSlowError: it has not answered in ``timeout`` seconds.
        """


Permits: TypeAlias = Callable[[Tunnel], bool]


class Registry:
    """All tunnels of a server, in order of arrival. One agent id may have several.

    Args:
      strategies: tried in order; the first that has a candidate decides.
    """

    def __init__(self, strategies: Sequence[str], telemetry: ServerTelemetry) -> None:
        self.tunnels: list[Tunnel] = []
        self._claiming: list[Tunnel] = []
        self._routing: list[Tunnel] = []
        self._willing: list[Tunnel] = []
        """Those of them that claim destinations, those with a default route, and those that may be
        asked for anything: a thousand others need not be looked at for each dial."""
        self.strategies = strategies
        self._telemetry = telemetry
        telemetry.ready_backends = self.ready_backends
        self._empty = trio.Event()
        self._joined = trio.Event()
        self._draining = False

    @contextmanager
    def joined(self, tunnel: Tunnel) -> Iterator[None]:
        """Have ``tunnel`` take dials while the block runs."""
        groups = self._groups_of(tunnel)
        for group in groups:
            group.append(tunnel)
        self._count()
        self._joined.set()
        self._joined = trio.Event()
        if self._draining:  # it was being looked at when the drain began
            tunnel.drain()
        try:
            yield
        finally:
            for group in groups:
                group.remove(tunnel)
            self._count()
            if not self.tunnels:
                self._empty.set()

    def _groups_of(self, tunnel: Tunnel) -> list[list[Tunnel]]:
        groups = [self.tunnels]
        if tunnel.claims.takes_unclaimed:
            groups.append(self._willing)
        if tunnel.claims.names_any:
            groups.append(self._claiming)
        if tunnel.claims.is_default_route:
            groups.append(self._routing)
        return groups

    def leave(self) -> set[str]:
        """Have the agents look for another server, ahead of a drain; ids of those that do. Others
        look when their tunnel has ended."""
        able = [tunnel for tunnel in self.tunnels if tunnel.can_leave]
        for tunnel in able:
            tunnel.leave()
        return {tunnel.info.agent_id for tunnel in able}

    async def wait_for(self, ids: Collection[str]) -> None:
        """Return when there is a tunnel to each of these agents."""
        while not {tunnel.info.agent_id for tunnel in self.tunnels}.issuperset(ids):
            await self.next_joined()

    async def next_joined(self) -> None:
        """Return when another agent has come."""
        await self._joined.wait()

    async def drain(self) -> None:
        """End every tunnel, those that still come too, and return when the last is gone."""
        self._draining = True
        for tunnel in list(self.tunnels):
            tunnel.drain()
        while self.tunnels:
            self._empty = trio.Event()
            await self._empty.wait()

    def choose(self, host: str, permits: Permits | None = None) -> Tunnel:
        """The tunnel for a destination. Of a strategy's candidates one that is draining is the
        last resort; among equals the least loaded is taken.

        Args:
          permits: which agents may be chosen; None for all.
        Raises:
          DialError: no agent is connected, or none takes this destination now.
        """
        address, name = as_address(host), normal_name(host)
        for strategy in self.strategies:
            if tunnel := self._choose(strategy, name, address, permits):
                return tunnel
        why = self._why_none([tunnel for tunnel in self.tunnels if tunnel.usable])
        text = f"currently no tunnels available: No agent available ({why})"
        raise DialError(NO_AGENT, text)

    def _choose(
        self, strategy: str, name: str, address: IpAddress | None, permits: Permits | None
    ) -> Tunnel | None:
        among = self._among(strategy)
        if permits is not None:
            among = [tunnel for tunnel in among if permits(tunnel)]
        claiming = among
        if strategy == "destHost":
            among = _most_exact(claiming, name, address)
        if not among:
            return None
        # The least loaded is nearly always fit, so that one alone is asked; only if it is not, all.
        best = min(among, key=_load)
        if best.usable and not best.draining:
            return best
        usable = [tunnel for tunnel in among if tunnel.usable]
        if strategy == "destHost":  # another may be the most exact one then
            usable = _most_exact([each for each in claiming if each.usable], name, address)
        return min(usable, key=lambda each: (each.draining, *_load(each)), default=None)

    def _among(self, strategy: str) -> list[Tunnel]:
        """Those that a strategy looks at."""
        match strategy:
            case "destHost":
                return self._claiming
            case "defaultRoute":
                return self._routing
            case _:
                return self._willing

    def review(self, host: str, why_not: Callable[[Tunnel], str]) -> Iterator[tuple[str, str]]:
        """What each strategy makes of each agent, for `tunnelctl trace`: strategy, and in words
        what became of its candidates.

        Args:
          why_not: says why an agent may not be chosen; "" if it may.
        """
        address, name = as_address(host), normal_name(host)
        for strategy in self.strategies:
            among = self._among(strategy)
            exact = _most_exact(among, name, address) if strategy == "destHost" else among
            words = [
                f"{tunnel.info.agent_id}: {_fate(tunnel, tunnel in exact, why_not(tunnel))}"
                for tunnel in among[:_REVIEWED]
            ]
            if len(among) > _REVIEWED:
                words.append(f"and {len(among) - _REVIEWED} more")
            yield strategy, "; ".join(words) or _NOBODY[strategy]

    def _why_none(self, usable: list[Tunnel]) -> str:
        if not self.tunnels:
            return "none is connected"
        if not usable:
            return "those connected are draining or stuck"
        return f"none of those connected takes it: {', '.join(self.strategies)}"

    def ready_backends(self) -> dict[str, int]:
        """By strategy, how many identifiers have an agent: hosts and addresses for ``destHost``,
        agent ids for the others."""
        return {strategy: len(_IDENTIFIERS[strategy](self.tunnels)) for strategy in self.strategies}

    def _count(self) -> None:
        """Upstream's deprecated gauge: of the store last touched, the last strategy's."""
        *_, last = self.ready_backends().values()
        self._telemetry.ready_backend_connections = last

    @property
    def ready(self) -> bool:
        """Whether the first strategy has an agent."""
        return bool(_IDENTIFIERS[self.strategies[0]](self.tunnels))


def _fate(tunnel: Tunnel, takes_it: bool, why_not: str) -> str:
    if not takes_it:
        return "claims something else"
    if why_not:
        return why_not
    if not tunnel.usable:
        return "its tunnel takes no dials now"
    load = f"{tunnel.conns} connections"
    return f"fit, draining, {load}" if tunnel.draining else f"fit, {load}"


_REVIEWED = 20
"""Agents of a strategy that a trace tells of."""
_NOBODY = {
    "destHost": "no agent claims any destination",
    "defaultRoute": "no agent has a default route",
    "default": "no agent is connected",
}
_load = attrgetter("conns", "dials")


def _most_exact(tunnels: list[Tunnel], name: str, address: IpAddress | None) -> list[Tunnel]:
    """Those who claim the destination most exactly: itself, or the longest prefix it is in."""
    ranks = [tunnel.claims.rank(name, address) for tunnel in tunnels]
    best = max(ranks, default=DEFAULT_ROUTE)
    if best <= DEFAULT_ROUTE:
        return []
    return [tunnel for tunnel, rank in zip(tunnels, ranks, strict=True) if rank == best]


_IDENTIFIERS: dict[str, Callable[[Sequence[Tunnel]], set[str]]] = {
    "default": lambda tunnels: {tunnel.info.agent_id for tunnel in tunnels},
    "destHost": lambda tunnels: {host for tunnel in tunnels for host in tunnel.claims.destinations},
    "defaultRoute": lambda tunnels: {
        tunnel.info.agent_id for tunnel in tunnels if tunnel.claims.is_default_route
    },
}
