"""Which dials a server takes on, as far as that is a question of how many there are."""

from tunneld.caller import Caller
from tunneld.config import Limits, LimitsFor
from tunneld.quota import Account, Accounts, Quota, Visit
from tunneld.reactor import Reactor
from tunneld.rules import Patterns
from tunneld.session import buffers

_US = "this server"


class Admission:
    """Counts connections and dials of each client, through each agent, and of all together."""

    def __init__(self, limits: Limits, reactor: Reactor) -> None:
        self._limits = limits
        self._others = _others(limits)
        self._total = Account(_US, "", _total(limits))
        self._clients = Accounts("client", self._of_client, reactor)
        self._agents = Accounts("agent", self._of_agent, reactor)

    def change(self, limits: Limits) -> None:
        """Go by other limits from the next dial on; what there is stays."""
        self._limits = limits
        self._others = _others(limits)
        self._total.change(_total(limits))
        self._clients.change(self._of_client)
        self._agents.change(self._of_agent)

    def admit(self, caller: Caller, visit: Visit) -> None:
        """Count a client's dial.

        Raises:
          LimitedError: it is one too many.
        """
        buffers.check(_US)
        visit.enter(self._clients.get(caller.name))
        visit.enter(self._total)

    def admit_to(self, agent: str, visit: Visit) -> None:
        """Count it as the agent's that has been chosen.

        Raises:
          LimitedError: it is one too many.
        """
        visit.enter(self._agents.get(agent))

    def _of_client(self, name: str) -> Quota:
        limits = self._limits
        general = Quota(
            limits.client_connections,
            limits.client_pending,
            limits.client_rate,
            limits.client_burst,
            limits.client_bandwidth,
        )
        for patterns, other in self._others:
            if patterns.match(name):
                return _replaced(general, other)
        return general

    def _of_agent(self, _: str) -> Quota:
        limits = self._limits
        return Quota(
            limits.agent_connections,
            limits.agent_pending,
            limits.agent_rate,
            limits.agent_burst,
            limits.agent_bandwidth,
        )


def _total(limits: Limits) -> Quota:
    return Quota(limits.connections)


def _others(limits: Limits) -> list[tuple[Patterns, LimitsFor]]:
    return [(Patterns(each.client), each) for each in limits.for_]


def _replaced(general: Quota, other: LimitsFor) -> Quota:
    """What ``other`` says, and where it says nothing, what goes for all."""
    return Quota(
        general.connections if other.connections is None else other.connections,
        general.pending if other.pending is None else other.pending,
        general.rate if other.rate is None else other.rate,
        general.burst if other.burst is None else other.burst,
        general.bandwidth if other.bandwidth is None else other.bandwidth,
    )
