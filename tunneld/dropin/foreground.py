"""One role in the foreground: its data plane, the signals that stop it, and HTTP for operators."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio

from tunneld.dropin.program import StartError
from tunneld.reactor import Reactor
from tunneld.role import Host, Role, RoleError, RoleState
from tunneld.rolestatus import reason_of

if TYPE_CHECKING:
    from tunneld.adminhttp import Routes

log = structlog.get_logger(__name__)

GOODBYE = 0.2
"""Seconds to part from peers in good order, even if connections may not go on at all."""


@dataclass(slots=True)
class Signals:
    """SIGTERM and SIGINT, which count alike."""

    first: trio.Event = field(default_factory=trio.Event)
    second: trio.Event = field(default_factory=trio.Event)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take them until cancelled; what comes after the second changes nothing."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                log.info("signal received", signal=signal.Signals(number).name)
                (self.second if self.first.is_set() else self.first).set()


@asynccontextmanager
async def open_host(name: str) -> AsyncIterator[Host]:
    """What a role of this process needs; its data plane runs while the block does."""
    reactor = Reactor()
    host = Host(name=name, reactor=reactor, state_dir=Path.cwd(), set_state=_log_state)
    try:
        async with trio.open_nursery() as plane:
            await plane.start(reactor.run)
            yield host
            plane.cancel_scope.cancel()
    finally:
        reactor.close()


def _log_state(state: RoleState, reason: str) -> None:
    log.debug("role's state changed", state=state, reason=reason)


async def cancel_at(event: trio.Event, scope: trio.CancelScope) -> None:
    """Cancel ``scope`` once ``event`` is set."""
    await event.wait()
    scope.cancel()


async def run_role(
    role: Role,
    host: Host,
    stop: trio.Event,
    drain_timeout: float,
    failure: str,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run ``role`` until it is done; when ``stop`` is set, it is drained.

    Args:
      drain_timeout: seconds that connections may go on; may be infinite.
      failure: begins the text of an error.
    Raises:
      StartError: the role cannot run.
    """
    failed: ExceptionGroup[RoleError] | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain, host, stop, drain_timeout, nursery.cancel_scope)
            await role.run(task_status)
            nursery.cancel_scope.cancel()
    except* RoleError as group:
        failed = group  # what is raised right here, the first releases of Python 3.11 wrap
    if failed is not None:
        raise StartError(f"{failure} {reason_of(failed)}") from failed


async def _drain(
    host: Host, stop: trio.Event, drain_timeout: float, role: trio.CancelScope
) -> None:
    await stop.wait()
    role.deadline = trio.current_time() + max(drain_timeout, GOODBYE)
    host.drain.set()


async def serve_operators(
    what: str, address: str, port: int, routes: "Routes", nursery: trio.Nursery
) -> None:
    """Serve ``routes`` in ``nursery``. As in konnectivity, a port that is taken is no reason not to
    run: it is logged.

    Args:
      what: the listener's name, for the log.
      address: "" for all.
    """
    # Imported here, since nothing else of the programs needs HTTP/1.1's parser.
    from tunneld.adminhttp import serve_http

    try:
        addresses = await nursery.start(serve_http, address, port, routes, trio.Event())
    except* RoleError as group:
        log.error(f"{what} server could not listen", error=reason_of(group))
    else:
        log.info(f"{what} server listens", addresses=", ".join(addresses))
