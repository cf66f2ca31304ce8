"""A namespace's worker, as the supervisor sees it: one process, started again when it dies, its
roles with it."""

import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import msgspec
import structlog
import trio
from msgspec import Struct

from ctl.messages import ControlError, FrameError, Message
from tunneld.backoff import Backoff
from tunneld.child import Child, describe_status
from tunneld.config import RoleConfig
from tunneld.events import Event, emit
from tunneld.framestream import FrameStream
from tunneld.handover import Handover
from tunneld.linereader import LineReader
from tunneld.logbook import LogRecord
from tunneld.prepared import FileChange
from tunneld.role import RoleState
from tunneld.rolegroup import Row
from tunneld.rolerunner import BACKOFF_MAX, BACKOFF_MIN, LASTED, Report, drain_timeout
from tunneld.rolestatus import RoleStatus
from tunneld.workerlink import WorkerLink, gone

log = structlog.get_logger(__name__)

START_TIMEOUT = 20.0
"""Seconds for a worker to come up and take its roles; it needs less than one."""
ASK_TIMEOUT = 60.0
"""Seconds for a role to answer a question; a trace may wait for a dial."""
ROWS_TIMEOUT = 3.0
"""Seconds for a worker to list something."""
STOP_MARGIN = 5.0
"""Seconds beyond its drain timeout that a role gets to end; then its worker is killed."""
EXIT_GRACE = 2.0
"""Seconds for a worker to end by itself when its line is closed."""
STDERR_LINES = 5
"""Last lines of a worker's stderr that explain its death."""

WORKER = (sys.executable, "-P", "-m", "tunneld.worker")

Enter: TypeAlias = Callable[[], list[str]]
"""Gives what to put before a command line to run it in the namespace, or raises `ControlError`."""


@dataclass(frozen=True, slots=True)
class Premises:
    """What all workplaces of a supervisor share."""

    state_dir: Path
    report: Report
    log_line: Callable[[str | None, LogRecord], None]
    """Takes what roles and workers log."""
    worker: Sequence[str] = WORKER
    buffer_memory: int = 0
    """Octets that may wait in each process; 0 leaves that to them."""
    watchdog: float = 30.0
    """Seconds for a worker to answer that it is alive; then it is killed."""
    handover: Handover | None = None
    """See `tunneld.role.Host`; of roles in the supervisor's own process."""
    backoff: Callable[[], Backoff] = lambda: Backoff(BACKOFF_MIN, BACKOFF_MAX)


@dataclass(slots=True)
class _Tenant:
    """A role of the namespace."""

    config: RoleConfig
    status: RoleStatus
    earlier: int = 0
    """Restarts in workers that are no more."""
    leaving: bool = False


