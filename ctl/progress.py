"""Progress of long work on stderr: a live line on a terminal, plain lines elsewhere."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from ctl.output import may_colour, print_note, printable

if TYPE_CHECKING:
    from rich.status import Status

MARKS = {"done": "ok", "skip": "--", "failed": "FAILED"}
STYLES = {"done": "green", "skip": "bright_black", "failed": "red"}
"""Colours, by the names that both click and rich know."""


class Progress(Protocol):
    """Shows which step runs and how each one ended."""

    def begin(self, step: str) -> None:
        """A step starts."""

    def finish(self, step: str, how: str, detail: str = "") -> None:
        """A step ended; ``how`` is a key of `MARKS`."""

    def pause(self) -> None:
        """Clear the way for other output, until the next step begins."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def open_progress() -> Progress:
    """The one that fits what stderr is."""
    return TerminalProgress() if sys.stderr.isatty() else PlainProgress()


def format_step(step: str, how: str, detail: str) -> str:
    """One line about a step that has ended."""
    return f"{MARKS.get(how, how):<6} {step}" + (f"  ({detail})" if detail else "")


class PlainProgress:
    """A line for each step that ended: for files, pipes and logs."""

    def begin(self, step: str) -> None:
        pass

    def finish(self, step: str, how: str, detail: str = "") -> None:
        print_note(format_step(step, how, detail))

    def pause(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


class TerminalProgress:
    """The running step beside a spinner, below the lines of those that ended."""

    def __init__(self) -> None:
        from rich.console import Console

        coloured = may_colour(is_terminal=True)
        self._console: Console = Console(stderr=True, no_color=not coloured, highlight=False)
        self._status: Status = self._console.status("")

    def begin(self, step: str) -> None:
        from rich.text import Text

        self._status.update(Text(f"{printable(step)} …"))
        self._status.start()

    def finish(self, step: str, how: str, detail: str = "") -> None:
        self.pause()
        line = printable(format_step(step, how, detail))
        self._console.print(line, style=STYLES.get(how), markup=False, soft_wrap=True)

    def pause(self) -> None:
        self._status.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.pause()
