"""Keeps one role running in this process: starts it, again after failures, and drains it."""

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import structlog
import trio

from ctl.messages import ControlError
from tunneld.backoff import Backoff
from tunneld.config import AgentConfig, RoleConfig, ServerConfig
from tunneld.factories import Factory
from tunneld.handover import Handover
from tunneld.localdial import Accept, LocalDial
from tunneld.log import role_context
from tunneld.prepared import FileChange
from tunneld.questions import answer
from tunneld.reactor import Reactor
from tunneld.role import Host, Role, RoleError, RoleState
from tunneld.rolemetrics import turn_seconds
from tunneld.rolequestions import RoleQuestions
from tunneld.rolestatus import RoleStatus, reason_of

log = structlog.get_logger(__name__)

BACKOFF_MIN = 0.5
BACKOFF_MAX = 30.0
"""Seconds, ceilings of the wait before a restart."""
LASTED = 10.0
"""Seconds that a role must have been ready for its next failure to be the first again."""
DRAIN_TIMEOUT = 5.0
"""Seconds to finish, for roles that have no setting for it."""

Report: TypeAlias = Callable[[str, RoleStatus], None]
"""Takes a role's name and its new status; called from the role's own task."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all roles of a process share."""

    reactor: Reactor
    state_dir: Path
    report: Report
    handover: Handover | None = None
    """See `Host.handover`."""
    backoff: Callable[[], Backoff] = lambda: Backoff(BACKOFF_MIN, BACKOFF_MAX)
    """Makes the delays of one role's restarts."""


