"""The daemon's control methods: parameters in, results out. `docs/reference` has the protocol."""

import os
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ctl.address import MAX_HOST, MAX_PORT
from ctl.messages import Message
from tunneld import __version__
from tunneld.configdiff import Change
from tunneld.dialmethods import DialMethods
from tunneld.labs import Labs
from tunneld.lifemethods import LifeMethods
from tunneld.logbook import LINES, LogBook, LogRecord, record
from tunneld.namespaces import way_into
from tunneld.reloader import Reloader
from tunneld.request import Method, Nothing, Reply, Request
from tunneld.roster import Entry
from tunneld.supervisor import Supervisor
from tunneld.upgrade import Upgrade
from tunneld.viewmethods import ViewMethods


class _Params(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all parameters."""


class Reload(_Params, frozen=True, kw_only=True):
    """``reload``."""

    check: bool = False


class RoleName(_Params, frozen=True, kw_only=True):
    """``role.start``, ``role.stop``, ``role.restart``."""

    name: str


class RoleLogs(_Params, frozen=True, kw_only=True):
    """``role.logs``."""

    name: str
    lines: Annotated[int, Meta(ge=0)] = 100
    follow: bool = False


class Dial(_Params, frozen=True, kw_only=True):
    """``dial``."""

    host: Annotated[str, Meta(min_length=1, max_length=MAX_HOST)]
    port: Annotated[int, Meta(ge=1, le=MAX_PORT)]
    server: str | None = None


class LabUp(_Params, frozen=True, kw_only=True):
    """``ns.up``."""

    name: str | None = None
    topology: dict[str, Any] | None = None
    bare: bool = False


class LabName(_Params, frozen=True, kw_only=True):
    """``ns.down``, ``ns.check``, ``ns.graph``; no name stands for the demo."""

    name: str | None = None


class Namespace(_Params, frozen=True, kw_only=True):
    """``ns.enter``."""

    namespace: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What does not change while the daemon runs."""

    pid: int
    control: Path
    state: Path
    since: float
    """Unix time, seconds."""
    file: Path | None = None
    """Of the configuration."""


class Methods:
    """The method table over a supervisor and its labs."""

    def __init__(
        self,
        facts: Facts,
        supervisor: Supervisor,
        labs: Labs,
        logs: LogBook,
        stop: Callable[[], None],
        reloader: Reloader,
        views: ViewMethods,
        upgrade: Upgrade,
    ) -> None:
        """``stop`` begins the end of the daemon."""
        self._facts = facts
        self._supervisor = supervisor
        self._labs = labs
        self._logs = logs
        self._stop = stop
        self._reloader = reloader
        self._views = views
        self._upgrade = upgrade

    def table(self) -> dict[str, Method]:
        """Methods by name."""
        return {
            **DialMethods(self._supervisor).table(),
            **LifeMethods(self._supervisor, self._upgrade).table(),
            **self._views.table(),
            "status": Method(Nothing, self.status),
            "stop": Method(Nothing, self.stop),
            "reload": Method(Reload, self.reload, Reply.STREAM),
            "role.list": Method(Nothing, self.role_list),
            "role.config": Method(Nothing, self.role_config),
            "role.start": Method(RoleName, partial(self._change, self._supervisor.start)),
            "role.stop": Method(RoleName, partial(self._change, self._supervisor.stop)),
            "role.restart": Method(RoleName, partial(self._change, self._supervisor.restart)),
            "role.logs": Method(RoleLogs, self.role_logs, Reply.STREAM),
            "dial": Method(Dial, self.dial, Reply.HANDOVER),
            "ns.up": Method(LabUp, self.ns_up, Reply.STREAM),
            "ns.down": Method(LabName, self.ns_down, Reply.STREAM),
            "ns.list": Method(Nothing, self.ns_list),
            "ns.enter": Method(Namespace, self.ns_enter),
            "ns.check": Method(LabName, self.ns_check, Reply.STREAM),
            "ns.graph": Method(LabName, self.ns_graph),
        }

    async def status(self, _: Nothing, request: Request) -> Message:
        facts = self._facts
        return {
            "pid": facts.pid,
            "version": __version__,
            "since": facts.since,
            "control": str(facts.control),
            "state": str(facts.state),
            "roles": self._rows(),
            "not_reloaded": list(self._reloader.problems.values()),
            "certificates": await self._supervisor.certificates(),
        }

    async def stop(self, _: Nothing, request: Request) -> Message:
        request.after_reply.append(self._stop)
        return {}

    async def reload(self, params: Reload, request: Request) -> Message:
        async def tell(change: Change) -> None:
            await request.item(change.to_map())

        if not params.check:
            return {"changes": len(await self._reloader.reload(tell)), "applied": True}
        changes = await self._reloader.plan()
        for change in changes:
            await tell(change)
        return {"changes": len(changes), "applied": False}

    async def role_list(self, _: Nothing, request: Request) -> Message:
        return {"roles": self._rows()}

    async def role_config(self, _: Nothing, request: Request) -> Message:
        """What the roles run with, file names absolute; and where that was read."""
        roster, file = self._supervisor.roster, self._facts.file
        return {
            "file": str(file) if file else None,
            "roles": [msgspec.to_builtins(entry.config) for entry in roster],
        }

    async def role_logs(self, params: RoleLogs, request: Request) -> Message:
        log = self._logs.of(self._supervisor.roster.get(params.name).name)
        cursor = log.cursor(min(params.lines, LINES))
        while True:
            lines, lost = log.read(cursor)
            cursor += lost + len(lines)
            if lost:
                await request.item(_lost_lines(lost).to_map())
            for line in lines:
                await request.item(line.to_map())
            if not params.follow or not await log.wait_beyond(cursor):
                return {}

    async def dial(self, params: Dial, request: Request) -> Message:
        sock = socket.socket(fileno=os.dup(request.socket.fileno()))
        sock.setblocking(False)
        reply: Message = {"id": request.id, "result": {}}
        await self._supervisor.dial(params.server, sock, params.host, params.port, reply)
        return {}

    async def ns_up(self, params: LabUp, request: Request) -> Message:
        return await self._labs.up(params.name, params.topology, request.item, bare=params.bare)

    async def ns_down(self, params: LabName, request: Request) -> Message:
        return await self._labs.down(params.name, request.item)

    async def ns_list(self, _: Nothing, request: Request) -> Message:
        return {"labs": self._labs.files.rows()}

    async def ns_enter(self, params: Namespace, request: Request) -> Message:
        argv = way_into(self._labs.files.directory, params.namespace, sysfs=True)
        return {"argv": argv}

    async def ns_check(self, params: LabName, request: Request) -> Message:
        return await self._labs.check(params.name, request.item)

    async def ns_graph(self, params: LabName, request: Request) -> Message:
        return self._labs.graph(params.name)

    def _rows(self) -> list[Message]:
        return [self._supervisor.row(entry) for entry in self._supervisor.roster]

    async def _change(
        self, act: Callable[[str], Awaitable[Entry]], params: RoleName, request: Request
    ) -> Message:
        return self._supervisor.row(await act(params.name))


def _lost_lines(number: int) -> LogRecord:
    return record(time.time(), "warning", f"{number} lines are lost: too many came at once", [])
