"""The daemon: one supervisor, its labs and its control socket, from start to stop."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

import structlog
import trio

from ctl.messages import ControlError
from tunneld import __version__
from tunneld import log as logging
from tunneld.claiming import claim, no_access
from tunneld.config import Config, ServerConfig, processes_of
from tunneld.configcheck import listeners_of
from tunneld.control import ControlServer
from tunneld.eventlog import EventLog
from tunneld.events import Event, emit
from tunneld.expiry import watch_expiry
from tunneld.handover import Handover
from tunneld.health import Health
from tunneld.inherited import UNIX, inherited
from tunneld.labs import open_labs
from tunneld.limits import give_memory_back, raise_limit
from tunneld.lockfile import LockFile
from tunneld.log import Sink
from tunneld.logbook import LogBook, LogRecord
from tunneld.logfile import LogFile, Output, render, render_json
from tunneld.methods import Facts, Methods
from tunneld.namespaces import way_into
from tunneld.notify import Notifier
from tunneld.openlisteners import open_listeners
from tunneld.places import LABS, LOG_FILE
from tunneld.reloader import Reloader
from tunneld.reloading import Hangups, reload_on_change, reload_on_hangup
from tunneld.role import RoleError, RoleState
from tunneld.rolerunner import drain_timeout
from tunneld.roster import Entry, Roster
from tunneld.scrape import Scrape
from tunneld.session import buffers
from tunneld.settings import Settings, StartError
from tunneld.supervisor import Supervisor, open_supervisor
from tunneld.takeover import Takeover
from tunneld.upgrade import Belongings, Upgrade
from tunneld.viewmethods import ViewMethods
from tunneld.workplace import WORKER, Premises

log = structlog.get_logger(__name__)

STOP_MARGIN = 10.0
"""Seconds to end beyond the longest drain timeout."""
START_WAIT = 0.5
"""Seconds that a start waits for the roles, to tell which of them are not well; an agent whose
server does not answer is no reason to hold up the machine's boot."""


Ready = Callable[[Sequence[str]], None]
"""Called once the daemon can be talked to; with a line for each role that is not well."""


def run(settings: Settings, ready: Ready) -> None:
    """Run a daemon until it is told to stop.

    Raises:
      StartError: it cannot start, and nothing has happened.
    """
    raise_limit()
    give_memory_back()
    buffers.resize(settings.config.buffer_memory)
    with ExitStack() as stack:
        belongings = claim(settings, stack)
        try:
            output = _open_log(settings, stack)
        except OSError as exc:
            raise no_access(exc) from exc
        trio.run(serve, settings, belongings, output, ready)


def _open_log(settings: Settings, stack: ExitStack) -> Sink:
    """The log file; and stderr, which shows the same in the foreground."""
    stderr = 2
    file = LogFile(settings.state / LOG_FILE, descriptor=stderr if settings.detached else None)
    outputs: list[Output] = [file]
    if not settings.detached:
        stack.callback(file.close)
        outputs.append(Output(stderr))

    as_json = (settings.log_format or settings.config.log.format) == "json"
    rendered = render_json if as_json else render

    def write(role: str | None, line: LogRecord) -> None:
        text = rendered(line, role)
        for output in outputs:
            output.write(text)

    return write


async def serve(settings: Settings, belongings: Belongings, output: Sink, ready: Ready) -> None:
    """Be the daemon: roles, labs and control socket, until a signal or ``stop``.

    The first SIGTERM or SIGINT, and ``stop``, drain the roles; the second signal ends them.

    Raises:
      StartError: a daemon that was to be succeeded goes on; this one ends.
    """
    logs, events = LogBook(), EventLog()
    level = settings.config.log.level
    least = logging.threshold(level)

    def keep(role: str | None, line: LogRecord) -> None:
        events.take(role, line)
        if logging.number_of(line.level) < least:
            return
        output(role, line)
        if role is not None:
            logs.add(role, line)

    logging.configure([keep], least, quiet_events=True)
    _look_through_inherited(settings)
    roster = Roster(logs)
    premises = Premises(
        state_dir=settings.state,
        report=roster.report,
        log_line=keep,
        worker=(*WORKER, "--log-level", level),
        buffer_memory=settings.config.buffer_memory,
        handover=settings.takeover.handover if settings.takeover is not None else None,
    )
    stop = trio.Event()
    hangup = Hangups()
    async with trio.open_nursery() as daemon:
        await daemon.start(_heed_signals, stop, hangup, daemon.cancel_scope)
        log.info("daemon started", pid=os.getpid(), version=__version__)
        enter = partial(way_into, settings.state / LABS)
        async with (
            open_supervisor(premises, enter, roster) as supervisor,
            open_labs(settings.state / LABS, supervisor) as labs,
        ):
            facts = Facts(os.getpid(), settings.control, settings.state, time.time(), settings.file)
            reloader = Reloader(supervisor, settings.file, settings.config, settings.state)
            upgrade = Upgrade(belongings, supervisor, stop.set)
            health = Health(supervisor)
            scrape = Scrape(supervisor, lambda: len(reloader.problems))
            views = ViewMethods(supervisor, events, health, scrape)
            methods = Methods(facts, supervisor, labs, logs, stop.set, reloader, views, upgrade)
            server = ControlServer(methods.table(), f"tunneld {__version__}")
            async with trio.open_nursery() as control:
                sock = trio.socket.from_stdlib_socket(belongings.control)
                if settings.takeover is None:
                    await control.start(server.serve, trio.SocketListener(sock))
                supervisor.add(settings.config.role)
                if settings.takeover is None:
                    await supervisor.settled(list(roster), START_WAIT)
                else:
                    await _take_over(settings, settings.takeover, supervisor, belongings.locks)
                    await control.start(server.serve, trio.SocketListener(sock))
                admin = await _open_admin(settings.config, control, health, scrape)
                ready([*_complaints(roster), *admin])
                notifier = settings.notifier
                control.start_soon(_show_status, notifier, roster)
                await notifier.ready()
                control.start_soon(reload_on_hangup, reloader, hangup, notifier)
                control.start_soon(reload_on_change, reloader)
                control.start_soon(watch_expiry, supervisor.certificates)
                control.start_soon(notifier.watch, supervisor.alive)
                await stop.wait()
                emit(Event.DRAINING)
                if upgrade.deadline is None:
                    await notifier.stopping(_drain_patience(roster))
                    await supervisor.drain()
                control.cancel_scope.cancel()
            await supervisor.drain(upgrade.deadline)  # a successor has the control socket
        daemon.cancel_scope.cancel()
    log.info("daemon stopped")


