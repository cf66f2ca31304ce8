"""What a daemon is started with, and the error of one that cannot start."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tunneld.config import Config
from tunneld.notify import Notifier
from tunneld.takeover import Takeover


class StartError(Exception):
    """The daemon cannot start; the message says why, ``hint`` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Settings:
    """What a daemon is started with."""

    control: Path
    state: Path
    config: Config = field(default_factory=Config)
    detached: bool = False
    """Whether stderr shall be the log file, not a copy of it."""
    notifier: Notifier = field(default_factory=Notifier)
    refused: Sequence[str] = ()
    """What was wrong with sockets that it was started with."""
    file: Path | None = None
    """Where the configuration was read from; absolute."""
    takeover: Takeover | None = None
    """Set where another daemon is to be succeeded."""
    log_format: str = ""
    """In place of the configuration's."""
