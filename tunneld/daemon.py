"""The daemon: one supervisor, its labs and its control socket, from start to stop."""

import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog
import trio

from ctl.paths import PathError, make_private_directory
from tunneld import __version__
from tunneld import log as logging
from tunneld.config import Config
from tunneld.control import ControlServer
from tunneld.labs import open_labs
from tunneld.limits import give_memory_back, raise_limit
from tunneld.lockfile import LockFile, LockHeldError
from tunneld.log import Sink
from tunneld.logbook import LogBook, LogRecord
from tunneld.logfile import LogFile, Output, render
from tunneld.methods import Facts, Methods
from tunneld.namespaces import way_into
from tunneld.places import LABS, LOG_FILE, lock_paths
from tunneld.role import RoleState
from tunneld.roster import Roster
from tunneld.socketfile import SocketInUseError, control_socket, prepare_directory
from tunneld.supervisor import open_supervisor
from tunneld.workplace import Premises

log = structlog.get_logger(__name__)

START_WAIT = 0.5
"""Seconds that a start waits for the roles, to tell which of them are not well; an agent whose
server does not answer is no reason to hold up the machine's boot."""


class StartError(Exception):
    """The daemon cannot start; the message says why, ``hint`` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Settings:
    """What a daemon is started with."""

    control: Path
    state: Path
    config: Config = field(default_factory=Config)
    detached: bool = False
    """Whether stderr shall be the log file, not a copy of it."""


Ready = Callable[[Sequence[str]], None]
"""Called once the daemon can be talked to; with a line for each role that is not well."""


def run(settings: Settings, ready: Ready) -> None:
    """Run a daemon until it is told to stop.

    Raises:
      StartError: it cannot start, and nothing has happened.
    """
    raise_limit()
    give_memory_back()
    with ExitStack() as stack:
        try:
            sock = _claim(settings, stack)
            output = _open_log(settings, stack)
        except LockHeldError as exc:
            raise _already_runs(exc) from exc
        except (PathError, SocketInUseError) as exc:
            raise StartError(str(exc), "choose another place with --control or --state") from exc
        except OSError as exc:
            raise _no_access(exc) from exc
        trio.run(serve, settings, sock, output, ready)


def _claim(settings: Settings, stack: ExitStack) -> socket.socket:
    """Take the locks and the socket of this daemon; ``stack`` gives them up."""
    paths = {"control": str(settings.control), "state": str(settings.state)}
    make_private_directory(settings.state)
    prepare_directory(settings.control.parent)
    for path in lock_paths(settings.control, settings.state):
        lock = LockFile.acquire(path, {"pid": os.getpid(), **paths})
        stack.callback(lock.release)
    return stack.enter_context(control_socket(settings.control))


def _open_log(settings: Settings, stack: ExitStack) -> Sink:
    """The log file; and stderr, which shows the same in the foreground."""
    stderr = 2
    file = LogFile(settings.state / LOG_FILE, descriptor=stderr if settings.detached else None)
    outputs: list[Output] = [file]
    if not settings.detached:
        stack.callback(file.close)
        outputs.append(Output(stderr))

    def write(role: str | None, line: LogRecord) -> None:
        text = render(line, role)
        for output in outputs:
            output.write(text)

    return write


def _already_runs(exc: LockHeldError) -> StartError:
    holder = exc.holder
    pid, control = holder.get("pid", "unknown"), holder.get("control", "unknown")
    return StartError(
        f"tunneld already runs: pid {pid}, control socket {control}",
        "stop it first with: tunneld stop; or give the new one a --control and --state of its own",
    )


def _no_access(exc: OSError) -> StartError:
    return StartError(
        f"cannot use {exc.filename or 'the control socket'}: {exc.strerror}",
        "choose another place with --control or --state",
    )


async def serve(settings: Settings, sock: socket.socket, output: Sink, ready: Ready) -> None:
    """Be the daemon: roles, labs and control socket, until a signal or ``stop``.

    The first SIGTERM or SIGINT, and ``stop``, drain the roles; the second signal ends them.
    """
    logs = LogBook()

    def keep(role: str | None, line: LogRecord) -> None:
        output(role, line)
        if role is not None:
            logs.add(role, line)

    logging.configure([keep])
    roster = Roster(logs)
    premises = Premises(state_dir=settings.state, report=roster.report, log_line=keep)
    stop = trio.Event()
    async with trio.open_nursery() as daemon:
        await daemon.start(_heed_signals, stop, daemon.cancel_scope)
        log.info("daemon started", pid=os.getpid(), version=__version__)
        enter = partial(way_into, settings.state / LABS)
        async with (
            open_supervisor(premises, enter, roster) as supervisor,
            open_labs(settings.state / LABS, supervisor) as labs,
        ):
            facts = Facts(os.getpid(), settings.control, settings.state, time.time())
            methods = Methods(facts, supervisor, labs, logs, stop.set)
            server = ControlServer(methods.table(), f"tunneld {__version__}")
            async with trio.open_nursery() as control:
                listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
                await control.start(server.serve, listener)
                supervisor.add(settings.config.role)
                await supervisor.settled(list(roster), START_WAIT)
                ready(_complaints(roster))
                await stop.wait()
                log.info("daemon drains")
                await supervisor.drain()
                control.cancel_scope.cancel()
        daemon.cancel_scope.cancel()
    log.info("daemon stopped")


async def _heed_signals(
    stop: trio.Event,
    everything: trio.CancelScope,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            name = signal.Signals(number).name
            if number == signal.SIGHUP:
                log.info("signal ignored: reloading is not supported, restart instead", signal=name)
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
