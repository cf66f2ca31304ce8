import os
import sys
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.process import Process, wait_until

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print("ready", flush=True)
child.wait()
"""


@pytest.fixture
def parent(tmp_path: Path) -> Process:
    """A process with a child that waits."""
    process = Process([sys.executable, "-c", PARENT], tmp_path / "log")
    assert wait_until(lambda: "ready" in process.last_words(), 20)
    return process


def test_tree_has_descendants_too_and_all_of_it_is_killed(parent: Process) -> None:
    one, child = parent.tree()
    assert one == parent.pid
    assert parent.resident_mb() > 1
    parent.kill()
    assert not parent.alive
    assert wait_until(lambda: not is_running(child), 20)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_has_ended_uses_no_memory(tmp_path: Path) -> None:
    process = Process([sys.executable, "-c", ""], tmp_path / "log")
    assert wait_until(lambda: not process.alive, 20)
    assert process.resident_mb() == 0
    process.kill()


def test_program_that_ends_early_is_quoted(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import sys; sys.exit('no such file')"]
    process = Process(argv, tmp_path / "log", {"HOME": os.sep})
    with pytest.raises(BenchError, match="nothing listens on port 1: no such file"):
        process.wait_listening(1)
