import contextlib
import os
import signal
import sys

import pytest
import trio

from tests.tunneld.fewdescriptors import few_descriptors, lowest
from tunneld.child import Child, describe_status

PYTHON = [sys.executable, "-S", "-c"]


async def test_a_childs_exit_status_is_awaited() -> None:
    child = Child.spawn([*PYTHON, "raise SystemExit(7)"])
    with trio.fail_after(20):
        assert await child.wait() == 7
        assert await child.finish(0) == 7


async def test_a_child_that_stays_is_killed_and_reaped() -> None:
    child = Child.spawn(["sleep", "100"])
    assert await child.finish(0) == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


async def test_a_child_is_reaped_even_if_nobody_waits_for_long() -> None:
    child = Child.spawn(["sleep", "100"])
    with trio.move_on_after(1) as scope:
        scope.cancel()
        await child.finish(0)
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


@pytest.mark.parametrize("left", range(12))
async def test_without_descriptors_for_it_a_child_is_not_left_alone(left: int) -> None:
    before, child = lowest(), None
    with few_descriptors(left), contextlib.suppress(OSError):
        child = Child.spawn(["sleep", "100"])
    if child is not None:
        await child.finish(0)
    children = await trio.Path("/proc/self/task", str(os.getpid()), "children").read_text()
    assert not children
    assert lowest() == before


async def test_a_child_talks_by_pipes() -> None:
    child = Child.spawn(["cat"], talks=True)
    assert child.stdin is not None
    assert child.stdout is not None
    with trio.fail_after(20):
        await child.stdin.send_all(b"hello")
        assert await child.stdout.receive_some() == b"hello"
        await child.stdin.aclose()
        assert await child.finish(10) == 0


async def test_a_child_gets_its_environment_and_descriptors() -> None:
    reader, writer = os.pipe()
    code = f"import os; os.write({writer}, os.environ['X'].encode())"
    child = Child.spawn([*PYTHON, code], environment={"X": "marked"}, descriptors=[writer])
    os.close(writer)
    with trio.fail_after(20):
        assert await child.finish(10) == 0
    assert os.read(reader, 100) == b"marked"
    os.close(reader)


def test_a_status_is_described() -> None:
    assert describe_status(3) == "exit status 3"
    assert describe_status(-9) == "killed by SIGKILL"
    assert describe_status(-99) == "killed by signal 99"
