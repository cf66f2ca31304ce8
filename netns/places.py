"""Where the files of a lab are."""

from dataclasses import dataclass
from pathlib import Path

from netns.journal import Mode

NAMED = Path("/run/netns")
"""Where `ip netns` keeps named namespaces."""
ETC = Path("/etc/netns")
"""Files that `ip netns exec` binds over /etc, one directory for each namespace."""
HELD = "held"
"""Directory of a rootless lab: its holder mounts a tmpfs there, outside of it is empty."""


@dataclass(frozen=True, slots=True)
class Places:
    """The directories of namespaces and of their /etc files."""

    namespaces: Path
    etc_files: Path

    def namespace(self, full_name: str) -> Path:
        """The file that a namespace is mounted on."""
        return self.namespaces / full_name

    def etc(self, full_name: str) -> Path:
        """The directory of a namespace's /etc files."""
        return self.etc_files / full_name


def of_mode(mode: Mode, directory: Path) -> Places:
    """The places of a lab with that directory; rootless, in its holder's view."""
    if mode is Mode.ROOT:
        return Places(NAMED, ETC)
    return Places(directory / HELD / "netns", directory / HELD / "etc")


def namespace_inode(path: Path) -> int | None:
    """The inode of the namespace that is mounted there, or None if none is."""
    try:
        found = path.stat()
    except OSError:
        return None
    # All namespaces of a kernel are files of one nsfs.
    return found.st_ino if found.st_dev == Path("/proc/self/ns/net").stat().st_dev else None
