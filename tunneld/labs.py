"""The labs of the daemon: networks of namespaces, their certificates, and their roles.

The network is the work of `netns`' programs (`tunneld.labprogram`); everything of a lab is in
STATE/labs/NAME, and whether it stands is always read from there and from the kernel. Each
operation on a lab is all or nothing, and one at a time.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog
import trio

from ctl.messages import ControlError, Message
from netns import (
    LabState,
    NetnsError,
    Topology,
    builtin_topology,
    check_argv,
    down_argv,
    draw,
    draw_dot,
    parse_topology,
    topology_to_map,
    up_argv,
    up_request,
)
from netns.journal import Mode
from netns.lab import DEFAULT_LAB, full_name
from netns.validation import check_lab_name
from tunneld.certificate import PkiError
from tunneld.config import RoleConfig
from tunneld.labfiles import LabFiles
from tunneld.labprogram import Emit, LabProgram
from tunneld.labroles import agent_id, lab_roles, next_commands, server_hosts
from tunneld.namespaces import control_error
from tunneld.pki import Pki
from tunneld.role import RoleState
from tunneld.roster import Entry
from tunneld.supervisor import Supervisor

log = structlog.get_logger(__name__)

READY_TIMEOUT = 30.0
"""Seconds for the roles of a lab to become ready, the agent connected; they need about one."""


@dataclass(slots=True)
class _Holder:
    """A program that keeps a rootless lab's namespaces, as long as it lives."""

    program: LabProgram
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)

    async def run(self, lab: str) -> None:
        try:
            with self.scope:
                await self.program.wait()
                log.warning("lab broke: its holder ended", lab=lab)
        finally:
            await self.program.close()
            self.ended.set()


