"""When the servers of a process that takes over from another begin to serve clients: once the
agents have come over, so that no client meets a server without."""

from collections.abc import Callable, Mapping

import trio

PATIENCE = 5.0
"""Seconds for the agents to come; then clients are served with those that there are."""
AGENT_WAIT = 10.0
"""Seconds in which a dial waits for an agent: those that cannot be told to come over look for a
server again only when their tunnel has ended."""


class Handover:
    """See the module.

    Args:
      passed: called once, when it is open and all roles that have arrived are through.
    """

    def __init__(self, passed: Callable[[], None]) -> None:
        self._passed = passed
        self._agents: dict[str, set[str]] = {}
        self._before: set[str] = set()
        self._opened = trio.Event()
        self._told = False

    def arrive(self, role: str) -> None:
        """A server role is at the handover."""
        self._before.add(role)

    def open(self, agents: Mapping[str, set[str]]) -> None:
        """Agents are on their way.

        Args:
          agents: their ids, by role.
        """
        self._agents = dict(agents)
        self._opened.set()
        self._look()

    @property
    def is_open(self) -> bool:
        return self._opened.is_set()

    def agents(self, role: str) -> set[str]:
        """Ids of the agents that come to ``role``, once it is open."""
        return self._agents.get(role, set())

    async def wait(self, role: str) -> set[str]:
        """Wait until it is open; ids of the agents that come to ``role``."""
        await self._opened.wait()
        return self.agents(role)

    def leave(self, role: str) -> None:
        """A role is through, or has ended. Twice is harmless. When it is started again it waits for
        nobody."""
        self._before.discard(role)
        if self._opened.is_set():
            self._agents.pop(role, None)
        self._look()

    def _look(self) -> None:
        if self._opened.is_set() and not self._before and not self._told:
            self._told = True
            self._passed()
