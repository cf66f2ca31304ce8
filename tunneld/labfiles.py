"""The labs' directories: where each lab is on disk, and what its files and the kernel say of it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog
import trio

from ctl.messages import ControlError, Message
from netns import Lab, LabState, NetnsError, read_lab
from netns.journal import FILE as JOURNAL
from tunneld.namespaces import control_error

log = structlog.get_logger(__name__)


class LabFiles:
    """All labs under one directory, which need not exist."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, name: str) -> Path:
        """The directory of a lab."""
        return self.directory / name

    def pki(self, name: str) -> Path:
        """The directory of a lab's certificates."""
        return self.path(name) / "pki"

    def lab(self, name: str) -> Lab:
        """A lab that has a journal.

        Raises:
          ControlError: ``not_found``, or its journal is damaged.
        """
        try:
            lab = read_lab(self.path(name))
        except NetnsError as exc:
            raise control_error(exc) from exc
        if lab is None:
            raise self.no_lab(name)
        return lab

    def stands(self, name: str) -> bool:
        """Whether the lab is up, all of it."""
        try:
            lab = read_lab(self.path(name))
        except NetnsError:
            return False
        return lab is not None and lab.state is LabState.UP

    def has_journal(self, name: str) -> bool:
        """Whether the lab has a journal, be it damaged."""
        return (self.path(name) / JOURNAL).exists()

    def rows(self) -> list[Message]:
        """All labs, as the control protocol has them."""
        return [_row(name, lab) for name, lab in self._labs()]

    def no_lab(self, name: str) -> ControlError:
        """The error for a lab that is not there."""
        names = ", ".join(name for name, _ in self._labs())
        hint = f"there are: {names}" if names else "make one: tunnelctl ns up"
        return ControlError("not_found", f"no lab {name!r}", hint)

    async def remove(self, name: str) -> bool:
        """Remove a lab's directory with all that is in it; whether it was there.

        Raises:
          ControlError: something of it cannot be removed.
        """
        path = self.path(name)
        if not path.exists():
            return False
        try:
            await trio.to_thread.run_sync(shutil.rmtree, path)
        except OSError as exc:
            raise ControlError("failed", f"cannot remove {exc.filename}: {exc.strerror}") from exc
        return True

    def _labs(self) -> Iterator[tuple[str, Lab | None]]:
        """Names and labs; None for one with a damaged journal."""
        paths = sorted(self.directory.iterdir()) if self.directory.is_dir() else []
        for path in paths:
            try:
                lab = read_lab(path)
            except NetnsError as exc:
                log.warning("journal of a lab is damaged", lab=path.name, reason=str(exc))
                yield path.name, None
            else:
                if lab is not None:
                    yield lab.name, lab


def _row(name: str, lab: Lab | None) -> dict[str, Any]:
    if lab is None:
        broken: dict[str, Any] = {"mode": None, "namespaces": [], "since": None}
        return {"name": name, **broken, "state": LabState.BROKEN.value}
    spaces = [
        {"name": space.full_name, "addresses": list(space.addresses)} for space in lab.namespaces
    ]
    return {
        "name": name,
        "mode": lab.mode.value,
        "namespaces": spaces,
        "state": lab.state.value,
        "since": lab.since,
    }