class RoleRunner:
    """One role, from its start by hand to its stop by hand."""

    def __init__(self, config: RoleConfig, factory: Factory, surroundings: Surroundings) -> None:
        self.config = config
        self.status = RoleStatus(RoleState.STARTING)
        self.finished = trio.Event()
        """Set when `run` has returned: the role runs no more and is not started again."""
        self._factory = factory
        self._surroundings = surroundings
        self._backoff = surroundings.backoff()
        self._stop = trio.Event()
        self._patience: float | None = None
        self._ready_at: float | None = None
        self._role: Role | None = None
        self._dials: trio.Nursery | None = None

    async def run(self) -> None:
        """Run the role, and again whenever it ends, until `stop` or until it cannot be started."""
        self._set(RoleState.STARTING)
        try:
            with role_context(self.config.name):
                await self._keep_running()
        finally:
            self.finished.set()

    def stop(self, timeout: float | None = None) -> None:
        """Have the role finish what it does; twice is harmless.

        Args:
          timeout: seconds it gets, and is patient then (`Host.patient`); None stands for its drain
            timeout.
        """
        if not self._stop.is_set():
            self._patience = timeout
            self._stop.set()

    async def dial(self, sock: socket.socket, host: str, port: int, accept: Accept) -> None:
        """Have the role carry ``sock``, which is taken over, to ``host:port``; returns when the
        connection stands. Cancelling it before that gives the dial up.

        Raises:
          ControlError: the dial failed; ``sock`` is closed.
        """
        if self._role is None or self._dials is None or self._stop.is_set():
            sock.close()
            raise self._not_running()
        dial = LocalDial(sock, host, port)
        with role_context(self.config.name):
            self._dials.start_soon(dial.run, self._role, accept)
        try:
            await dial.decided.wait()
        except trio.Cancelled:
            dial.scope.cancel()
            raise
        if dial.error is not None:
            raise dial.error

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """As `Role.ask`.

        Raises:
          ControlError: also when the role does not run.
        """
        reactor = self._surroundings.reactor
        if method == "alive":
            return {"seconds": await turn_seconds(reactor)}
        if self._role is None:
            raise self._not_running()
        common = RoleQuestions(self.config.name, self._role, reactor).table()
        if method in common:
            with role_context(self.config.name):
                return await answer(common, method, params)
        return await self._role.ask(method, params)

    def reload(self, config: RoleConfig, *, apply: bool) -> list[FileChange]:
        """Have the role go on with another configuration of which no more than what is live may
        differ, and use files that have changed; what has changed in them.

        Args:
          apply: else only find out.
        Raises:
          ControlError: a file cannot be used; everything stays as it is.
        """
        changes: list[FileChange] = []
        if self._role is not None:
            with role_context(self.config.name):
                try:
                    prepared = self._role.prepare(config)
                except RoleError as exc:
                    raise ControlError("failed", reason_of(exc)) from exc
                changes += prepared.changes
                if apply:
                    prepared.commit()
                    _log_changes(changes)
        if apply:
            self.config = config
        return changes

    def certificates(self) -> list[dict[str, object]]:
        """Rows of what the certificates and revocation lists in use say: ``role``, ``key`` of the
        configuration, ``file``, ``kind``, ``subject``, ``not_after`` (Unix seconds)."""
        try:
            facts = self._role.certificates() if self._role else []
        except ValueError as exc:
            log.warning("certificate is unreadable", role=self.config.name, error=str(exc))
            facts = []
        return [{"role": self.config.name, "key": key, **fact.to_map()} for key, fact in facts]

    def _not_running(self) -> ControlError:
        return ControlError(
            "failed",
            f"role {self.config.name} does not run, it is {self.status.state}",
            f"see: tunnelctl role logs {self.config.name}",
        )

    async def _keep_running(self) -> None:
        while True:
            try:
                reason = await self._run_once()
            except _CannotStartError as exc:
                log.error("role cannot start", reason=str(exc))
                self._set(RoleState.FAILED, str(exc))
                return
            if self._stop.is_set() or await self._stopped_while_backing_off(reason):
                self._set(RoleState.STOPPED)
                return
            self._set(RoleState.STARTING, restarts=self.status.restarts + 1)

    async def _stopped_while_backing_off(self, reason: str) -> bool:
        if self._ready_at is not None and trio.current_time() - self._ready_at >= LASTED:
            self._backoff.reset()
        delay = self._backoff.next_delay()
        log.warning("role failed", reason=reason, retry_in=round(delay, 3))
        self._set(RoleState.BACKOFF, reason)
        with trio.move_on_after(delay):
            await self._stop.wait()
            return True
        return False

    async def _run_once(self) -> str:
        """Run the role to its end.

        Returns:
          Why it ended, where nobody asked for it.
        Raises:
          _CannotStartError: another try would end the same.
        """
        host = Host(
            name=self.config.name,
            reactor=self._surroundings.reactor,
            state_dir=self._surroundings.state_dir,
            set_state=self._role_says,
            handover=self._surroundings.handover,
        )
        self._ready_at = None
        try:
            await self._run_role(self._make_role(host), host)
        except _CannotStartError:
            raise
        except Exception as exc:  # of the role: it ends that role alone
            if not _is_expected(exc):
                log.exception("role crashed")
            return reason_of(exc)
        return "it ended by itself"

    def _make_role(self, host: Host) -> Role:
        try:
            return self._factory(self.config, host)
        except RoleError as exc:
            raise _CannotStartError(reason_of(exc)) from exc

    async def _run_role(self, role: Role, host: Host) -> None:
        self._role = role
        try:
            async with trio.open_nursery() as nursery:
                self._dials = nursery
                nursery.start_soon(self._drain_when_told, host, nursery.cancel_scope)
                await role.run(_Started(self._started))
                nursery.cancel_scope.cancel()
        finally:
            self._role = self._dials = None

    async def _drain_when_told(self, host: Host, role: trio.CancelScope) -> None:
        await self._stop.wait()
        patience = self._patience
        host.patient = patience is not None
        timeout = drain_timeout(self.config) if patience is None else patience
        role.deadline = trio.current_time() + timeout
        self._set(RoleState.DRAINING)
        host.drain.set()

    def _started(self, addresses: list[str]) -> None:
        self._ready_at = trio.current_time()
        log.info("role started", addresses=", ".join(addresses))
        if not self._stop.is_set():
            self._set(RoleState.READY, addresses=tuple(addresses))

    def _role_says(self, state: RoleState, reason: str) -> None:
        """A draining role stays draining, whatever it thinks of itself."""
        if not self._stop.is_set():
            self._set(state, reason, addresses=self.status.addresses)

    def _set(
        self,
        state: RoleState,
        reason: str = "",
        addresses: tuple[str, ...] = (),
        restarts: int | None = None,
    ) -> None:
        restarts = self.status.restarts if restarts is None else restarts
        since = self.status.since if state is self.status.state else time.time()
        self.status = RoleStatus(state, reason, since, restarts, addresses)
        self._surroundings.report(self.config.name, self.status)


class _CannotStartError(Exception):
    """The role's constructor refused its configuration."""


class _Started(trio.TaskStatus[list[str]]):
    """What a role tells when it is ready."""

    def __init__(self, ready: Callable[[list[str]], None]) -> None:
        self._ready = ready

    def started(self, value: list[str] | None = None) -> None:
        self._ready(value or [])


def _log_changes(changes: Sequence[FileChange]) -> None:
    for change in changes:
        log.info("file reloaded", key=change.field, old=change.old, new=change.new)


def drain_timeout(config: RoleConfig) -> float:
    """Seconds that the role gets to finish what it does."""
    if isinstance(config, ServerConfig | AgentConfig):
        return config.drain_timeout
    return DRAIN_TIMEOUT


def _is_expected(exc: BaseException) -> bool:
    """Whether the error belongs to life on a network, and needs no traceback."""
    if isinstance(exc, BaseExceptionGroup):
        return all(_is_expected(each) for each in exc.exceptions)
    return isinstance(exc, RoleError | OSError)
