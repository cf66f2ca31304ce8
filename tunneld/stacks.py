"""Python stacks of this process: as they are now, or sampled over a time."""

import itertools
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import NamedTuple

import trio

INTERVAL = 0.01
"""Seconds between samples, as in Go. A sample costs some 50 µs, so it slows us by about 1 %."""


class Frame(NamedTuple):
    """A place in a function."""

    code: CodeType
    line: int
    module: str

    @property
    def function(self) -> str:
        """``module.Class.function``."""
        return f"{self.module}.{self.code.co_qualname}"


class Stack(NamedTuple):
    """What a thread is doing."""

    thread: str
    frames: tuple[Frame, ...]
    """The innermost first."""


@dataclass(slots=True)
class Observed:
    """How often and how long a stack was seen."""

    samples: int = 0
    nanoseconds: int = 0


@dataclass(slots=True)
class StackProfile:
    """Where threads were, on the CPU or waiting, over a time."""

    started: int
    """Nanoseconds since 1970."""
    nanoseconds: int = 0
    stacks: dict[Stack, Observed] = field(default_factory=dict)


def sample_stacks(stop: threading.Event, interval: float = INTERVAL) -> StackProfile:
    """Look at all other threads every ``interval`` seconds until ``stop`` is set. Blocks.

    Each stack is taken to have lasted since the last sample: wall-clock time, waiting included.
    """
    profile = StackProfile(time.time_ns())
    begun = last = time.monotonic_ns()
    while not stop.wait(interval):
        now = time.monotonic_ns()
        for stack in thread_stacks():
            observed = profile.stacks.setdefault(stack, Observed())
            observed.samples += 1
            observed.nanoseconds += now - last
        last = now
    profile.nanoseconds = time.monotonic_ns() - begun
    return profile


def thread_stacks() -> Iterator[Stack]:
    """What each thread but the caller's is doing."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        if ident != threading.get_ident():
            yield Stack(names.get(ident, "unknown"), _frames_from(frame))


def _frames_from(innermost: FrameType) -> tuple[Frame, ...]:
    frames = []
    frame: FrameType | None = innermost
    while frame is not None:
        frames.append(_frame(frame, frame.f_lineno))
        frame = frame.f_back
    return tuple(frames)


def _frame(frame: FrameType, line: int | None) -> Frame:
    """The line of a frame may be unknown (None) while it moves between instructions."""
    return Frame(frame.f_code, line or 0, frame.f_globals.get("__name__", "?"))


def task_stacks() -> Counter[tuple[str, tuple[Frame, ...]]]:
    """How many trio tasks have the same name and wait at the same place; from within trio."""
    root = trio.lowlevel.current_root_task()
    assert root is not None  # there is one as long as trio runs
    return Counter((task.name, _awaited_by(task)) for task in _tasks_below(root))


def _tasks_below(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    waiting = [task]
    while waiting:
        task = waiting.pop()
        yield task
        for nursery in task.child_nurseries:
            waiting.extend(nursery.child_tasks)


def _awaited_by(task: trio.lowlevel.Task) -> tuple[Frame, ...]:
    frames = [_frame(frame, line) for frame, line in task.iter_await_frames()]
    return tuple(reversed(frames))


def describe_stacks() -> str:
    """Every thread and trio task and what it does, for people; from within trio."""
    parts = [
        _describe(f"thread {stack.thread}", stack.frames)
        for stack in itertools.chain(thread_stacks(), [_own_stack()])
    ]
    for (name, frames), count in task_stacks().most_common():
        parts.append(_describe(f"{count} of task {name}", frames))
    return "\n".join(parts)


def _own_stack() -> Stack:
    return Stack(threading.current_thread().name, _frames_from(sys._getframe(1)))


def _describe(title: str, frames: Iterable[Frame]) -> str:
    lines = [f"    {each.function} {each.code.co_filename}:{each.line}\n" for each in frames]
    return f"{title}:\n{''.join(lines)}"
