"""What a role is: one long-running trio task of a worker (server, agent, endpoint)."""

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import trio

from ctl.messages import ControlError
from tunneld.certfile import Fact
from tunneld.config import RoleConfig
from tunneld.handover import Handover
from tunneld.prepared import Prepared
from tunneld.reactor import Reactor


class RoleState(StrEnum):
    """Life of a role; `BACKOFF` is retrying (an agent without a server, a crashed worker)."""

    STARTING = "starting"
    READY = "ready"
    BACKOFF = "backoff"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(slots=True)
class Host:
    """What a worker gives to a role that runs in it."""

    name: str
    """The role's name, unique in the daemon."""
    reactor: Reactor
    """The process's data plane, already running."""
    state_dir: Path
    """Where relative paths of the role's configuration start."""
    set_state: Callable[[RoleState, str], None]
    """Report a change of state with its reason ("" for none)."""
    handover: Handover | None = None
    """Set in a process that takes over from another."""
    patient: bool = False
    """Whether, in a drain, who is connected already is served like before: another process takes
    what is new, and none shall be refused."""
    drain: trio.Event = field(default_factory=trio.Event)
    """Set when the role shall finish what runs, take nothing new, and return."""


class Role:
    """Base of all roles. The constructor starts nothing and raises nothing but `RoleError`."""

    async def run(self, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled, drained or broken; calls ``task_status.started(addresses)`` once
        ready, with the addresses it listens on (``"2.2.2.2:8090"``, ``"unix:/run/x"``)."""
        raise NotImplementedError

    def prepare(self, config: RoleConfig) -> Prepared:
        """Get ready to go on with another configuration of the same kind, and to use files that
        have changed. Of the configuration, only what `tunneld.configdiff` calls live may differ.

        Raises:
          RoleError: a file cannot be used; everything stays as it is.
        """
        return Prepared((), lambda: None)

    def certificates(self) -> list[tuple[str, Fact]]:
        """What the certificates and revocation lists in use say, with the key of the configuration
        that names the file.

        Raises:
          ValueError: one cannot be read.
        """
        return []

    def agents(self) -> list[dict[str, Any]]:
        """Rows for `tunnelctl agents`; only servers have any."""
        return []

    def conns(self) -> list[dict[str, Any]]:
        """Rows for `tunnelctl conns`; servers and agents have some."""
        return []

    def metrics(self) -> list[dict[str, Any]]:
        """For Prometheus, as `tunneld.samples` has them."""
        return []

    async def readiness(self) -> list[tuple[str, str]]:
        """What was looked at to see whether the role works, and what is wrong with it; "" for
        nothing. Takes some seconds at most."""
        return []

    def kill(self, what: Literal["conn", "client", "agent"], name: str, reason: str) -> list[str]:
        """End a connection by its id, those of a client by a name of it, or the tunnels of an
        agent by its id; what was ended, in a word each."""
        return []

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Answer a question of the control socket that only roles of some kind understand.

        Raises:
          ControlError: ``unknown_method``, or what is wrong with the question.
        """
        raise not_understood(method)

    async def dial_local(
        self, sock: socket.socket, host: str, port: int, accept: Callable[[str], bytes]
    ) -> None:
        """Carry ``sock`` (non-blocking, owned by this call) to ``host:port`` until both ways end.

        Args:
          accept: called with the agent's id once the endpoint is connected; its octets are sent
            on ``sock`` ahead of everything else.
        Raises:
          ControlError: the dial failed; nothing was sent on ``sock``, which is left open.
        """
        raise ControlError("not_found", "this role cannot dial: it is not a server")


def not_understood(method: str) -> ControlError:
    """For a role that is asked what only others can answer."""
    return ControlError("unknown_method", f"this role does not know {method!r}")


class RoleError(Exception):
    """A role cannot start or go on: its message says what was seen, expected and what to do."""
