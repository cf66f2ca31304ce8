"""What a daemon has to itself: its control socket, and the locks that keep other daemons away."""

import os
import socket
from contextlib import ExitStack
from pathlib import Path

from ctl.paths import PathError, make_private_directory
from tunneld.accepting import address_of
from tunneld.inherited import SYSTEMD, UNIX, LentListener, inherited
from tunneld.lockfile import LockFile, LockHeldError
from tunneld.openlisteners import open_listeners
from tunneld.places import lock_paths, socket_lock_path
from tunneld.settings import Settings, StartError
from tunneld.socketfile import (
    SocketInUseError,
    control_socket,
    prepare_directory,
    remove_own_socket,
)
from tunneld.takeover import Takeover
from tunneld.upgrade import Belongings

CONTROL_NAME = "control"
"""Name of the control socket among inherited ones."""


def claim(settings: Settings, stack: ExitStack) -> Belongings:
    """Take the locks and the socket of this daemon; ``stack`` gives them up.

    Raises:
      StartError: another daemon has them, or they cannot be had.
    """
    try:
        sock, lent, locks = _claim_places(settings, stack)
    except LockHeldError as exc:
        raise _already_runs(exc) from exc
    except (PathError, SocketInUseError) as exc:
        raise StartError(str(exc), "choose another place with --control or --state") from exc
    except OSError as exc:
        raise no_access(exc) from exc
    return Belongings(
        settings.control,
        sock,
        lent,
        locks,
        settings.state,
        settings.file,
        settings.log_format,
        settings.detached,
        settings.notifier,
    )


def _claim_places(
    settings: Settings, stack: ExitStack
) -> tuple[socket.socket, bool, list[LockFile]]:
    """The control socket, whether somebody else keeps it, and the locks."""
    paths = {"control": str(settings.control), "state": str(settings.state)}
    make_private_directory(settings.state)
    if settings.takeover is not None:
        return _succeed(settings, settings.takeover, stack)
    handed = _handed_control(settings.control)
    locks = list(lock_paths(settings.control, settings.state))
    if handed is not None:  # whoever keeps it gives it to one process, and keeps its directory
        locks.remove(socket_lock_path(settings.control))
        stack.enter_context(handed)
    else:
        prepare_directory(settings.control.parent)
    held = []
    for path in locks:
        held.append(LockFile.acquire(path, {"pid": os.getpid(), **paths}))
        stack.callback(_give_up, held[-1])
    if handed is not None:
        return handed, True, held
    return stack.enter_context(control_socket(settings.control)), False, held


def _succeed(
    settings: Settings, takeover: Takeover, stack: ExitStack
) -> tuple[socket.socket, bool, list[LockFile]]:
    """The same, from the daemon that is to be succeeded; it writes who holds the locks."""
    open_listeners.given_away = True  # ours they are when all goes well
    takeover.claim()
    address = f"{UNIX}{settings.control}"
    (claimed,) = inherited.claim(address)
    lent = isinstance(claimed, LentListener)
    sock = socket.socket(fileno=claimed.detach())  # trio wants no subclass
    if not lent:
        stack.callback(_remove_control, settings.control, settings.control.lstat())
    held = [LockFile(Path(path), fd) for path, fd in takeover.order.locks.items()]
    for lock in held:
        os.set_inheritable(lock.fileno(), False)
        stack.callback(_give_up, lock)
    return sock, lent, held


def _remove_control(path: Path, made: os.stat_result) -> None:
    if not open_listeners.given_away:
        remove_own_socket(path, made)


def _give_up(lock: LockFile) -> None:
    if open_listeners.given_away:
        lock.leave()
    else:
        lock.release()


def _handed_control(path: Path) -> socket.socket | None:
    """The control socket, if this process was started with it.

    Raises:
      StartError: a socket of that name is elsewhere.
    """
    address = f"{UNIX}{path}"
    handed = inherited.claim(address) or inherited.claim(f"{SYSTEMD}{CONTROL_NAME}")
    if not handed:
        return None
    sock, where = handed[0], address_of(handed[0])
    for each in handed[1:]:
        each.close()
    if where != address:
        sock.close()
        raise StartError(
            f"the inherited socket {CONTROL_NAME!r} is at {where}, not at {address}",
            f"start with --control {path}, and ListenStream={path} in the socket unit",
        )
    return socket.socket(fileno=sock.detach())  # trio wants no subclass


def _already_runs(exc: LockHeldError) -> StartError:
    holder = exc.holder
    pid, control = holder.get("pid", "unknown"), holder.get("control", "unknown")
    return StartError(
        f"tunneld already runs: pid {pid}, control socket {control}",
        "stop it first with: tunneld stop; or give the new one a --control and --state of its own",
    )


def no_access(exc: OSError) -> StartError:
    """For a file that cannot be used."""
    return StartError(
        f"cannot use {exc.filename or 'the control socket'}: {exc.strerror}",
        "choose another place with --control or --state",
    )
