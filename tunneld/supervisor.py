"""Where each of the daemon's roles runs, and starting, stopping and asking them.

Roles without a namespace run in this process, those with one in their namespace's worker
(`tunneld.workplace`), those of several processes in workers of their own (`tunneld.team`).
Starting and stopping go on whatever becomes of the client who asked.
"""

import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import structlog
import trio

from ctl.messages import ControlError, Message
from tunneld.config import RoleConfig, ServerConfig, processes_of
from tunneld.factories import FACTORIES, Factories
from tunneld.localdial import encode_reply
from tunneld.prepared import FileChange
from tunneld.role import RoleState
from tunneld.rolegroup import RoleGroup, Row, open_role_group
from tunneld.rolestatus import SETTLED, RoleStatus
from tunneld.roster import Entry, Roster
from tunneld.team import Team
from tunneld.workerlink import gone
from tunneld.workplace import ASK_TIMEOUT, ROWS_TIMEOUT, Premises, Workplace

log = structlog.get_logger(__name__)

_CONNECTING = 15.0
"""Seconds in which clients that are accepted have made their request, and are connected or not."""
SETTLE_TIMEOUT = 10.0
"""Seconds that who starts a role waits for it to be ready or to have failed."""

EnterNamespace: TypeAlias = Callable[[str], list[str]]
"""Gives, for a namespace's name, what to put before a command line to run it there; raises
`ControlError` when there is no such namespace."""


Place: TypeAlias = Workplace | Team


@dataclass(slots=True)
class _Lodging:
    """Where roles are at work, and its task."""

    place: Place
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)

    async def run(self) -> None:
        try:
            with self.scope:
                await self.place.run()
        finally:
            self.ended.set()