class Workplace:
    """One namespace's roles; `run` keeps their worker alive.

    Args:
      descriptors: that workers inherit, under their numbers.
    """

    def __init__(
        self, namespace: str, enter: Enter, premises: Premises, descriptors: Sequence[int] = ()
    ) -> None:
        self.namespace = namespace
        self._enter = enter
        self._premises = premises
        self._descriptors = descriptors
        self._tenants: dict[str, _Tenant] = {}
        self._wanted = trio.Event()
        self._child: Child | None = None
        self._link: WorkerLink | None = None
        self._nursery: trio.Nursery | None = None

    @property
    def pid(self) -> int | None:
        """The worker's, None while there is none."""
        return self._child.pid if self._child else None

    async def run(self) -> None:
        """Employ workers until cancelled, which ends the last one."""
        backoff = self._premises.backoff()
        while True:
            while not self._tenants:
                await self._next_start()
            began = trio.current_time()
            reason = await self._employ()
            if trio.current_time() - began >= LASTED:
                backoff.reset()
            delay = backoff.next_delay()
            emit(
                Event.WORKER_FAILED,
                namespace=self.namespace,
                reason=reason,
                retry_in=round(delay, 3),
            )
            self._lost(reason)
            with trio.move_on_after(delay):
                await self._next_start()

    async def _next_start(self) -> None:
        self._wanted = trio.Event()
        await self._wanted.wait()

    def start(self, config: RoleConfig) -> None:
        """Have the worker run a role; if there is none, try at once."""
        tenant = self._tenants[config.name] = _Tenant(config, RoleStatus(RoleState.STARTING))
        self._premises.report(config.name, tenant.status)
        self._wanted.set()
        if self._link is not None and self._nursery is not None:
            self._nursery.start_soon(self._assign, self._link, tenant)

    async def stop(self, name: str, timeout: float | None = None) -> None:
        """Drain a role and wait for its end. Harmless if there is none of that name.

        Args:
          timeout: as `RoleRunner.stop`.
        """
        tenant = self._tenants.get(name)
        if tenant is None:
            return
        tenant.leaving = True
        if self._link is not None:
            await self._stop_in_worker(self._link, tenant.config, timeout)
        del self._tenants[name]
        self._premises.report(name, RoleStatus(RoleState.STOPPED, restarts=tenant.status.restarts))

    async def certificates(self) -> list[Row]:
        """As `RoleRunner.certificates`; none from a worker that does not answer."""
        return await self._rows("certificates")

    async def reload(self, config: RoleConfig, *, apply: bool) -> list[FileChange]:
        """As `RoleRunner.reload`; without a worker, for the next one.

        Raises:
          ControlError: a file cannot be used, or no answer.
        """
        changes: list[FileChange] = []
        if self._link is not None:
            with trio.move_on_after(START_TIMEOUT) as waiting:
                params = {"config": msgspec.to_builtins(config), "apply": apply}
                answer = await self._link.call("reload", params)
                changes = msgspec.convert(answer.get("changes", []), list[FileChange])
            if waiting.cancelled_caught:
                raise ControlError("timeout", f"role {config.name} did not answer in time")
        tenant = self._tenants.get(config.name)
        if apply and tenant is not None:
            tenant.config = config
        return changes

    async def ask(
        self, name: str, method: str, params: Message, timeout: float = ASK_TIMEOUT
    ) -> list[Message]:
        """The answer of a role, in a list.

        Raises:
          ControlError: the role's refusal, or no answer.
        """
        if self._link is None:
            raise gone()
        with trio.move_on_after(timeout):
            question = {"name": name, "method": method, "params": params}
            return [await self._link.call("ask", question)]
        raise ControlError("timeout", f"role {name} did not answer in {timeout:g} s")

    async def dial(
        self, name: str, sock: socket.socket, host: str, port: int, reply: Message
    ) -> None:
        """Have a role connect a copy of ``sock``, which is taken over, to ``host:port``; returns
        when the connection stands and ``reply`` was sent ahead of its octets.

        Raises:
          ControlError: the dial failed.
        """
        with sock:
            if self._link is None:
                raise gone()
            params = {"name": name, "host": host, "port": port, "reply": reply}
            await self._link.call("dial", params, sock)

    async def _rows(self, kind: str) -> list[Row]:
        with trio.move_on_after(ROWS_TIMEOUT):
            try:
                answer = await self._link.call("rows", {"kind": kind}) if self._link else {}
            except ControlError:
                return []
            return list(answer.get("rows", []))
        log.warning("worker does not answer", namespace=self.namespace)
        return []

    async def _stop_in_worker(
        self, link: WorkerLink, config: RoleConfig, timeout: float | None
    ) -> None:
        longest = drain_timeout(config) if timeout is None else timeout
        with trio.move_on_after(longest + STOP_MARGIN):
            try:
                await link.call("stop", {"name": config.name, "timeout": timeout})
            except ControlError as exc:  # no worker, no role
                log.info("role ended with its worker", role=config.name, reason=str(exc))
            return
        self._kill("it did not stop a role in time")

    async def _employ(self) -> str:
        """Run one worker to its end; why it ended."""
        try:
            child, sock = self._spawn(self._enter())
        except ControlError as exc:
            return str(exc)
        except OSError as exc:
            return f"cannot execute a worker: {exc.strerror}"
        self._child = child
        last_words: deque[str] = deque(maxlen=STDERR_LINES)
        reason = ""
        try:
            reason = await self._talk(child, sock, last_words)
        finally:
            status = await child.finish(EXIT_GRACE)
            self._child = None
        return reason or "; ".join([f"the worker ended: {describe_status(status)}", *last_words])

    def _spawn(self, prefix: list[str]) -> tuple[Child, socket.socket]:
        """A worker, and our end of the line to it."""
        ours, its = socket.socketpair()
        argv = [*prefix, *self._premises.worker, "--fd", str(its.fileno())]
        argv += ["--state", str(self._premises.state_dir)]
        if self._premises.handover is not None and not self._premises.handover.is_open:
            argv.append("--handover")
        if self._premises.buffer_memory:
            argv += ["--buffer-memory", str(self._premises.buffer_memory)]
        try:
            with its:
                child = Child.spawn(argv, descriptors=[its.fileno(), *self._descriptors])
        except OSError:
            ours.close()
            raise
        ours.setblocking(False)
        return child, ours

    async def _talk(self, child: Child, sock: socket.socket, last_words: deque[str]) -> str:
        """Serve the line to a worker until it ends; the reason, if it is known here."""
        reason = ""
        frames = FrameStream(trio.socket.from_stdlib_socket(sock))
        link = WorkerLink(frames, self._said)
        try:
            async with frames, trio.open_nursery() as nursery:
                nursery.start_soon(self._read_stderr, child, last_words)
                watch = trio.CancelScope()
                nursery.start_soon(self._watch, link, watch)
                self._link, self._nursery = link, nursery
                for tenant in self._tenants.values():
                    nursery.start_soon(self._assign, link, tenant)
                try:
                    await link.run()
                except FrameError as exc:
                    reason = f"the worker spoke nonsense: {exc}"
                    child.kill()
                watch.cancel()
                self._link = self._nursery = None
                # Its last words are worth a moment.
                nursery.cancel_scope.deadline = trio.current_time() + EXIT_GRACE
        finally:
            self._link = self._nursery = None
        return reason

    async def _watch(self, link: WorkerLink, scope: trio.CancelScope) -> None:
        """Kill the worker when it answers no more."""
        with scope:
            while True:
                await trio.sleep(self._premises.watchdog / 2)
                with trio.move_on_after(self._premises.watchdog) as waiting:
                    try:
                        await link.call("alive", {})
                    except ControlError:
                        return  # it has ended, as `run` is about to see
                if waiting.cancelled_caught:
                    self._kill("it has not answered for too long")
                    return

    async def _assign(self, link: WorkerLink, tenant: _Tenant) -> None:
        if tenant.leaving:
            return
        with trio.move_on_after(START_TIMEOUT):
            try:
                await link.call("start", {"config": msgspec.to_builtins(tenant.config)})
            except ControlError as exc:  # of a worker that is gone `run` takes care
                log.warning("role not started", role=tenant.config.name, reason=str(exc))
            return
        self._kill("it took no role in time")

    def _kill(self, reason: str) -> None:
        log.error("worker killed", namespace=self.namespace, reason=reason)
        if self._child is not None:
            self._child.kill()

    async def _read_stderr(self, child: Child, last_words: deque[str]) -> None:
        assert child.stderr is not None
        reader = LineReader(child.stderr)
        async for line in reader:
            last_words.append(line)
            log.warning("worker says", namespace=self.namespace, text=line)

    def _said(self, message: Message) -> None:
        """Take what the worker says unasked.

        Raises:
          FrameError: it is nothing that we know.
        """
        try:
            item = msgspec.convert(message, _Said).item
        except msgspec.ValidationError as exc:
            raise FrameError(str(exc)) from exc
        if item.log is not None:
            self._premises.log_line(item.role, item.log)
        if item.status is not None and item.role in self._tenants:
            tenant = self._tenants[item.role]
            restarts = tenant.earlier + item.status.restarts
            tenant.status = replace(item.status, restarts=restarts)
            self._premises.report(item.role, tenant.status)

    def _lost(self, reason: str) -> None:
        """The worker is no more: its roles wait for the next one."""
        for name, tenant in self._tenants.items():
            if not tenant.leaving:
                # A worker that died before it said anything was a restart nevertheless.
                restarts = max(tenant.earlier, tenant.status.restarts)
                tenant.earlier = restarts + 1
                tenant.status = RoleStatus(RoleState.BACKOFF, reason, restarts=restarts)
                self._premises.report(name, tenant.status)


class _Item(Struct, frozen=True):
    role: str | None
    status: RoleStatus | None = None
    log: LogRecord | None = None


class _Said(Struct, frozen=True):
    item: _Item
