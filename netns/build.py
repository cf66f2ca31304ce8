"""Builds a lab, all of it or none: `python -m netns.build DIRECTORY`.

Reads `netns.argv.up_request` from stdin and reports as `netns.program` says. As root it makes named
namespaces and ends; else it builds inside of a user namespace and stays to hold it.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from netns import conflict, folders, kernel, places, program
from netns.errors import NetnsError
from netns.firewall import install_firewall
from netns.holder import become_holder
from netns.journal import Journal, Mode, Phase, boot_id, read_journal, remove_journal, write_journal
from netns.lab import Lab, LabState, full_name, read_lab
from netns.lifeline import Lifeline
from netns.links import add_route, make_link
from netns.lock import is_locked, lock_directory
from netns.mark import token_of
from netns.permission import choose_mode
from netns.places import ETC, HELD, NAMED, Places
from netns.processes import start_time
from netns.resolv import place_resolv_conf
from netns.spaces import Space, make_space, stands
from netns.sysctl import write_sysctls
from netns.teardown import PATIENCE, clear_lab, remove_lab
from netns.topology import Namespace, Topology
from netns.topology_map import parse_topology, topology_to_map
from netns.validation import check_lab_name

_LOOK_AGAIN = 0.2
"""Seconds after which a wait for the lab's lock looks whether its holder is ready meanwhile."""


def _run(directory: Path) -> None:
    request = program.read_request()
    lifeline = Lifeline()
    topology = parse_topology(request.get("topology"))
    name = check_lab_name(request.get("name"))
    os.umask(0o022)
    directory = directory.resolve()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chdir("/")
    with ExitStack() as stack:
        if not _locked(directory, stack) or _stands(directory):
            _settle(directory, topology)
            return
        if read_journal(directory) is not None:
            with program.step("leftovers", "of a build that did not end, or lost parts"):
                clear_lab(directory, program.emit_item)
        build = {Mode.ROOT: _build_named, Mode.ROOTLESS: _build_held}[choose_mode()]
        build(directory, name, topology, lifeline)


def _locked(directory: Path, stack: ExitStack) -> bool:
    """Get the directory's lock for as long as the stack lives.

    False if the lock is the holder's of a rootless lab that stands, or does so while we wait.
    """
    deadline = time.monotonic() + PATIENCE
    while not (is_locked(directory) and _state(directory) is LabState.UP):
        holder = lock_directory(directory, _LOOK_AGAIN, "another process that works on this lab")
        try:
            stack.enter_context(holder)
        except NetnsError:
            if time.monotonic() > deadline:
                raise
        else:
            return True
    return False


def _stands(directory: Path) -> bool:
    """Whether a named lab is all there. Of a rootless one the lock, which we have, says no."""
    lab = read_lab(directory)
    token = token_of(directory)
    return (
        lab is not None
        and lab.mode is Mode.ROOT
        and lab.state is LabState.UP
        and all(stands(Path(space.path), token, space.addresses) for space in lab.namespaces)
    )


def _state(directory: Path) -> LabState | None:
    lab = read_lab(directory)
    return None if lab is None else lab.state


def _settle(directory: Path, topology: Topology) -> None:
    """Report a lab that stands already, if it is the wanted one; roles are not its concern."""
    lab = read_lab(directory)
    journal = read_journal(directory)
    if lab is None or journal is None:
        raise NetnsError("busy", f"the lab of {directory} was removed just now", "try again")
    if replace(lab.topology, roles=()) != replace(topology, roles=()):
        raise NetnsError(
            "exists",
            f"the lab {lab.name!r} is up with another topology",
            "take it down first, or give this one another name",
        )
    if lab.topology != topology:
        write_journal(directory, replace(journal, topology=topology_to_map(topology)))
    for space in lab.namespaces:
        program.skip(f"namespace {space.full_name}", "is up")
    _report_result(lab)


def _build_named(directory: Path, name: str, topology: Topology, lifeline: Lifeline) -> None:
    with lock_directory(NAMED.parent, PATIENCE, "another lab that is built or removed"):
        names = [full_name(name, namespace.name) for namespace in topology.namespaces]
        conflict.refuse(names)
        missing = folders.missing([NAMED, ETC, *(ETC / space for space in names)])
        journal = _journal(directory, name, topology, Mode.ROOT, missing)
        with _all_or_none(directory, journal):
            folders.make(NAMED)
            folders.share(NAMED)
            folders.make(ETC)
            write_journal(directory, journal.up(_construct(directory, journal, topology, lifeline)))
    _report_result(_lab(directory))


