"""The demo as a whole: the right story, and a machine left as it was found, whatever happens."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from ctl.demo_lab import NamespacesForbiddenError, tell_lab_story
from ctl.demo_leftovers import daemon_leftovers, lab_leftovers, processes_of
from ctl.demo_loopback import tell_loopback_story
from ctl.demo_story import JsonNarrator, Narrator, Story
from ctl.demo_world import ProofError, World, wait_until
from ctl.messages import ControlError
from ctl.output import print_line, print_note

_LAST_WORDS = 20
"""Lines of the daemon's log that are shown when a step failed."""
_END_TIMEOUT = 10.0
"""Seconds for the daemon's processes to end."""


def run_demo(*, as_json: bool) -> None:
    """Tell the story and prove it.

    Raises:
      ControlError: a step failed; it is named.
      KeyboardInterrupt: SIGINT, SIGTERM or SIGHUP came.
    """
    narrator = JsonNarrator() if as_json else Narrator()
    with _signals_interrupt():
        world = World(narrator.command)
        try:
            with Story(narrator) as story:
                _tell(story, world)
        except ControlError:
            _show_last_words(world.state)
            raise
        finally:
            _clean_up(world)
    if not as_json:
        print_line("\nAll of it is proved, and nothing is left.")


def _tell(story: Story, world: World) -> None:
    try:
        try:
            tell_lab_story(story, world)
        except NamespacesForbiddenError as exc:
            story.restart()
            world.tunneld("stop", quiet=True).require_success()
            tell_loopback_story(story, world, str(exc))
    except ProofError as exc:  # between two steps
        raise ControlError("failed", str(exc)) from exc


def _clean_up(world: World) -> None:
    """End and remove whatever is there; says so if something resists."""
    # It takes a moment and must not stay half done. Commands inherit that SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    try:
        _take_down(world)
    except ProofError as exc:
        print_note(f"while cleaning up: {exc}")
    left = [*daemon_leftovers(world), *lab_leftovers(world)]
    for line in left:
        print_note(f"left over: {line}")
    if not left:
        world.remove()


def _take_down(world: World) -> None:
    if daemon_leftovers(world):
        world.tunnelctl("ns", "down", "--name", world.lab, quiet=True)
        world.tunneld("stop", quiet=True)
    try:
        wait_until(lambda: not processes_of(world), "the daemon to end", _END_TIMEOUT)
    except ProofError:
        for pid in processes_of(world):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if daemon_leftovers(world) or lab_leftovers(world):
        world.tunneld("cleanup", "--name", world.lab, quiet=True).require_success()


def _show_last_words(state: Path) -> None:
    for log in sorted(state.glob("*.log")):
        lines = log.read_text("utf-8", "replace").splitlines()[-_LAST_WORDS:]
        print_note(f"the last lines of {log.name}:")
        for line in lines:
            print_note(f"  {line}")


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end the story as Ctrl-C does, so that it is cleaned up after."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
