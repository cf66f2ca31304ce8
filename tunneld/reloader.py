"""Puts a changed configuration and changed files into effect: on request, by a signal, or since the
files have changed. What cannot be used changes nothing."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec
import structlog
import trio

from ctl.messages import ControlError
from tunneld.config import Config, RoleConfig
from tunneld.configdiff import Change, How, compare, compare_daemon, roles_to
from tunneld.configfile import ConfigError, load_config
from tunneld.events import Event, emit
from tunneld.filewatch import Files
from tunneld.prepared import FileChange
from tunneld.role import RoleState
from tunneld.rolefiles import files_of
from tunneld.roster import Entry
from tunneld.supervisor import Supervisor

log = structlog.get_logger(__name__)

CONFIG_FILE = ""
"""Whose the configuration file is, among files by role."""

Tell: TypeAlias = Callable[[Change], Awaitable[None]]
"""Takes each change before it is made."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a reload is about to do, found to be possible."""

    config: Config
    changes: list[Change]
    """Of the configuration."""
    in_files: list[Change]
    """In the files that it names."""

    def role(self, name: str) -> RoleConfig:
        """A role as it will be."""
        return next(role for role in self.config.role if role.name == name)


class Reloader:
    """See the module. One reload runs at a time.

    Args:
      file: the configuration file; None if the daemon has none.
      config: what was read from it.
    """

    def __init__(
        self, supervisor: Supervisor, file: Path | None, config: Config, state_dir: Path
    ) -> None:
        self.config = config
        self.problems: dict[str, str] = {}
        """Why what there is now on disk is not in use, by role or `CONFIG_FILE`."""
        self._supervisor = supervisor
        self._file = file
        self._state_dir = state_dir
        self._turn = trio.Lock()

    async def plan(self) -> list[Change]:
        """What `reload` would change.

        Raises:
          ControlError: ``failed``: it would be refused; with all that is wrong.
        """
        async with self._turn:
            plan = await self._plan()
            return plan.changes + plan.in_files

    async def reload(self, tell: Tell) -> list[Change]:
        """Read the configuration and all files again, and go by them.

        Raises:
          ControlError: ``failed``: it is refused, with all that is wrong, and nothing has changed;
            or a role did not come back.
        """
        async with self._turn:
            with self._noting(CONFIG_FILE):
                plan = await self._plan()
            changes = plan.changes + plan.in_files
            for change in changes:
                await tell(change)
            for change in plan.changes:  # those in files are for the roles to log
                log.info("configuration changes", **change.to_map())
            with trio.CancelScope(shield=True):  # all of it, even if nobody waits any more
                await self._apply(plan)
            if changes:
                emit(Event.RELOADED, changes=len(changes))
            return changes

    async def reload_files(self, names: Sequence[str]) -> None:
        """Have roles use files that have changed; what is wrong is logged."""
        async with self._turn:
            for name in names:
                entry = self._supervisor.roster.find(name)
                if entry is None:
                    continue
                try:
                    with self._noting(name):
                        await self._supervisor.reload(entry, entry.config, apply=True)
                except ControlError as exc:
                    emit(
                        Event.NOT_RELOADED,
                        "files not reloaded, the old ones stay",
                        role=name,
                        error=str(exc),
                    )

    @contextmanager
    def _noting(self, owner: str) -> Iterator[None]:
        """Remember what is wrong with somebody's files, as long as it is."""
        try:
            yield
        except ControlError as exc:
            self.problems[owner] = str(exc)
            raise
        if owner == CONFIG_FILE:  # then all is well
            self.problems.clear()
        self.problems.pop(owner, None)

    def files(self) -> Files:
        """What to watch: of each role, and the configuration; nothing where that is not wanted."""
        if not self.config.watch:
            return {}
        files = {
            entry.name: files_of(entry.config, self._state_dir) for entry in self._supervisor.roster
        }
        return files if self._file is None else {**files, CONFIG_FILE: [str(self._file)]}

    async def _plan(self) -> Plan:
        config = await self._load()
        changes = compare([entry.config for entry in self._own()], config.role)
        changes = [*compare_daemon(self.config, config), *changes]
        plan = Plan(config, changes, [])
        problems = [*self._name_problems(plan)]
        for entry in self._supervisor.roster:
            try:
                plan.in_files.extend(_file_changes(entry.name, await self._probe(plan, entry)))
            except ControlError as exc:
                problems.append(f"role {entry.name}: {exc}")
        if problems:
            raise _refused(problems)
        return plan

    async def _load(self) -> Config:
        """Raises ControlError: the file has mistakes."""
        if self._file is None:
            return self.config
        try:
            return await trio.to_thread.run_sync(load_config, self._file)
        except ConfigError as exc:
            raise _refused(str(exc).splitlines()) from exc

    def _own(self) -> list[Entry]:
        """The roles of the configuration file."""
        return [entry for entry in self._supervisor.roster if entry.lab is None]

    def _name_problems(self, plan: Plan) -> list[str]:
        added = roles_to(How.ADD, plan.changes)
        return [
            f"role {entry.name}: there is one of that name already, of the lab {entry.lab!r}"
            for entry in self._supervisor.roster
            if entry.name in added
        ]

    async def _probe(self, plan: Plan, entry: Entry) -> list[FileChange]:
        """What has changed in the files of a role that goes on.

        Raises:
          ControlError: they cannot be used.
        """
        gone = roles_to(How.REMOVE, plan.changes) | roles_to(How.RESTART, plan.changes)
        if entry.name in gone:
            return []
        config = entry.config if entry.lab else plan.role(entry.name)
        return await self._supervisor.reload(entry, config, apply=False)

    async def _apply(self, plan: Plan) -> None:
        removed = roles_to(How.REMOVE, plan.changes)
        restarted = roles_to(How.RESTART, plan.changes)
        added = roles_to(How.ADD, plan.changes)
        goes_on = [e for e in self._supervisor.roster if e.name not in removed | restarted]
        for entry in goes_on:
            config = entry.config if entry.lab else plan.role(entry.name)
            await self._supervisor.reload(entry, config, apply=True)
        # What takes a new process stays different until there is one.
        self.config = msgspec.structs.replace(
            self.config, watch=plan.config.watch, role=plan.config.role
        )
        await self._supervisor.remove(e for e in self._own() if e.name in removed)
        async with trio.open_nursery() as nursery:
            for entry in self._own():
                if entry.name in restarted:
                    nursery.start_soon(self._supervisor.replace, entry, plan.role(entry.name))
        self._supervisor.add([plan.role(name) for name in sorted(added)])
        failed = [e for e in goes_on if not e.lab and e.status.state is RoleState.FAILED]
        for entry in failed:  # perhaps for what is right now
            await self._supervisor.start(entry.name)
        await self._see_them_ready(restarted | added)

    async def _see_them_ready(self, names: set[str]) -> None:
        entries = [entry for entry in self._own() if entry.name in names]
        await self._supervisor.settled(entries)
        unwell = [
            f"role {entry.name}: {entry.status.state}, {entry.status.reason or 'no reason given'}"
            for entry in entries
            if entry.status.state not in (RoleState.READY, RoleState.STOPPED)
        ]
        if unwell:
            raise ControlError(
                "failed",
                "\n".join(["reloaded, and not all roles are ready:", *unwell]),
                "see: tunnelctl role logs NAME",
            )


def _file_changes(role: str, changes: Sequence[FileChange]) -> list[Change]:
    return [Change(role, each.field, each.old, each.new, How.LIVE) for each in changes]


def _refused(problems: Sequence[str]) -> ControlError:
    return ControlError(
        "failed",
        "\n".join(["not reloaded, everything goes on as it was:", *problems]),
        "mend that, and look before: tunnelctl reload --check",
    )