def _build_held(directory: Path, name: str, topology: Topology, lifeline: Lifeline) -> None:
    held = directory / HELD
    journal = _journal(directory, name, topology, Mode.ROOTLESS, ())
    with _all_or_none(directory, journal):
        held.mkdir(mode=0o700, exist_ok=True)
        with program.step("user namespace", "no root here: build inside of one"):
            become_holder(held)
        place = places.of_mode(Mode.ROOTLESS, directory)
        place.namespaces.mkdir()
        place.etc_files.mkdir()
        write_journal(directory, journal.up(_construct(directory, journal, topology, lifeline)))
    _report_result(_lab(directory))
    lifeline.wait()


def _journal(
    directory: Path, name: str, topology: Topology, mode: Mode, missing: tuple[str, ...]
) -> Journal:
    return Journal(
        name=name,
        token=token_of(directory),
        mode=mode,
        phase=Phase.BUILDING,
        boot=boot_id(),
        since=time.time(),
        pid=os.getpid(),
        started=start_time(os.getpid()),
        topology=topology_to_map(topology),
        folders=missing,
    )


@contextmanager
def _all_or_none(directory: Path, journal: Journal) -> Iterator[None]:
    """Journal first; take everything back when the body fails."""
    write_journal(directory, journal)
    try:
        yield
    except BaseException:
        if journal.mode is Mode.ROOT:
            remove_lab(directory, program.emit_item)
        else:
            _forget_held(directory)
        raise


def _forget_held(directory: Path) -> None:
    """The namespaces go with our process; the directory does so once nothing is mounted on it."""
    held = directory / HELD
    if folders.is_mount_point(held):
        kernel.umount(str(held), kernel.MNT_DETACH)
    held.rmdir()
    remove_journal(directory)


def _construct(
    directory: Path, journal: Journal, topology: Topology, lifeline: Lifeline
) -> dict[str, int]:
    """Build it all; the inodes of the namespaces by full name."""
    place = places.of_mode(journal.mode, directory)
    with ExitStack() as stack:
        spaces = {}
        for namespace in topology.namespaces:
            name = full_name(journal.name, namespace.name)
            with _step(lifeline, f"namespace {name}", _addresses(topology, namespace)):
                space = _make_space(namespace, name, place, journal)
                stack.callback(space.close)
                spaces[namespace.name] = space
        _furnish(spaces, topology, lifeline)
        return {space.full_name: os.fstat(space.fd).st_ino for space in spaces.values()}


def _make_space(namespace: Namespace, name: str, place: Places, journal: Journal) -> Space:
    space = make_space(namespace, name, place.namespace(name), journal.name, journal.token)
    try:
        write_sysctls(namespace)
        place_resolv_conf(namespace, place.etc(name), journal.name, journal.token)
    except BaseException:
        space.close()
        raise
    return space


def _furnish(spaces: dict[str, Space], topology: Topology, lifeline: Lifeline) -> None:
    """Firewalls before links, so that a router never forwards what it should not."""
    for space in spaces.values():
        if space.namespace.firewall is not None:
            with _step(lifeline, f"firewall of {space.full_name}"):
                kernel.setns(space.fd, kernel.CLONE_NEWNET)
                install_firewall(space.full_name, space.namespace.firewall)
    for link in topology.links:
        with _step(lifeline, f"link {link.title}", str(link.ends[0].address.network)):
            make_link(link, spaces)
    for space in spaces.values():
        if space.namespace.routes:
            with _step(lifeline, f"routes of {space.full_name}"):
                for route in space.namespace.routes:
                    add_route(space, route)


@contextmanager
def _step(lifeline: Lifeline, title: str, detail: str = "") -> Iterator[None]:
    if lifeline.is_cut():
        raise NetnsError("failed", f"told to stop before the step {title!r}; nothing is left")
    with program.step(title, detail):
        yield


def _addresses(topology: Topology, namespace: Namespace) -> str:
    return ", ".join(str(end.address) for end in topology.ends_of(namespace.name))


def _lab(directory: Path) -> Lab:
    lab = read_lab(directory)
    assert lab is not None, "we have just written its journal"
    return lab


def _report_result(lab: Lab) -> None:
    spaces = [
        {"name": space.full_name, "addresses": list(space.addresses)} for space in lab.namespaces
    ]
    result = {"name": lab.name, "mode": lab.mode.value, "pid": lab.pid, "namespaces": spaces}
    program.emit("result", result)


if __name__ == "__main__":
    sys.exit(program.main(_run, sys.argv[1:]))
