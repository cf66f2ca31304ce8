"""Names of the daemon's own files."""

from pathlib import Path

LOG_FILE = "tunneld.log"
LABS = "labs"
_LOCK_FILE = "tunneld.pid"


def lock_paths(control: Path, state: Path) -> tuple[Path, Path]:
    """The lock files of a daemon: one for its state directory, one for its socket."""
    return state / _LOCK_FILE, socket_lock_path(control)


def socket_lock_path(control: Path) -> Path:
    """The lock file that belongs to a control socket."""
    return control.with_name(f"{control.name}.pid")
