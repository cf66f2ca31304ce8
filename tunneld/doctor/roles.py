"""What is looked at for one role: whatever depends on the network that it is in."""

import os
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from tunneld.config import AgentConfig, RoleConfig, ServerConfig
from tunneld.doctor.agent import agent_checks
from tunneld.doctor.environment import environment_of
from tunneld.doctor.listening import listener_checks
from tunneld.doctor.policies import check_policy
from tunneld.doctor.running import Check

RUNNING = frozenset({"ready", "backoff", "draining"})
"""States in which a role's listeners are open, or its process lives."""


def role_checks(role: RoleConfig, row: dict[str, Any] | None) -> Iterator[Check]:
    """What depends on where the role runs: to be run in its network namespace.

    Args:
      row: as the daemon has it, None if it has none of that name.
    """
    if isinstance(role, ServerConfig | AgentConfig):
        yield Check("policy", role.name, partial(check_policy, role))
    runs = row is not None and str(row.get("state")) in RUNNING
    if isinstance(role, AgentConfig):
        yield from agent_checks(role, _environment(row))
    else:
        addresses = [str(each) for each in row.get("addresses", ())] if row and runs else None
        yield from listener_checks(role, addresses)


def _environment(row: Mapping[str, Any] | None) -> Mapping[str, str]:
    """Of the role's process; ours stands for that of one that does not run."""
    pid = row.get("pid") if row else None
    found = environment_of(pid) if isinstance(pid, int) else None
    return os.environ if found is None else found
