"""What a dead daemon has left: labs, the control socket, lock files. Needs no daemon."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from ctl.messages import ControlError, Message
from ctl.paths import PathError
from netns import NetnsError, tear_down
from netns.validation import check_lab_name
from tunneld.lockfile import lock_holder
from tunneld.namespaces import control_error
from tunneld.places import LABS, lock_paths
from tunneld.socketfile import SocketInUseError, remove_stale_socket


def clean_up(control: Path, state: Path, name: str | None, report: Callable[[str], None]) -> int:
    """Remove a lab, or all, and the stale socket and lock files; how many things were removed.

    Args:
      report: takes a line about each.
    Raises:
      ControlError: a daemon runs, or something cannot be removed.
    """
    _refuse_with_daemon(control, state)
    removed = 0
    for lab in [name] if name else _labs(state):
        for line in _remove_lab(state / LABS / lab):
            report(f"lab {lab}: {line}")
            removed += 1
    for line in _remove_files(control, state):
        report(line)
        removed += 1
    return removed


def _refuse_with_daemon(control: Path, state: Path) -> None:
    for path in lock_paths(control, state):
        try:
            holder = lock_holder(path)
        except OSError as exc:
            raise ControlError("failed", f"cannot read {path}: {exc.strerror}") from exc
        if holder is not None:
            raise ControlError(
                "busy",
                f"tunneld runs: pid {holder.get('pid')}, control socket {holder.get('control')}",
                "use it: tunnelctl ns down; or stop it first: tunneld stop",
            )


def _labs(state: Path) -> list[str]:
    directory = state / LABS
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


def _remove_lab(directory: Path) -> Iterator[str]:
    done: list[Message] = []
    try:
        check_lab_name(directory.name)
        tear_down(directory, lambda item: done.append(item))
    except NetnsError as exc:
        raise control_error(exc) from exc
    for item in done:
        if item.get("state") == "done":
            yield f"{item.get('step')}: {item.get('detail')}"
    if directory.exists():
        shutil.rmtree(directory)
        yield f"{directory} removed"


def _remove_files(control: Path, state: Path) -> Iterator[str]:
    try:
        if remove_stale_socket(control):
            yield f"{control} removed"
    except (PathError, SocketInUseError) as exc:
        raise ControlError("failed", str(exc)) from exc
    for path in lock_paths(control, state):
        if path.exists():
            path.unlink()
            yield f"{path} removed"
