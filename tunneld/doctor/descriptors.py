"""File descriptors: how many the daemon may open, beside what its roles need."""

import resource
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tunneld.config import AgentConfig, RoleConfig, ServerConfig
from tunneld.doctor.finding import Finding, failed, noted, passed, warned

ROOMY = 8192
"""From so many on nothing is said: a server with 4000 connections."""
_BASE = 64
"""Of the process itself: control connections, epoll, logs, Python's own."""
_AGENTS = 64
"""Room for a server's tunnels."""
_CONNECTIONS = 256
"""At least that many should be possible at once; each takes one."""
_NEARLY = 0.8
_ADVICE = "raise it: LimitNOFILE= of the service, or ulimit -Hn in the shell that starts it"


def check_descriptors(roles: Sequence[RoleConfig], pid: int | None) -> Iterator[Finding]:
    """The limit of the process that runs ``roles``, or would.

    Args:
      pid: of that process; None where it does not run, and the limit here stands for it.
    """
    try:
        soft, hard = limits_of(pid)
    except OSError as exc:
        yield noted("descriptors", f"process {pid} does not show its limit: {exc.strerror}")
        return
    whose = f"process {pid}" if pid is not None else "a process started here"
    used = open_by(pid) if pid is not None else None
    # The daemon takes the hard limit when it starts (`tunneld.limits`).
    limit = soft if pid is not None else hard
    text = f"{whose} may open {_number(limit)} (soft {_number(soft)}, hard {_number(hard)})"
    if used is not None:
        text += f", {used} are open"
    need = needed(roles)
    if limit < need:
        yield failed("descriptors", f"{text}; its roles need {need} at least", _ADVICE)
    elif used is not None and used > limit * _NEARLY:
        yield warned("descriptors", text, _ADVICE)
    elif limit < (most := need + allowed(roles)):
        text += f"; with as many connections as `limits` of its roles allow it needs {most}"
        yield warned("descriptors", text, f"{_ADVICE}; or lower `limits`")
    elif limit < ROOMY:
        left = limit - need + _CONNECTIONS
        yield warned("descriptors", f"{text}: about {left} connections at once", _ADVICE)
    else:
        yield passed("descriptors", text)


def needed(roles: Sequence[RoleConfig]) -> int:
    """Descriptors below which the roles of one process cannot work."""
    return _BASE + sum(map(_needed_by, roles))


def allowed(roles: Sequence[RoleConfig]) -> int:
    """Connections that the roles' own limits allow; roles without one do not count."""
    return sum(
        role.limits.connections for role in roles if isinstance(role, ServerConfig | AgentConfig)
    )


def _needed_by(role: RoleConfig) -> int:
    if isinstance(role, ServerConfig):
        return len(role.frontends) + 1 + _AGENTS + _CONNECTIONS
    return _CONNECTIONS if isinstance(role, AgentConfig) else 16


def limits_of(pid: int | None) -> tuple[int, int]:
    """Soft and hard limit; none is the largest number.

    Raises:
      OSError: that process is gone.
    """
    if pid is None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    else:
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    return _finite(soft), _finite(hard)


def open_by(pid: int) -> int | None:
    """How many it has open; None if that is not for us to know."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return None


def _finite(limit: int) -> int:
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def _number(limit: int) -> str:
    return "any number" if limit == sys.maxsize else str(limit)
