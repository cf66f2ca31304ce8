"""Processes are ended by number and start time, never by name."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from netns.processes import end_process, end_processes, start_time


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that waits for the end of its stdin."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        yield process
        process.kill()


def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_start_time_is_the_same_each_time_and_zero_without_a_process() -> None:
    assert start_time(os.getpid()) == start_time(os.getpid()) > 0
    assert start_time(gone()) == 0


def test_process_of_that_number_and_time_is_ended(sleeper: "subprocess.Popen[bytes]") -> None:
    end_process(sleeper.pid, start_time(sleeper.pid))
    assert sleeper.wait() == -15


def test_process_that_got_the_number_later_is_left_alone(
    sleeper: "subprocess.Popen[bytes]",
) -> None:
    end_process(sleeper.pid, start_time(sleeper.pid) - 1)
    assert sleeper.poll() is None


def test_processes_that_are_gone_are_passed_over(sleeper: "subprocess.Popen[bytes]") -> None:
    end_processes([gone(), sleeper.pid])
    end_process(gone(), 1)
    assert sleeper.wait() == -15
