"""Who is who: the daemon's roles by name, their states, and waiting for these to change."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import trio

from ctl.messages import ControlError, Message
from tunneld.config import RoleConfig, kind_of
from tunneld.events import Event, emit
from tunneld.logbook import LogBook
from tunneld.role import RoleState
from tunneld.rolestatus import RoleStatus
from tunneld.schema import did_you_mean


@dataclass(slots=True, eq=False)
class Entry:
    """One role of the daemon."""

    config: RoleConfig
    lab: str | None
    """The lab it belongs to; None for a role of the configuration file."""
    status: RoleStatus = field(default_factory=lambda: RoleStatus(RoleState.STARTING))
    turn: trio.Lock = field(default_factory=trio.Lock)
    """Held by who starts or stops the role."""
    leaving: bool = False
    """About to be struck off: it is not started any more."""

    @property
    def name(self) -> str:
        return self.config.name

    def row(self, pid: int | None) -> Message:
        """As the control protocol has it; ``pid`` is the process that runs the role."""
        status = self.status.to_map()
        return {
            "name": self.name,
            "kind": kind_of(self.config),
            "namespace": self.config.namespace,
            "lab": self.lab,
            "pid": pid,
            **status,
        }


class Roster:
    """All entries, in the order of their arrival."""

    def __init__(self, logs: LogBook) -> None:
        """``logs`` gets a log for each role that is there."""
        self._logs = logs
        self._entries: dict[str, Entry] = {}
        self._changed = trio.Event()

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def add(self, entry: Entry) -> None:
        """Enter a role whose name is free."""
        assert entry.name not in self._entries
        self._entries[entry.name] = entry
        self._logs.of(entry.name)
        self._wake()

    def remove(self, entry: Entry) -> None:
        """Strike a role off."""
        if self._entries.get(entry.name) is entry:
            del self._entries[entry.name]
            self._logs.forget(entry.name)
            self._wake()

    def find(self, name: str) -> Entry | None:
        """The role of that name, if there is one."""
        return self._entries.get(name)

    def get(self, name: str) -> Entry:
        """The role of that name.

        Raises:
          ControlError: ``not_found``.
        """
        entry = self._entries.get(name)
        if entry is None:
            hint = "see: tunnelctl role list"
            if self._entries:
                hint = did_you_mean(name, self._entries).removeprefix(", ")
            raise ControlError("not_found", f"no role {name[:80]!r}", hint)
        return entry

    def report(self, name: str, status: RoleStatus) -> None:
        """Take a role's new status."""
        entry = self._entries.get(name)
        if entry is not None:
            if status.state is not entry.status.state:
                before = str(entry.status.state)
                state, reason = str(status.state), status.reason
                emit(Event.ROLE_STATE, role=name, state=state, before=before, reason=reason)
            entry.status = status
            self._wake()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that depends on the entries and their states."""
        while not condition():
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
