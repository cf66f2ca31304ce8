"""What happens, for machines: log lines with a name that stays, for `tunnelctl events`.

An event takes the way of all log lines, from whatever process. One whose level is not logged is an
event all the same.
"""

from enum import StrEnum
from typing import Any, Final

import structlog

from tunneld.log import NAME

_log = structlog.wrap_logger(structlog.PrintLogger(), wrapper_class=structlog.BoundLogger)
"""Does not look at levels: `tunneld.log` does."""

KEPT: Final = 1000
"""Events that the daemon remembers."""


class Event(StrEnum):
    """Names of events. What the log says of it, its level and its fields are in `_LINES` and at the
    places that emit it; fields may be added, and none changes its meaning."""

    AGENT_CONNECTED = "agent.connected"
    AGENT_LEFT = "agent.left"
    AGENT_LOST = "agent.lost"
    AGENT_REFUSED = "agent.refused"
    AGENT_KILLED = "agent.killed"
    CLIENT_REFUSED = "client.refused"
    TUNNEL_UP = "tunnel.up"
    TUNNEL_LOST = "tunnel.lost"
    DIAL_FAILED = "dial.failed"
    CONNECTION_KILLED = "connection.killed"
    POLICY_WOULD_DENY = "policy.would_deny"
    ROLE_STATE = "role.state"
    WORKER_FAILED = "worker.failed"
    CERTIFICATE_EXPIRES = "certificate.expires"
    RELOADED = "reload.done"
    NOT_RELOADED = "reload.failed"
    DRAINING = "daemon.draining"
    OUT_OF_DESCRIPTORS = "descriptors.exhausted"
    AUDIT_LOST = "audit.lost"


_LINES: Final[dict[Event, tuple[str, str]]] = {
    Event.AGENT_CONNECTED: ("agent connected", "info"),
    Event.AGENT_LEFT: ("agent left", "info"),
    Event.AGENT_LOST: ("agent lost", "warning"),
    Event.AGENT_REFUSED: ("agent refused", "warning"),
    Event.AGENT_KILLED: ("agent killed", "warning"),
    Event.CLIENT_REFUSED: ("client refused", "info"),
    Event.TUNNEL_UP: ("tunnel is up", "info"),
    Event.TUNNEL_LOST: ("tunnel lost", "warning"),
    Event.DIAL_FAILED: ("dial failed", "info"),
    Event.CONNECTION_KILLED: ("connection killed", "warning"),
    Event.POLICY_WOULD_DENY: ("policy would deny", "warning"),
    Event.ROLE_STATE: ("role changed its state", "debug"),
    Event.WORKER_FAILED: ("worker failed", "warning"),
    Event.CERTIFICATE_EXPIRES: ("certificate expires soon", "warning"),
    Event.RELOADED: ("reloaded", "info"),
    Event.NOT_RELOADED: ("not reloaded", "error"),
    Event.DRAINING: ("daemon drains", "info"),
    Event.OUT_OF_DESCRIPTORS: ("no file descriptors left", "error"),
    Event.AUDIT_LOST: ("audit records lost", "error"),
}
"""What the log says, and how loud."""


def emit(event: Event, text: str = "", *, level: str = "", **fields: Any) -> None:
    """Say that something has happened.

    Args:
      text, level: in place of what the log usually says, and how loud.
      fields: plain values.
    """
    usual, loudness = _LINES[event]
    getattr(_log, level or loudness)(text or usual, **{NAME: event.value}, **fields)
