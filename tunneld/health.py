"""Whether the daemon works, found out by having it work: a turn of each process, a TLS handshake
with each listener, a PING through each tunnel."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import trio

from ctl.messages import ControlError, Message
from tunneld.config import processes_of
from tunneld.role import RoleState
from tunneld.roster import Entry
from tunneld.supervisor import Supervisor

TURN_TIMEOUT = 2.0
"""Seconds for a process to answer."""
PATIENCE = 4.0
"""Seconds for a role to look at itself."""


@dataclass(frozen=True, slots=True)
class Check:
    """Something that was looked at."""

    name: str
    problem: str = ""
    """"" for none."""

    def to_map(self) -> dict[str, object]:
        """As the control protocol has it."""
        return {"name": self.name, "ok": not self.problem, "problem": self.problem}


Look: TypeAlias = Callable[[Entry], Awaitable[list[Check]]]


class Health:
    """See the module."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def alive(self) -> list[Check]:
        """Whether every process answers: its event loop, and its data plane. A role that is not
        running, since its configuration is wrong say, has no process that could hang."""
        checks = [await self._own()]
        checks += await self._each(_runs, self._turn)
        return checks

    async def ready(self) -> list[Check]:
        """Whether every role does what it is for."""
        return [await self._own(), *await self._each(_is_wanted, self._look)]

    async def _own(self) -> Check:
        with trio.move_on_after(TURN_TIMEOUT):
            await self._supervisor.alive()
            return Check("daemon")
        return Check("daemon", f"its data plane has not answered in {TURN_TIMEOUT:g} s")

    async def _each(self, among: Callable[[Entry], bool], look: Look) -> list[Check]:
        """Look at roles at once; what was found, in their order."""
        entries = [entry for entry in self._supervisor.roster if among(entry)]
        found: dict[str, list[Check]] = {}

        async def one(entry: Entry) -> None:
            try:
                found[entry.name] = await look(entry)
            except ControlError as exc:
                found[entry.name] = [Check(entry.name, str(exc))]

        async with trio.open_nursery() as nursery:
            for entry in entries:
                nursery.start_soon(one, entry)
        return [check for entry in entries for check in found[entry.name]]

    async def _turn(self, entry: Entry) -> list[Check]:
        return [_whole(entry, await self._supervisor.ask(entry.name, "alive", {}, TURN_TIMEOUT))]

    async def _look(self, entry: Entry) -> list[Check]:
        status = entry.status
        if status.state is not RoleState.READY:
            reason = f": {status.reason}" if status.reason else ""
            return [Check(entry.name, f"it is {status.state}{reason}")]
        answers = await self._supervisor.ask(entry.name, "ready", {}, PATIENCE)
        found = [each for answer in answers for each in _checks(entry, answer)]
        return [_whole(entry, answers), *found]


def _whole(entry: Entry, answers: Sequence[Message]) -> Check:
    """Whether all processes of a role have answered."""
    wanted = processes_of(entry.config)
    if len(answers) < wanted:
        return Check(entry.name, f"{len(answers)} of {wanted} processes answer")
    return Check(entry.name)


def _checks(entry: Entry, answer: Message) -> list[Check]:
    process = f"/{answer['process']}" if "process" in answer else ""
    return [Check(f"{entry.name}{process}: {name}", why) for name, why in answer["checks"]]


def _runs(entry: Entry) -> bool:
    return entry.status.state in (RoleState.READY, RoleState.STARTING, RoleState.DRAINING)


def _is_wanted(entry: Entry) -> bool:
    """Whether the role should work: one that was stopped by hand should not."""
    return entry.status.state is not RoleState.STOPPED
