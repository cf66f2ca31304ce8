"""The roles of one process, and the data plane they share."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from ctl.messages import ControlError
from tunneld.config import RoleConfig
from tunneld.factories import Factories
from tunneld.handover import Handover
from tunneld.localdial import Accept
from tunneld.prepared import FileChange
from tunneld.reactor import Reactor
from tunneld.rolerunner import Report, RoleRunner, Surroundings

Row = dict[str, Any]


class RoleGroup:
    """Roles as tasks of ``nursery``; made by `open_role_group`."""

    def __init__(
        self, factories: Factories, surroundings: Surroundings, nursery: trio.Nursery
    ) -> None:
        self._factories = factories
        self._surroundings = surroundings
        self._nursery = nursery
        self._runners: dict[str, RoleRunner] = {}

    def start(self, config: RoleConfig) -> None:
        """Start a role, unless one of that name runs."""
        runner = self._runners.get(config.name)
        if runner is not None and not runner.finished.is_set():
            return
        runner = RoleRunner(config, self._factories[type(config)], self._surroundings)
        self._runners[config.name] = runner
        self._nursery.start_soon(runner.run)

    async def stop(self, name: str, timeout: float | None = None) -> None:
        """Drain a role and wait for its end; it is then forgotten. Harmless if there is none.

        When cancelled, the role goes on to drain.
        Args:
          timeout: as `RoleRunner.stop`.
        """
        runner = self._runners.get(name)
        if runner is not None:
            runner.stop(timeout)
            await runner.finished.wait()
            if self._runners.get(name) is runner:
                del self._runners[name]

    async def alive(self) -> None:
        """Return once the data plane has served a turn."""
        pulse = _Pulse()
        self._surroundings.reactor.call_next_turn(pulse, pulse.felt.set)
        await pulse.felt.wait()

    def certificates(self) -> list[Row]:
        """As `RoleRunner.certificates`, of all roles."""
        return [row for runner in self._runners.values() for row in runner.certificates()]

    def reload(self, config: RoleConfig, *, apply: bool) -> list[FileChange]:
        """As `RoleRunner.reload`.

        Raises:
          ControlError: a file cannot be used.
        """
        runner = self._runners.get(config.name)
        return [] if runner is None else runner.reload(config, apply=apply)

    async def ask(self, name: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """As `RoleRunner.ask`.

        Raises:
          ControlError: also when there is no such role.
        """
        runner = self._runners.get(name)
        if runner is None:
            raise _not_here(name)
        return await runner.ask(method, params)

    async def dial(
        self, name: str, sock: socket.socket, host: str, port: int, accept: Accept
    ) -> None:
        """As `RoleRunner.dial`.

        Raises:
          ControlError: the dial failed, or there is no such role; ``sock`` is closed.
        """
        runner = self._runners.get(name)
        if runner is None:
            sock.close()
            raise _not_here(name)
        await runner.dial(sock, host, port, accept)


def _not_here(name: str) -> ControlError:
    return ControlError("failed", f"role {name} does not run", "see: tunnelctl role list")


class _Pulse:
    """A unit whose one action cannot fail."""

    def __init__(self) -> None:
        self.felt = trio.Event()

    def fail(self, error: Exception) -> None:
        raise error


@asynccontextmanager
async def open_role_group(
    factories: Factories, state_dir: Path, report: Report, handover: Handover | None = None
) -> AsyncIterator[RoleGroup]:
    """Run the data plane, and a group on it; in the end all roles are cancelled."""
    reactor = Reactor()
    try:
        async with trio.open_nursery() as plane:
            await plane.start(reactor.run)
            async with trio.open_nursery() as roles:
                yield RoleGroup(
                    factories, Surroundings(reactor, state_dir, report, handover), roles
                )
                roles.cancel_scope.cancel()
            plane.cancel_scope.cancel()
    finally:
        reactor.close()