class Supervisor:
    """The roles of the daemon; made by `open_supervisor`."""

    def __init__(
        self,
        roster: Roster,
        group: RoleGroup,
        premises: Premises,
        enter: EnterNamespace,
        nursery: trio.Nursery,
    ) -> None:
        self.roster = roster
        self._group = group
        self._premises = premises
        self._enter = enter
        self._nursery = nursery
        self._lodgings: dict[str, _Lodging] = {}
        self._draining = False

    def add(self, configs: Sequence[RoleConfig], lab: str | None = None) -> None:
        """Enter roles and start them: all of them or none.

        Raises:
          ControlError: ``exists``: a name is taken; ``busy``: the daemon is stopping.
        """
        self._refuse_when_draining()
        for config in configs:
            other = self.roster.find(config.name)
            if other is not None:
                raise ControlError(
                    "exists",
                    f"there is a role {config.name!r} already, of {_origin(other)}",
                    "rename or stop one of them, or give the lab another name: ns up --name",
                )
        for config in configs:
            self.roster.add(Entry(config, lab))
            self._start_now(config)

    async def remove(self, entries: Iterable[Entry]) -> None:
        """Stop roles and strike them off; namespaces without any have no worker afterwards."""
        leaving = list(entries)
        await self._see_through(partial(self._remove, leaving))

    async def start(self, name: str) -> Entry:
        """Start a role by hand, unless it runs, and wait for how that goes.

        Raises:
          ControlError: there is no such role.
        """
        self._refuse_when_draining()
        entry = self.roster.get(name)
        await self._see_through(partial(self._start, entry))
        await self.settled([entry])
        return entry

    async def stop(self, name: str, timeout: float | None = None) -> Entry:
        """Drain a role and wait for its end.

        Args:
          timeout: as `RoleRunner.stop`.
        Raises:
          ControlError: there is no such role.
        """
        entry = self.roster.get(name)
        await self._see_through(partial(self._stop, entry, timeout))
        return entry

    async def restart(self, name: str) -> Entry:
        """Stop, then start a role.

        Raises:
          ControlError: there is no such role.
        """
        await self.stop(name)
        return await self.start(name)

    async def drain(self, timeout: float | None = None) -> None:
        """Stop all roles, and start none any more.

        Args:
          timeout: as `RoleRunner.stop`. Agents and endpoints then go on until those clients are
            connected that the servers have accepted: they may be who connects them.
        """
        self._draining = True
        servers = [entry for entry in self.roster if isinstance(entry.config, ServerConfig)]
        async with trio.open_nursery() as nursery:
            for entry in servers:
                nursery.start_soon(self._stop, entry, timeout)
            if timeout is not None:
                with trio.move_on_after(_CONNECTING):
                    await self.roster.wait_until(
                        lambda: all(each.status.state is RoleState.STOPPED for each in servers)
                    )
            for entry in self.roster:
                if entry not in servers:
                    nursery.start_soon(self._stop, entry, timeout)

    async def alive(self) -> None:
        """Return once this process's data plane has served a turn."""
        await self._group.alive()

    async def settled(self, entries: Sequence[Entry], timeout: float = SETTLE_TIMEOUT) -> bool:
        """Wait until none of the roles is starting or draining; whether that was in time."""
        with trio.move_on_after(timeout):
            await self.roster.wait_until(
                lambda: all(entry.status.state in SETTLED for entry in entries)
            )
            return True
        return False

    def row(self, entry: Entry) -> Message:
        """A role as the control protocol has it."""
        key = _lodging_of(entry.config)
        if key is None:
            return entry.row(os.getpid())
        lodging = self._lodgings.get(key)
        return entry.row(lodging.place.pid if lodging else None)

    async def connections(self) -> Counter[str]:
        """How many connections each role has."""
        counts: Counter[str] = Counter()
        for role, answer in await self.ask_all("conns", {"limit": 0}, ROWS_TIMEOUT):
            counts[role] += answer["total"]
        return counts

    async def certificates(self) -> list[Row]:
        """As `RoleRunner.certificates`, of all roles that answer."""
        return await self._gather(self._group.certificates(), lambda place: place.certificates())

    async def reload(self, entry: Entry, config: RoleConfig, *, apply: bool) -> list[FileChange]:
        """Have a role go on with another configuration that differs from its own in what is live
        only, and use files that have changed; what has changed in them.

        Args:
          apply: else only find out.
        Raises:
          ControlError: a file cannot be used, or its process does not answer.
        """
        async with entry.turn:
            key = _lodging_of(entry.config)
            lodging = self._lodgings.get(key or "")
            if lodging is not None:
                changes = await lodging.place.reload(config, apply=apply)
            else:
                changes = self._group.reload(config, apply=apply)
            if apply:
                entry.config = config
            return changes

    async def replace(self, entry: Entry, config: RoleConfig) -> None:
        """Drain a role, and start it with another configuration of the same name, whatever it is;
        one that was stopped by hand stays so."""
        await self._see_through(partial(self._replace, entry, config))

    async def ask(
        self, name: str, method: str, params: Message, timeout: float = ASK_TIMEOUT
    ) -> list[Message]:
        """The answers of a role, one of each of its processes.

        Raises:
          ControlError: there is no such role, it refuses, or does not answer.
        """
        entry = self.roster.get(name)
        key = _lodging_of(entry.config)
        if key is None:
            return [await self._group.ask(name, method, params)]
        lodging = self._lodgings.get(key)
        if lodging is None:
            raise gone()
        return await lodging.place.ask(name, method, params, timeout)

    async def ask_all(
        self,
        method: str,
        params: Message,
        timeout: float = ASK_TIMEOUT,
        among: Callable[[Entry], bool] = lambda _: True,
    ) -> list[tuple[str, Message]]:
        """The answers of all roles that know ``method`` and do answer, with their names.

        Args:
          among: which roles are asked.
        """
        answers: list[tuple[str, Message]] = []

        async def ask_one(name: str) -> None:
            try:
                answers.extend(
                    (name, each) for each in await self.ask(name, method, params, timeout)
                )
            except ControlError as exc:
                if exc.code != "unknown_method":
                    log.debug("role does not answer", role=name, method=method, error=str(exc))

        async with trio.open_nursery() as nursery:
            for entry in filter(among, self.roster):
                nursery.start_soon(ask_one, entry.name)
        return answers

    async def dial(
        self, server: str | None, sock: socket.socket, host: str, port: int, reply: Message
    ) -> None:
        """Have a server role connect ``sock``, which is taken over, to ``host:port``; returns when
        the connection stands and ``reply`` was sent ahead of its octets.

        Args:
          server: its name; None stands for the only one.
        Raises:
          ControlError: the dial failed, or it is not clear which server is meant.
        """
        try:
            entry = self._server(server)
        except ControlError:
            sock.close()
            raise
        key = _lodging_of(entry.config)
        reply["result"]["server"] = entry.name
        if key is None:
            await self._group.dial(entry.name, sock, host, port, partial(encode_reply, reply))
        else:
            await self._lodgings[key].place.dial(entry.name, sock, host, port, reply)

    def _server(self, name: str | None) -> Entry:
        if name is not None:
            entry = self.roster.get(name)
            if not isinstance(entry.config, ServerConfig):
                raise ControlError("bad_request", f"role {name!r} is no server")
            return entry
        servers = [entry for entry in self.roster if isinstance(entry.config, ServerConfig)]
        running = [entry for entry in servers if entry.status.state is RoleState.READY] or servers
        if not running:
            raise ControlError("not_found", "no server role runs here", "try: tunnelctl ns up")
        if len(running) > 1:
            names = ", ".join(entry.name for entry in running)
            raise ControlError(
                "bad_request", f"several servers run here: {names}", "name one with --server"
            )
        return running[0]

    async def _gather(
        self, rows: list[Row], ask: Callable[[Place], Awaitable[list[Row]]]
    ) -> list[Row]:
        async def ask_one(place: Place) -> None:
            rows.extend(await ask(place))

        async with trio.open_nursery() as nursery:
            for lodging in self._lodgings.values():
                nursery.start_soon(ask_one, lodging.place)
        return rows

    async def _see_through(self, action: Callable[[], Awaitable[None]]) -> None:
        """Run ``action`` to its end, even if who waits for it is cancelled."""
        done = trio.Event()

        async def run() -> None:
            try:
                await action()
            finally:
                done.set()

        self._nursery.start_soon(run)
        await done.wait()

    async def _start(self, entry: Entry) -> None:
        async with entry.turn:
            down = entry.status.state in (RoleState.STOPPED, RoleState.FAILED)
            if down and not entry.leaving:
                self.roster.report(entry.name, RoleStatus(RoleState.STARTING))
                self._start_now(entry.config)

    async def _stop(self, entry: Entry, timeout: float | None = None) -> None:
        async with entry.turn:
            lodging = self._lodgings.get(_lodging_of(entry.config) or "")
            if lodging is not None:
                await lodging.place.stop(entry.name, timeout)
            else:
                await self._group.stop(entry.name, timeout)
            if entry.status.state is not RoleState.STOPPED:
                self.roster.report(entry.name, RoleStatus(RoleState.STOPPED))

    async def _replace(self, entry: Entry, config: RoleConfig) -> None:
        stays_down = entry.status.state is RoleState.STOPPED
        await self._stop(entry)
        async with entry.turn:
            before, entry.config = entry.config, config
            await self._close_unused([before])
            if not (stays_down or entry.leaving or self._draining):
                self.roster.report(entry.name, RoleStatus(RoleState.STARTING))
                self._start_now(config)

    async def _remove(self, entries: list[Entry]) -> None:
        for entry in entries:
            entry.leaving = True
        async with trio.open_nursery() as nursery:
            for entry in entries:
                nursery.start_soon(self._stop, entry)
        for entry in entries:
            self.roster.remove(entry)
        await self._close_unused([entry.config for entry in entries])

    async def _close_unused(self, configs: Iterable[RoleConfig]) -> None:
        """Close where these have been at work, unless others are. A team is made for its size."""
        used = {_lodging_of(entry.config) for entry in self.roster}
        teams = {_lodging_of(config) for config in configs if processes_of(config) > 1}
        for key in {_lodging_of(config) for config in configs} - (used - teams) - {None}:
            await self._close(str(key))

    async def _close(self, key: str) -> None:
        lodging = self._lodgings.pop(key, None)
        if lodging is not None:
            lodging.scope.cancel()
            await lodging.ended.wait()

    def _start_now(self, config: RoleConfig) -> None:
        key = _lodging_of(config)
        if key is None:
            self._group.start(config)
            return
        if key not in self._lodgings:
            lodging = self._lodgings[key] = _Lodging(self._place(config))
            self._nursery.start_soon(lodging.run)
        self._lodgings[key].place.start(config)

    def _place(self, config: RoleConfig) -> Place:
        namespace = config.namespace
        enter = partial(self._enter, namespace) if namespace is not None else _stay
        if processes_of(config) > 1:
            return Team(config, enter, self._premises)
        return Workplace(str(namespace), enter, self._premises)

    def _refuse_when_draining(self) -> None:
        if self._draining:
            raise ControlError("busy", "the daemon is stopping", "start it again first")


def _lodging_of(config: RoleConfig) -> str | None:
    """The key of its lodging; None for a role that runs in this process."""
    if processes_of(config) > 1:
        return f"/{config.name}"  # no namespace has such a name
    return config.namespace


def _stay() -> list[str]:
    """`Enter` for roles of the daemon's own namespace."""
    return []


def _origin(entry: Entry) -> str:
    return f"the lab {entry.lab!r}" if entry.lab else "the configuration file"


@asynccontextmanager
async def open_supervisor(
    premises: Premises,
    enter: EnterNamespace,
    roster: Roster,
    factories: Factories = FACTORIES,
) -> AsyncIterator[Supervisor]:
    """A supervisor without roles; in the end what runs is cancelled (`Supervisor.drain` first)."""
    async with (
        open_role_group(factories, premises.state_dir, premises.report, premises.handover) as group,
        trio.open_nursery() as nursery,
    ):
        yield Supervisor(roster, group, premises, enter, nursery)
        nursery.cancel_scope.cancel()
