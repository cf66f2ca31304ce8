"""A lab as it stands: what its journal says, held against what the kernel says."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from netns import places
from netns.errors import NetnsError
from netns.journal import Journal, Mode, Phase, boot_id, read_journal
from netns.lock import is_locked
from netns.topology import Topology
from netns.topology_map import parse_topology
from netns.validation import check_lab_name

DEFAULT_LAB = "demo"
"""The lab whose namespaces have no prefix."""


class LabState(StrEnum):
    """Of a lab that has a journal."""

    BUILDING = "building"
    UP = "up"
    BROKEN = "broken"
    """Not all there: its builder or holder died, somebody removed parts, or the host rebooted."""


@dataclass(frozen=True, slots=True)
class LabNamespace:
    """One namespace of a lab."""

    name: str
    """In the topology."""
    full_name: str
    """On the machine."""
    path: str
    """The file it is mounted on; rootless, as seen by the holder."""
    etc: str
    """The directory with its resolv.conf; rootless, as seen by the holder."""
    addresses: tuple[str, ...]
    """With prefix lengths."""


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that has a journal."""

    name: str
    directory: Path
    mode: Mode
    state: LabState
    since: float
    """Unix time, seconds, when its build began."""
    pid: int
    """The builder; rootless, the holder."""
    topology: Topology
    namespaces: tuple[LabNamespace, ...]

    def namespace(self, name: str) -> LabNamespace:
        """By full name or, where that is not taken, by the topology's name.

        Raises:
          NetnsError: ``not_found``.
        """
        for known in ("full_name", "name"):
            for namespace in self.namespaces:
                if getattr(namespace, known) == name:
                    return namespace
        raise NetnsError(
            "not_found",
            f"no namespace {name!r} in the lab {self.name!r}",
            f"there are: {', '.join(space.full_name for space in self.namespaces)}",
        )


def full_name(lab: str, namespace: str) -> str:
    """The name on the machine of a lab's namespace: ``public``, or ``X-public`` in a lab X."""
    return namespace if lab == DEFAULT_LAB else f"{lab}-{namespace}"


def read_lab(directory: Path) -> Lab | None:
    """The lab of that directory, or None if it has no journal. Enters no namespace.

    Raises:
      NetnsError: ``failed``: the journal is damaged.
    """
    directory = directory.resolve()
    journal = read_journal(directory)
    if journal is None:
        return None
    topology = parse_topology(journal.topology)
    return Lab(
        name=journal.name,
        directory=directory,
        mode=journal.mode,
        state=_state(directory, journal),
        since=journal.since,
        pid=journal.pid,
        topology=topology,
        namespaces=_namespaces(directory, journal, topology),
    )


def list_labs(directory: Path) -> list[Lab]:
    """The labs whose directories are in ``directory``, by name. Enters no namespace.

    Raises:
      NetnsError: ``failed``: a journal is damaged.
    """
    if not directory.is_dir():
        return []
    labs = [read_lab(path) for path in sorted(directory.iterdir())]
    return [lab for lab in labs if lab is not None]


def _namespaces(directory: Path, journal: Journal, topology: Topology) -> tuple[LabNamespace, ...]:
    check_lab_name(journal.name)
    place = places.of_mode(journal.mode, directory)
    return tuple(
        LabNamespace(
            name=namespace.name,
            full_name=full_name(journal.name, namespace.name),
            path=str(place.namespace(full_name(journal.name, namespace.name))),
            etc=str(place.etc(full_name(journal.name, namespace.name))),
            addresses=tuple(str(end.address) for end in topology.ends_of(namespace.name)),
        )
        for namespace in topology.namespaces
    )


def _state(directory: Path, journal: Journal) -> LabState:
    if journal.phase is Phase.BUILDING:
        return LabState.BUILDING if is_locked(directory) else LabState.BROKEN
    # The holder of a rootless lab has the lock for as long as it lives.
    held = journal.mode is Mode.ROOTLESS and is_locked(directory)
    stands = held or (journal.mode is Mode.ROOT and _all_mounted(directory, journal))
    return LabState.UP if stands and journal.boot == boot_id() else LabState.BROKEN


def _all_mounted(directory: Path, journal: Journal) -> bool:
    place = places.of_mode(journal.mode, directory)
    return all(
        places.namespace_inode(place.namespace(name)) == inode
        for name, inode in journal.inodes.items()
    )
