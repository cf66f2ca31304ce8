"""Where the control socket and the state directory are: one rule for `tunneld` and `tunnelctl`.

An explicit option wins over the environment (`TUNNELD_CONTROL`, `TUNNELD_STATE`), which wins over
the default of the user:

    root    /run/tunneld/control.sock                        /var/lib/tunneld
    others  $XDG_RUNTIME_DIR/tunneld/control.sock, or else   $XDG_STATE_HOME/tunneld, or else
            ${TMPDIR:-/tmp}/tunneld-UID/control.sock         ~/.local/state/tunneld
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

CONTROL_VARIABLE = "TUNNELD_CONTROL"
STATE_VARIABLE = "TUNNELD_STATE"

MAX_SOCKET_PATH = 107
"""Octets of a UNIX socket's path: `sun_path` has 108, the last one is NUL (unix(7))."""


class PathError(Exception):
    """A path cannot serve: the message says what was seen, what is expected and what to do."""


def control_path(
    explicit: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    uid: int | None = None,
) -> Path:
    """Path of the control socket, absolute.

    Raises:
      PathError: it is longer than `MAX_SOCKET_PATH` octets.
    """
    uid = os.getuid() if uid is None else uid
    chosen = explicit or environ.get(CONTROL_VARIABLE)
    path = Path(chosen).absolute() if chosen else _default_control(environ, uid)
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH:
        raise PathError(
            f"control socket path of {length} octets, limit {MAX_SOCKET_PATH}: {path}; "
            f"choose a shorter one with --control or {CONTROL_VARIABLE}"
        )
    return path


def state_directory(
    explicit: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    uid: int | None = None,
) -> Path:
    """Path of the state directory (labs, certificates), absolute."""
    uid = os.getuid() if uid is None else uid
    chosen = explicit or environ.get(STATE_VARIABLE)
    if chosen:
        return Path(chosen).absolute()
    if uid == 0:
        return Path("/var/lib/tunneld")
    base = _absolute(environ.get("XDG_STATE_HOME"))
    return (base or Path(environ.get("HOME") or "~").expanduser() / ".local/state") / "tunneld"


def make_private_directory(path: Path) -> None:
    """Make ``path`` and its parents; ``path`` itself with mode 0700, and it must be ours.

    Others could otherwise prepare a directory in a shared place such as /tmp and exchange the
    socket in it.

    Raises:
      PathError: it exists and is not a directory, is not ours, or is open to others.
      OSError: it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        check_private_directory(path)


def check_private_directory(path: Path) -> None:
    """See that ``path`` is a real directory of this user that nobody else can write to.

    Raises:
      PathError: it is not.
      OSError: it cannot be looked at.
    """
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise PathError(f"{path} is not a directory; remove it or choose another place")
    if status.st_uid != os.getuid():
        raise PathError(
            f"{path} belongs to uid {status.st_uid}, expected {os.getuid()}; choose another place"
        )
    if status.st_mode & 0o022:
        mode = stat.S_IMODE(status.st_mode)
        raise PathError(f"{path} has mode {mode:04o}, others can write to it; chmod 700 {path}")


def _default_control(environ: Mapping[str, str], uid: int) -> Path:
    if uid == 0:
        return Path("/run/tunneld/control.sock")
    runtime = _absolute(environ.get("XDG_RUNTIME_DIR"))
    if runtime:
        return runtime / "tunneld/control.sock"
    temporary = _absolute(environ.get("TMPDIR")) or Path("/tmp")
    return temporary / f"tunneld-{uid}/control.sock"


def _absolute(value: str | None) -> Path | None:
    """The base directory specification has relative paths ignored."""
    return Path(value) if value and Path(value).is_absolute() else None
