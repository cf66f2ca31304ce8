"""A role's new configuration before it takes effect: what would change, and how to go through with
it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file whose contents have changed."""

    field: str
    """Where the configuration names it: ``tunnel.cert``."""
    old: str
    new: str
    """What it said and says, for people; never a secret."""

    def to_map(self) -> dict[str, str]:
        """As a worker tells it to its supervisor."""
        changes: dict[str, str] = msgspec.to_builtins(self)
        return changes


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that can fail is done: the new files are read, and found good."""

    changes: Sequence[FileChange]
    commit: Callable[[], None]
    """Make it so, at once and without fail."""