class Labs:
    """Brings labs up and down; made by `open_labs`."""

    def __init__(self, files: LabFiles, supervisor: Supervisor, nursery: trio.Nursery) -> None:
        self.files = files
        self._supervisor = supervisor
        self._nursery = nursery
        self._holders: dict[str, _Holder] = {}
        self._turns: dict[str, trio.Lock] = {}

    async def up(
        self, name: str | None, topology: Message | None, emit: Emit, *, bare: bool = False
    ) -> Message:
        """Build a lab and start its roles, or see that it stands already.

        A failure, and a client who does not wait for the end, take back what this call has built.

        Args:
          topology: as a map; None stands for the built-in demo.
          bare: network and certificates alone.
        Raises:
          ControlError: what failed.
        """
        name = _checked_name(name)
        plan = _plan(topology)
        async with self._turn(name):
            stood = self.files.stands(name)
            before = self._entries(name)
            try:
                return await self._bring_up(name, plan, emit, bare=bare)
            except BaseException as exc:
                log.warning("lab not brought up, undoing", lab=name, cause=repr(exc))
                with trio.CancelScope(shield=True):
                    if stood:
                        await self._supervisor.remove(set(self._entries(name)) - set(before))
                    else:
                        await self._take_back(name)
                raise

    async def down(self, name: str | None, emit: Emit) -> Message:
        """Stop a lab's roles and remove all of it, to the end even if the client leaves.

        Raises:
          ControlError: ``not_found``, or what failed; what could be removed is.
        """
        name = _checked_name(name)
        async with self._turn(name):
            with trio.CancelScope(shield=True):
                if not await self._take_down(name, _Patient(emit).emit):
                    raise self.files.no_lab(name)
        return {"name": name}

    async def check(self, name: str | None, emit: Emit) -> Message:
        """Prove the shape of a lab that is up.

        Raises:
          ControlError: ``not_found``, or it is not up.
        """
        name = _checked_name(name)
        lab = self.files.lab(name)
        if lab.state is not LabState.UP:
            raise ControlError(
                "failed",
                f"the lab {name!r} is {lab.state}",
                f"build it anew: tunnelctl ns up --name {name}",
            )
        return await _run(check_argv(self.files.path(name)), emit)

    def graph(self, name: str | None) -> Message:
        """A lab: its ``topology`` as a map, ``drawing`` for a terminal, ``dot`` for Graphviz.

        Raises:
          ControlError: ``not_found``.
        """
        name = _checked_name(name)
        topology = self.files.lab(name).topology
        title = partial(full_name, name)
        return {
            "topology": topology_to_map(topology),
            "drawing": draw(topology, title),
            "dot": draw_dot(topology, title),
        }

    async def close(self) -> None:
        """Take down the labs that could not outlive the daemon: those without root."""
        for name in list(self._holders):
            async with self._turn(name):
                await self._take_down(name, _ignore)

    async def _bring_up(self, name: str, plan: Topology, emit: Emit, *, bare: bool) -> Message:
        # The network first: whether a lab of that name is there with another topology shows there.
        network = await self._build(name, plan, emit)
        await self._make_certificates(name, plan, emit)
        roles = lab_roles(plan, name, self.files.path(name), self.files.pki(name))
        if not bare:
            await self._start_roles(name, roles, emit)
        return {
            "name": name,
            "namespaces": [space["name"] for space in network["namespaces"]],
            "roles": [] if bare else [role.name for role in roles],
            "next": next_commands(name, [] if bare else roles),
        }

    async def _make_certificates(self, name: str, plan: Topology, emit: Emit) -> None:
        pki = Pki(self.files.pki(name))
        step = {"step": "certificates", "detail": str(pki.directory)}
        await emit({**step, "state": "start"})
        try:
            outcomes = pki.init(server_hosts(plan), agent_id(plan))
        except PkiError as exc:
            raise ControlError("failed", f"certificates: {exc}", exc.hint) from exc
        made = any(outcome.made for outcome in outcomes)
        await emit({**step, "state": "done" if made else "skip"})

    async def _build(self, name: str, plan: Topology, emit: Emit) -> Message:
        program = LabProgram(up_argv(self.files.path(name)))
        held = False
        try:
            await program.request(up_request(name, plan))
            network = await program.result(emit)
            if network["mode"] == Mode.ROOTLESS:
                held = self._hold(name, program, network["pid"])
            return network
        finally:
            if not held:
                await program.close()

    def _hold(self, name: str, program: LabProgram, pid: int) -> bool:
        """Keep the program that holds a lab; False if another one of ours, still, is that."""
        holder = self._holders.get(name)
        if holder is not None and holder.program.pid == pid:
            return False
        if program.pid != pid:
            raise ControlError(
                "busy",
                f"the lab {name!r} is held by process {pid}, which is not this daemon's",
                f"take it down first: tunnelctl ns down --name {name}",
            )
        holder = self._holders[name] = _Holder(program)
        self._nursery.start_soon(holder.run, name)
        return True

    async def _start_roles(self, name: str, roles: Sequence[RoleConfig], emit: Emit) -> None:
        wanted = {role.name: role for role in roles}
        await self._supervisor.remove(
            entry for entry in self._entries(name) if wanted.get(entry.name) != entry.config
        )
        there = {entry.name for entry in self._entries(name)}
        self._supervisor.add([role for role in roles if role.name not in there], name)
        with trio.move_on_after(READY_TIMEOUT):
            for entry in self._entries(name):
                await self._await_role(entry, emit, new=entry.name not in there)
            return
        waiting = [
            f"{entry.name}: {entry.status.state}, {entry.status.reason or 'no reason given'}"
            for entry in self._entries(name)
            if entry.status.state is not RoleState.READY
        ]
        raise ControlError(
            "timeout", f"not ready after {READY_TIMEOUT:g} s: {'; '.join(waiting)}", _LOG_HINT
        )

    async def _await_role(self, entry: Entry, emit: Emit, *, new: bool) -> None:
        step = {"step": f"role {entry.name}", "detail": entry.config.namespace or ""}
        if not new and entry.status.state in (RoleState.READY, RoleState.STOPPED):
            await emit({**step, "state": "skip", "detail": f"is {entry.status.state}"})
            return
        await emit({**step, "state": "start"})
        final = (RoleState.READY, RoleState.FAILED, RoleState.STOPPED)
        await self._supervisor.roster.wait_until(lambda: entry.status.state in final)
        if entry.status.state is RoleState.FAILED:
            raise ControlError("failed", f"role {entry.name}: {entry.status.reason}", _LOG_HINT)
        detail = ", ".join(entry.status.addresses) or entry.status.reason
        await emit({**step, "state": "done", "detail": detail})

    async def _take_back(self, name: str) -> None:
        """Undo a build that failed; what failed is the error to report, not this."""
        try:
            await self._take_down(name, _ignore)
        except ControlError as exc:
            log.error("lab is not gone", lab=name, reason=str(exc), hint=exc.hint)

    async def _take_down(self, name: str, emit: Emit) -> bool:
        """Remove a lab; whether there was anything of it."""
        found = await self._stop_roles(name, emit)
        holder = self._holders.pop(name, None)
        if holder is not None:
            holder.scope.cancel()
            await holder.ended.wait()
        planned = self.files.has_journal(name)
        removed: list[bool] = []

        async def watch(item: Message) -> None:
            removed.append(item.get("state") == "done")
            if planned or removed[-1]:  # without a journal it looks at everybody's namespaces
                await emit(item)

        await _run(down_argv(self.files.path(name)), watch)
        if await self.files.remove(name):
            await emit({"step": "files", "state": "done", "detail": str(self.files.path(name))})
            found = True
        return found or any(removed)

    async def _stop_roles(self, name: str, emit: Emit) -> bool:
        entries = self._entries(name)
        if entries:
            step = {"step": "roles", "detail": ", ".join(entry.name for entry in entries)}
            await emit({**step, "state": "start"})
            await self._supervisor.remove(entries)
            await emit({**step, "state": "done"})
        return bool(entries)

    def _entries(self, name: str) -> list[Entry]:
        return [entry for entry in self._supervisor.roster if entry.lab == name]

    def _turn(self, name: str) -> trio.Lock:
        return self._turns.setdefault(name, trio.Lock())


_LOG_HINT = "see: tunneld.log in the state directory"


class _Patient:
    """Passes items on until the client is gone, and goes on without."""

    def __init__(self, emit: Emit) -> None:
        self._emit: Emit | None = emit

    async def emit(self, item: Message) -> None:
        if self._emit is not None:
            try:
                await self._emit(item)
            except trio.BrokenResourceError:
                self._emit = None


async def _ignore(item: Message) -> None:
    """Nobody wants to see the steps."""


async def _run(argv: Sequence[str], emit: Emit) -> Message:
    program = LabProgram(argv)
    try:
        return await program.result(emit)
    finally:
        await program.close()


def _checked_name(name: str | None) -> str:
    name = name or DEFAULT_LAB
    try:
        check_lab_name(name)
    except NetnsError as exc:
        raise control_error(exc) from exc
    return name


def _plan(topology: Message | None) -> Topology:
    try:
        return builtin_topology(DEFAULT_LAB) if topology is None else parse_topology(topology)
    except NetnsError as exc:
        raise control_error(exc) from exc


@asynccontextmanager
async def open_labs(directory: Path, supervisor: Supervisor) -> AsyncIterator[Labs]:
    """The labs in ``directory``; in the end those without root come down."""
    async with trio.open_nursery() as nursery:
        labs = Labs(LabFiles(directory), supervisor, nursery)
        try:
            yield labs
        finally:
            with trio.CancelScope(shield=True):
                await labs.close()
        nursery.cancel_scope.cancel()
