"""Mistakes in tables of limits that types alone can't tell."""

from collections.abc import Iterator

from tunneld.config import AgentLimits, Limits
from tunneld.policycheck import client_problems
from tunneld.schema import Problem, join


def limit_problems(limits: Limits | AgentLimits, path: str) -> Iterator[Problem]:
    """All mistakes of one table."""
    if isinstance(limits, AgentLimits):
        yield from _burst_problems(limits.rate, limits.burst, path, "")
        return
    yield from _burst_problems(limits.client_rate, limits.client_burst, path, "client-")
    yield from _burst_problems(limits.agent_rate, limits.agent_burst, path, "agent-")
    for index, some in enumerate(limits.for_):
        where = f"{path}.for[{index}]"
        yield from client_problems(some.client, join(where, "client"))
        rate = limits.client_rate if some.rate is None else some.rate
        yield from _burst_problems(rate, some.burst or 0, where, "")


def _burst_problems(rate: float, burst: int, path: str, prefix: str) -> Iterator[Problem]:
    if burst and not rate:
        text = f"is of no use without {prefix}rate; set that, or remove it"
        yield Problem(join(path, f"{prefix}burst"), text)
