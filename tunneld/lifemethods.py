"""The control methods that end roles or the process without breaking connections: ``drain`` and
``upgrade``."""

from typing import Annotated

import trio
from msgspec import Meta, Struct

from ctl.messages import Message
from tunneld.config import AgentConfig, ServerConfig
from tunneld.request import Method, Reply, Request
from tunneld.rolerunner import drain_timeout
from tunneld.roster import Entry
from tunneld.supervisor import Supervisor
from tunneld.upgrade import DEADLINE, Upgrade

_LOOK = 1.0
"""Seconds between two items about a drain."""

_Seconds = Annotated[float, Meta(ge=0, le=30 * 86_400)]


class Drain(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``drain``."""

    roles: list[str] = []
    """None stand for all servers and agents."""
    timeout: _Seconds | None = None
    """Seconds; None stands for each role's drain timeout."""


class UpgradeTo(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``upgrade``."""

    deadline: _Seconds = DEADLINE
    program: str | None = None


class LifeMethods:
    """See the module."""

    def __init__(self, supervisor: Supervisor, upgrade: Upgrade) -> None:
        self._supervisor = supervisor
        self._upgrade = upgrade

    def table(self) -> dict[str, Method]:
        """Methods by name."""
        return {
            "drain": Method(Drain, self._drain, Reply.STREAM),
            "upgrade": Method(UpgradeTo, self._upgrade_to, Reply.STREAM),
        }

    async def _drain(self, params: Drain, request: Request) -> Message:
        roster = self._supervisor.roster
        entries = [roster.get(name) for name in params.roles] or [
            entry for entry in roster if isinstance(entry.config, ServerConfig | AgentConfig)
        ]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell, entries, request)
            async with trio.open_nursery() as draining:
                for entry in entries:
                    timeout = params.timeout
                    if timeout is None:
                        timeout = drain_timeout(entry.config)
                    draining.start_soon(self._supervisor.stop, entry.name, timeout)
            nursery.cancel_scope.cancel()
        return {"roles": [self._supervisor.row(entry) for entry in entries]}

    async def _tell(self, entries: list[Entry], request: Request) -> None:
        """Say now and then what is left."""
        while True:
            conns = await self._supervisor.connections()
            for entry in entries:
                state, count = str(entry.status.state), conns[entry.name]
                await request.item({"role": entry.name, "state": state, "conns": count})
            await trio.sleep(_LOOK)

    async def _upgrade_to(self, params: UpgradeTo, request: Request) -> Message:
        result = await self._upgrade.run(params.deadline, params.program, request.item)
        request.after_reply.append(self._upgrade.finish)
        return result
