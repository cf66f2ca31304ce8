"""What a demo could leave behind: found by its names and its environment, never by guessing."""

import os
from collections.abc import Iterator
from pathlib import Path

from ctl.demo_world import World

_NAMED = (Path("/run/netns"), Path("/etc/netns"))


def lab_leftovers(world: World) -> list[str]:
    """What is left of the world's lab, one line each."""
    return [*_namespaces(world.lab), *_mounts(world), *_files(world.state / "labs" / world.lab)]


def daemon_leftovers(world: World) -> list[str]:
    """What is left of the world's daemon: processes and sockets."""
    processes = [f"process {pid}: {command}" for pid, command in processes_of(world).items()]
    return [*processes, *([str(world.control)] if world.control.exists() else [])]


def processes_of(world: World) -> dict[int, str]:
    """Processes that have the world's environment, with their commands: the daemon, its workers
    and whatever they started."""
    mark = f"={world.folder}/".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or entry.name == str(os.getpid()):
            continue
        try:
            environment = (entry / "environ").read_bytes()
            command = (entry / "cmdline").read_bytes()
        except OSError:  # it has ended, or is another user's
            continue
        if mark in environment:
            found[int(entry.name)] = command.replace(b"\0", b" ").decode("utf-8", "replace")
    return found


def _namespaces(lab: str) -> Iterator[str]:
    for folder in _NAMED:
        if folder.is_dir():
            yield from (str(path) for path in folder.iterdir() if path.name.startswith(f"{lab}-"))


def _mounts(world: World) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines():
        mount_point = line.split(" ")[4]
        if mount_point.startswith(str(world.folder)) or f"/{world.lab}-" in mount_point:
            yield f"mount {mount_point}"


def _files(folder: Path) -> Iterator[str]:
    if folder.exists():
        yield str(folder)
