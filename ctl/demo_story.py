"""Telling a story step by step: numbering, timing, and how it looks."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self

from ctl.demo_world import ProofError
from ctl.messages import ControlError
from ctl.output import print_json, print_line
from ctl.progress import STYLES, Progress, format_step, open_progress

Prove = Callable[[], str]
"""Does a step and proves that it worked; gives a detail worth telling."""


@dataclass(frozen=True)
class Outcome:
    """How a step ended; ``ok`` is None if it was skipped."""

    step: int
    title: str
    ok: bool | None
    seconds: float
    detail: str


class Narrator:
    """Shows steps as text; they are held back until the first line of all is known."""

    def __init__(self) -> None:
        self._held: list[tuple[str, str | None]] | None = []
        self._progress: Progress = open_progress()
        self._title = ""

    def open(self, where: str) -> None:
        """Tell where the story happens, and then all that was held back."""
        held, self._held = self._held, None
        self._say(f"The whole story on one machine, {where}.")
        for line, colour in held or []:
            self._say(line, colour)

    def forget(self) -> None:
        """Drop what was held back."""
        self._held = []

    def begin(self, step: int, title: str) -> None:
        """A step starts."""
        self._title = title
        self._say(f"\n{step:>2}  {title}")
        self._progress.begin(title)

    def command(self, line: str) -> None:
        """A command is about to be run."""
        self._say(f"    $ {line}")
        self._progress.begin(self._title)

    def finish(self, outcome: Outcome) -> None:
        """The step ended."""
        how = "skip" if outcome.ok is None else "done" if outcome.ok else "failed"
        line = format_step(outcome.detail or "done", how, f"{outcome.seconds:.2f} s")
        self._say(f"    {line}", STYLES[how])

    def close(self) -> None:
        """The story is over."""
        if self._held:
            self.open("as far as it went")
        self._progress.pause()

    def _say(self, line: str, colour: str | None = None) -> None:
        if self._held is not None:
            self._held.append((line, colour))
            return
        self._progress.pause()
        print_line(line, colour)


class JsonNarrator:
    """Shows an object for each step, the first about where the story happens."""

    def __init__(self) -> None:
        self._held: list[Outcome] | None = []

    def open(self, where: str) -> None:
        held, self._held = self._held, None
        for outcome in [Outcome(0, "choose where", True, 0.0, where), *(held or [])]:
            self.finish(outcome)

    def forget(self) -> None:
        self._held = []

    def begin(self, step: int, title: str) -> None:
        pass

    def command(self, line: str) -> None:
        pass

    def finish(self, outcome: Outcome) -> None:
        if self._held is not None:
            self._held.append(outcome)
        else:
            print_json({**asdict(outcome), "seconds": round(outcome.seconds, 3)})

    def close(self) -> None:
        if self._held:
            self.open("as far as it went")


class Story:
    """Runs steps one after the other; the first that fails ends it."""

    def __init__(self, narrator: Narrator | JsonNarrator) -> None:
        self._narrator = narrator
        self._step = 0

    def restart(self) -> None:
        """Forget what was told: the story begins anew, elsewhere."""
        self._narrator.forget()
        self._step = 0

    def open(self, where: str) -> None:
        """From here on everything is shown at once, after a first line that says ``where``."""
        self._narrator.open(where)

    def tell(self, title: str, prove: Prove) -> None:
        """Run one step.

        Raises:
          ControlError: it failed; names the step.
        """
        self._step += 1
        self._narrator.begin(self._step, title)
        started = time.monotonic()
        try:
            detail = prove()
        except ProofError as exc:
            self._finish(title, False, started, str(exc))
            raise ControlError(
                "failed",
                f"step {self._step} failed: {title}: {exc}",
                "the last lines of the daemon's log are above",
            ) from exc
        self._finish(title, True, started, detail)

    def skip(self, title: str, why: str) -> None:
        """Tell that a step is left out."""
        self._step += 1
        self._narrator.begin(self._step, title)
        self._finish(title, None, time.monotonic(), why)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._narrator.close()

    def _finish(self, title: str, ok: bool | None, started: float, detail: str) -> None:
        seconds = time.monotonic() - started
        self._narrator.finish(Outcome(self._step, title, ok, seconds, detail))
