"""The journal: what a lab is, on disk before the first thing of it exists.

It is one JSON file in the lab's directory, replaced as a whole. It says what *may* exist; the
marks (`netns.mark`) that everything of ours carries say what does, so one entry written before
the build is enough, and nothing is removed on the journal's word alone.
"""

import json
import os
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from netns.errors import NetnsError
from netns.mark import token_of

FILE = "journal.json"
VERSION = 1


class Mode(StrEnum):
    """Where the namespaces are: in /run/netns, or in a user namespace that a process holds."""

    ROOT = "root"
    ROOTLESS = "rootless"


class Phase(StrEnum):
    """How far the build came."""

    BUILDING = "building"
    UP = "up"


@dataclass(frozen=True, slots=True)
class Journal:
    """One lab's entry."""

    name: str
    token: str
    mode: Mode
    phase: Phase
    boot: str
    """The kernel's boot id: after another boot nothing but files can be left."""
    since: float
    """Unix time, seconds."""
    pid: int
    """The builder; rootless, the process that holds the namespaces."""
    started: int
    """When that process started, as `processes.start_time` gives it."""
    topology: dict[str, object]
    folders: tuple[str, ...] = ()
    """Directories outside of the lab's own that were missing before the build."""
    inodes: dict[str, int] = field(default_factory=dict)
    """Of the namespaces, by full name, once they are up."""

    def up(self, inodes: dict[str, int]) -> "Journal":
        """The entry of the finished build."""
        return replace(self, phase=Phase.UP, inodes=inodes)


def write_journal(directory: Path, journal: Journal) -> None:
    """Replace the entry; on return it is on disk.

    Raises:
      OSError: no space, no permission; the old entry stands.
    """
    text = json.dumps({"version": VERSION, **asdict(journal)}, indent=1)
    temporary = directory / f".{FILE}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(fd)
    temporary.replace(directory / FILE)
    _sync_directory(directory)


def read_journal(directory: Path) -> Journal | None:
    """The entry, or None if there is none.

    Raises:
      NetnsError: ``failed``: it is not ours to understand.
    """
    try:
        text = (directory / FILE).read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        values = json.loads(text)
        version = values.pop("version")
        if version != VERSION:
            raise ValueError(f"version {version}, we write {VERSION}")
        values |= {"mode": Mode(values["mode"]), "phase": Phase(values["phase"])}
        values["folders"] = tuple(values["folders"])
        journal = Journal(**values)
        if journal.token != token_of(directory):
            raise ValueError("it was written for another directory")
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise NetnsError(
            "failed",
            f"{directory / FILE} is damaged: {exc}",
            "remove that file; `down` then finds what is left by the marks in the kernel",
        ) from exc
    return journal


def remove_journal(directory: Path) -> None:
    """Forget the lab; harmless when there is none."""
    for name in (f".{FILE}", FILE):
        (directory / name).unlink(missing_ok=True)


def boot_id() -> str:
    """Of the running kernel."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
