"""Removes a lab, whoever built it and wherever he died: `python -m netns.teardown DIRECTORY`.

What is removed is decided by marks (`netns.mark`), not by the journal's word: something of the
same name that somebody else made stays. Without a journal the marks alone are looked for.
"""

import sys
from contextlib import ExitStack
from pathlib import Path

from netns import folders, program
from netns.argv import down_argv
from netns.errors import NetnsError
from netns.journal import Journal, Mode, boot_id, read_journal, remove_journal
from netns.lab import full_name
from netns.lock import lock_directory
from netns.mark import token_of
from netns.permission import choose_mode
from netns.places import ETC, HELD, NAMED
from netns.processes import end_process, end_processes, processes_inside
from netns.program import Report
from netns.resolv import remove_resolv_conf
from netns.spaces import remove_space
from netns.topology_map import parse_topology

PATIENCE = 10.0
"""Seconds to wait for another build or teardown; each takes less than one."""


def tear_down(directory: Path, report: Report = lambda item: None) -> None:
    """Remove all that is left of the lab of ``directory``; blocks for about 0.3 s.

    Processes inside of its namespaces are ended first. Twice is harmless. Runs the program of
    `down_argv`; use that where blocking is out of the question.

    Args:
      report: takes the items ``{"step", "state", "detail"}``.
    Raises:
      NetnsError: ``busy``, ``forbidden`` or ``failed``; what could be removed is.
    """
    program.call(down_argv(directory), report)


def clear_lab(directory: Path, report: Report) -> None:
    """End the processes inside and remove the lab. The caller holds the directory's lock."""
    _end_processes(token_of(directory), report)
    if choose_mode() is Mode.ROOT:
        with lock_directory(NAMED.parent, PATIENCE, "another lab that is built or removed"):
            remove_lab(directory, report)
    else:
        remove_lab(directory, report)


def remove_lab(directory: Path, report: Report) -> None:
    """Remove namespaces, files and the journal.

    The caller holds the locks of the directory and, as root, of that above /run/netns.

    Raises:
      NetnsError: ``forbidden``: root built it, we are not root.
    """
    journal = _journal_or_none(directory)
    mode = choose_mode()
    if journal is not None and journal.mode is Mode.ROOT and mode is not Mode.ROOT:
        raise NetnsError("forbidden", f"root built the lab {journal.name!r}", "run this as root")
    if mode is Mode.ROOT and (journal is None or journal.mode is Mode.ROOT):
        _remove_named(token_of(directory), journal, report)
    if journal is not None and journal.mode is Mode.ROOTLESS:
        for name in _names(journal):
            report({"step": f"namespace {name}", "state": "done", "detail": "gone with its holder"})
    held = directory / HELD
    if held.exists():
        held.rmdir()
    remove_journal(directory)


def _remove_named(token: str, journal: Journal | None, report: Report) -> None:
    ours = () if journal is None else journal.folders
    for name in _names(journal):
        _remove_one(name, token, ours, report)
    for folder in (ETC, NAMED):
        folders.remove(folder, str(folder) in ours)


def _names(journal: Journal | None) -> list[str]:
    if journal is not None:
        topology = parse_topology(journal.topology)
        return [full_name(journal.name, namespace.name) for namespace in topology.namespaces]
    found = [path.name for place in (NAMED, ETC) if place.is_dir() for path in place.iterdir()]
    return sorted(set(found))


def _remove_one(name: str, token: str, ours: tuple[str, ...], report: Report) -> None:
    before = (NAMED / name).exists()
    etc = ETC / name
    gone = remove_space(NAMED / name, token)
    gone = remove_resolv_conf(etc, token, str(etc) in ours) and gone
    if not gone:
        state, detail = "skip", "left alone: this lab did not make it"
    elif before:
        state, detail = "done", "removed"
    else:
        state, detail = "skip", "not there"
    report({"step": f"namespace {name}", "state": state, "detail": detail})


def _journal_or_none(directory: Path) -> Journal | None:
    try:
        return read_journal(directory)
    except NetnsError:
        return None  # damaged; the marks tell what is ours


def _end_processes(token: str, report: Report) -> None:
    inside = processes_inside(token)
    if inside:
        names = ", ".join(f"{process.command} ({process.pid})" for process in inside)
        report({"step": "processes", "state": "start", "detail": f"end {names}"})
        end_processes(process.pid for process in inside)
        report({"step": "processes", "state": "done", "detail": f"ended {names}"})


def _end_builder(directory: Path, report: Report) -> None:
    """End the lab's builder or holder, if it still runs: it has the lock."""
    journal = _journal_or_none(directory)
    if journal is None:
        # Then we do not know its number, but it is inside of the last namespace that it made.
        _end_processes(token_of(directory), report)
    elif journal.boot == boot_id():
        end_process(journal.pid, journal.started)


def _run(directory: Path) -> None:
    directory = directory.resolve()
    with ExitStack() as stack:
        if directory.is_dir():
            _end_builder(directory, program.emit_item)
            stack.enter_context(
                lock_directory(directory, PATIENCE, "another process that works on this lab")
            )
        clear_lab(directory, program.emit_item)
    program.emit("result", {})


if __name__ == "__main__":
    sys.exit(program.main(_run, sys.argv[1:]))
