"""Tells when files change, by looking at them: it works for whatever directory they are in, for
files that are replaced, and for directories behind symbolic links that are, as Kubernetes does it
with secrets."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import trio

INTERVAL = 1.0
"""Seconds between two looks. A change counts when it is still the same at the next look: whoever
writes several files, or a long one, is then through with it."""

Files: TypeAlias = Mapping[str, Iterable[str]]
"""Paths, by whose they are."""
_Print: TypeAlias = tuple[int, int, int, int] | None
"""Of a file: device, inode, size, time of the last change in nanoseconds; None if there is none."""


@dataclass(slots=True)
class _State:
    known: dict[str, _Print] = field(default_factory=dict)
    """What was told of last."""
    seen: dict[str, _Print] = field(default_factory=dict)
    """At the last look."""


class FileWatch:
    """Looks at files that belong to somebody each."""

    def __init__(self, files: Callable[[], Files]) -> None:
        self._files = files
        self._states: dict[str, _State] = {}

    async def next_change(self) -> set[str]:
        """Wait until files of some have changed; whose. Those that come anew count as changed once:
        nobody knows what became of their files before."""
        while True:
            files = {owner: list(paths) for owner, paths in self._files().items()}
            prints = await trio.to_thread.run_sync(_look_at, files)
            if changed := self._compare(prints):
                return changed
            await trio.sleep(INTERVAL)

    def _compare(self, prints: dict[str, dict[str, _Print]]) -> set[str]:
        changed = set()
        for owner, now in prints.items():
            state = self._states.setdefault(owner, _State())
            if now == state.seen != state.known:
                state.known = now
                changed.add(owner)
            state.seen = now
        for owner in self._states.keys() - prints.keys():
            del self._states[owner]
        return changed


def _look_at(files: dict[str, list[str]]) -> dict[str, dict[str, _Print]]:
    return {owner: {path: _print_of(path) for path in paths} for owner, paths in files.items()}


def _print_of(path: str) -> _Print:
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