async def _open_admin(
    config: Config, nursery: trio.Nursery, health: Health, scrape: Scrape
) -> list[str]:
    """Answer Prometheus and health checks, if that is wanted; what is wrong with it."""
    if config.admin is None:
        return []
    # Most daemons do without HTTP.
    from tunneld.adminpages import admin_routes, serve_admin

    routes = admin_routes(health, scrape)
    try:
        addresses = await nursery.start(serve_admin, config.admin.listen, routes, trio.Event())
    except RoleError as exc:
        log.error("no admin listener", error=str(exc))
        return [f"admin: {exc}"]
    log.info("admin listener is up", addresses=", ".join(addresses))
    return []


async def _take_over(
    settings: Settings, takeover: Takeover, supervisor: Supervisor, locks: Sequence[LockFile]
) -> None:
    """Have the agents of the daemon that is to be succeeded, once all is as ready as it was there;
    or whatever is ready, if that has died meanwhile.

    Raises:
      StartError: something is not.
    """
    roster = supervisor.roster
    await supervisor.settled(list(roster))
    wanting = [
        f"role {entry.name} is {entry.status.state}: {entry.status.reason or 'no reason given'}"
        for entry in roster
        if entry.name in takeover.order.ready and entry.status.state is not RoleState.READY
    ]
    if wanting and not takeover.is_alone:
        raise StartError("; ".join(wanting), "the process that runs goes on as before")
    teams = [
        entry.name
        for entry in roster
        if isinstance(entry.config, ServerConfig) and processes_of(entry.config) > 1
    ]
    for name in teams:
        takeover.handover.arrive(name)
    takeover.succeeded = partial(_own, settings, locks)
    await takeover.fetch_agents()
    async with trio.open_nursery() as nursery:
        for name in teams:
            nursery.start_soon(_open_team, name, takeover.handover, supervisor)


def _own(settings: Settings, locks: Sequence[LockFile]) -> None:
    """What was the other daemon's is ours from now on."""
    open_listeners.given_away = False
    paths = {"control": str(settings.control), "state": str(settings.state)}
    for lock in locks:
        lock.say({"pid": os.getpid(), **paths})


async def _open_team(name: str, handover: Handover, supervisor: Supervisor) -> None:
    """Have the processes of a server serve clients, whose handovers are their own."""
    try:
        await supervisor.ask(name, "open", {"agents": sorted(handover.agents(name))})
    except ControlError as exc:  # those that come in its place have no handover
        log.warning("server does not answer", role=name, error=str(exc))
    finally:
        handover.leave(name)


def _look_through_inherited(settings: Settings) -> None:
    """Close the inherited sockets that no role is about to ask for."""
    wanted = [
        listen
        for role in settings.config.role
        if role.namespace is None
        for listen, _ in listeners_of(role, role.name)
    ]
    for problem in settings.refused:
        log.warning("inherited socket refused", reason=problem)
    for each in inherited.keep_only([f"{UNIX}{settings.control}", *wanted]):
        log.warning("inherited socket closed: no role listens there", socket=each)


async def _show_status(notifier: Notifier, roster: Roster) -> None:
    """Have the service manager, if there is one, show what the roles do."""
    while notifier.address:
        shown = _summary(roster)
        await notifier.status(shown)
        await roster.wait_until(partial(_differs, roster, shown))


def _differs(roster: Roster, shown: str) -> bool:
    return _summary(roster) != shown


def _summary(roster: Roster) -> str:
    return ", ".join(_role_summary(entry) for entry in roster) or "no roles"


def _role_summary(entry: Entry) -> str:
    reason = f" ({entry.status.reason})" if entry.status.reason else ""
    return f"{entry.name}: {entry.status.state}{reason}"


def _drain_patience(roster: Roster) -> float:
    """Seconds that it takes until all roles have ended, at most."""
    return max((drain_timeout(entry.config) for entry in roster), default=0.0) + STOP_MARGIN


async def _heed_signals(
    stop: trio.Event,
    hangup: Hangups,
    everything: trio.CancelScope,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            name = signal.Signals(number).name
            if number == signal.SIGHUP:
                hangup.tell()
            elif stop.is_set():
                log.warning("daemon stops at once", signal=name)
                everything.cancel()
            else:
                log.info("signal received", signal=name)
                stop.set()


def _complaints(roster: Roster) -> list[str]:
    return [
        f"role {entry.name}: {entry.status.state}, {entry.status.reason or 'no reason given'}"
        for entry in roster
        if entry.status.state is not RoleState.READY
    ]
