"""Stacks of threads and tasks: what is seen, and for how long."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tunneld.stacks import StackProfile, describe_stacks, sample_stacks, task_stacks, thread_stacks


class Bystander:
    """A thread that waits in a function of known name."""

    def __init__(self) -> None:
        self.waits = threading.Event()
        self.may_go = threading.Event()

    def linger(self) -> None:
        self.waits.set()
        self.may_go.wait()


@contextmanager
def bystander() -> Iterator[None]:
    someone = Bystander()
    thread = threading.Thread(target=someone.linger, name="bystander")
    thread.start()
    someone.waits.wait()
    try:
        yield
    finally:
        someone.may_go.set()
        thread.join()


class CountedEvent(threading.Event):
    """Is set after it has been waited for a number of times, each of which takes no time."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._times = times

    def wait(self, timeout: float | None = None) -> bool:
        self._times -= 1
        return self._times < 0


def sample_in_thread(times: int) -> StackProfile:
    """As the profiler does it: in a thread of its own, which is not seen."""
    profiles: queue.SimpleQueue[StackProfile] = queue.SimpleQueue()
    sampler = threading.Thread(target=lambda: profiles.put(sample_stacks(CountedEvent(times))))
    sampler.start()
    sampler.join()
    return profiles.get()


def test_threads_are_seen_with_their_functions_the_innermost_first() -> None:
    with bystander():
        (stack,) = [each for each in thread_stacks() if each.thread == "bystander"]
    functions = [frame.function for frame in stack.frames]
    ours = functions.index(f"{__name__}.Bystander.linger")
    assert functions.index("threading.Event.wait") < ours
    assert ours < functions.index("threading.Thread.run")
    assert all(frame.line > 0 for frame in stack.frames)


def test_the_asking_thread_is_not_seen() -> None:
    assert threading.current_thread().name not in [each.thread for each in thread_stacks()]


def test_profile_counts_samples_and_the_time_between_them() -> None:
    with bystander():
        profile = sample_in_thread(5)
    lingering = [seen for stack, seen in profile.stacks.items() if stack.thread == "bystander"]
    assert sum(seen.samples for seen in lingering) == 5
    assert 0 < sum(seen.nanoseconds for seen in lingering) <= profile.nanoseconds


def test_profile_without_samples_is_empty() -> None:
    assert sample_in_thread(0).stacks == {}


async def wait_here(event: trio.Event) -> None:
    await event.wait()


async def test_tasks_that_wait_at_the_same_place_are_counted_together() -> None:
    event = trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait_here, event)
        await wait_all_tasks_blocked()
        seen = {name: (count, frames) for (name, frames), count in task_stacks().items()}
        event.set()
    count, frames = seen[f"{__name__}.wait_here"]
    assert count == 3
    functions = [frame.function for frame in frames]
    assert functions.index("trio._sync.Event.wait") < functions.index(f"{__name__}.wait_here")


async def test_description_names_threads_and_tasks_and_places() -> None:
    event = trio.Event()
    with bystander():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_here, event)
            await wait_all_tasks_blocked()
            text = describe_stacks()
            event.set()
    assert "thread bystander:\n    threading." in text
    assert f"thread {threading.current_thread().name}:\n" in text
    assert f"1 of task {__name__}.wait_here:\n" in text
    assert f"    {__name__}.wait_here {__file__}:" in text


@pytest.mark.parametrize("count", [200])
async def test_description_does_not_grow_with_the_number_of_like_tasks(count: int) -> None:
    event = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_here, event)
        await wait_all_tasks_blocked()
        one = describe_stacks()
        for _ in range(count - 1):
            nursery.start_soon(wait_here, event)
        await wait_all_tasks_blocked()
        many = describe_stacks()
        event.set()
    assert len(many.splitlines()) == len(one.splitlines())
