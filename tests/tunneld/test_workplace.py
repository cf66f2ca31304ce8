"""With real worker processes; their roles are fakes."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from ctl.messages import ControlError, Message, encode
from tests.tunneld.fake_worker import COMMAND, ROOT
from tunneld.backoff import Backoff
from tunneld.config import EchoConfig
from tunneld.logbook import LogRecord
from tunneld.role import RoleState
from tunneld.rolestatus import RoleStatus
from tunneld.workplace import Premises, Workplace

S = RoleState
PATIENCE = 30
"""Seconds that a test may take; each needs one or two."""


def role(name: str, todo: str = "ready") -> EchoConfig:
    return EchoConfig(name=name, listen=f"{todo}:1", namespace="here")


class World:
    """A workplace without a namespace, and what it reported."""

    def __init__(
        self, tmp_path: Path, worker: tuple[str, ...] = COMMAND, watchdog: float = 30.0
    ) -> None:
        self.statuses: dict[str, RoleStatus] = {}
        self.history: list[tuple[str, RoleState]] = []
        self.lines: list[tuple[str | None, LogRecord]] = []
        self.entered = 0
        self.forbidden = False
        self._changed = trio.Event()
        premises = Premises(
            state_dir=tmp_path,
            report=self._report,
            log_line=lambda name, line: self.lines.append((name, line)),
            worker=worker,
            watchdog=watchdog,
            backoff=lambda: Backoff(0.01, 0.01),
        )
        self.place = Workplace("here", self._enter, premises)

    def _enter(self) -> list[str]:
        self.entered += 1
        if self.forbidden:
            raise ControlError("not_found", "no namespace 'here'", "make it")
        return ["env", "ENTERED=yes"]

    def _report(self, name: str, status: RoleStatus) -> None:
        self.statuses[name] = status
        self.history.append((name, status.state))
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    async def until_state(self, name: str, state: RoleState, restarts: int = 0) -> None:
        await self.until(
            lambda: (
                name in self.statuses
                and self.statuses[name].state is state
                and self.statuses[name].restarts >= restarts
            )
        )


def environment_of(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.place.run)
            yield world
            nursery.cancel_scope.cancel()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(World(tmp_path)) as world:
        yield world


async def test_a_worker_runs_the_roles_of_its_namespace(world: World) -> None:
    world.place.start(role("a"))
    world.place.start(role("b"))
    await world.until_state("a", S.READY)
    await world.until_state("b", S.READY)
    assert world.statuses["a"].addresses == ("a:1",)
    assert world.entered == 1
    pid = world.place.pid
    assert pid is not None
    environment = environment_of(pid)
    assert b"ENTERED=yes" in environment


async def test_no_role_needs_no_worker(world: World) -> None:
    assert world.place.pid is None
    assert await world.place.certificates() == []


async def test_a_role_that_fails_harms_no_other(world: World) -> None:
    world.place.start(role("good"))
    world.place.start(role("bad", "raise"))
    await world.until_state("good", S.READY)
    await world.until_state("bad", S.BACKOFF)
    assert world.statuses["bad"].reason == "told to raise"
    assert world.statuses["good"].state is S.READY


async def test_a_killed_worker_comes_back_with_its_roles(world: World) -> None:
    world.place.start(role("a"))
    world.place.start(role("b"))
    await world.until_state("a", S.READY)
    await world.until_state("b", S.READY)
    first = world.place.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await world.until_state("a", S.READY, restarts=1)
    await world.until_state("b", S.READY, restarts=1)
    assert world.place.pid not in (None, first)
    assert ("a", S.BACKOFF) in world.history


async def test_a_worker_that_keeps_dying_is_started_again_and_again(world: World) -> None:
    world.place.start(role("a", "die"))
    await world.until_state("a", S.BACKOFF, restarts=2)
    assert world.statuses["a"].reason == "the worker ended: exit status 3; told to die"


async def test_a_namespace_that_is_not_there_is_waited_for(world: World) -> None:
    world.forbidden = True
    world.place.start(role("a"))
    await world.until_state("a", S.BACKOFF)
    assert world.statuses["a"].reason == "no namespace 'here'"
    world.forbidden = False
    await world.until_state("a", S.READY)


async def test_a_worker_that_cannot_be_executed_is_a_reason(tmp_path: Path) -> None:
    async with running(World(tmp_path, worker=("/nowhere/python",))) as world:
        world.place.start(role("a"))
        await world.until_state("a", S.BACKOFF)
        # `env` is what could be executed here, and it says so.
        assert "exit status 127" in world.statuses["a"].reason


async def test_a_worker_that_speaks_nonsense_is_replaced(tmp_path: Path) -> None:
    code = "import os, sys, time; os.write(int(sys.argv[2]), b'nonsense'); time.sleep(1000)"
    async with running(World(tmp_path, (sys.executable, "-c", code))) as world:
        world.place.start(role("a"))
        await world.until_state("a", S.BACKOFF, restarts=1)
        assert world.statuses["a"].reason.startswith("the worker spoke nonsense")


async def test_a_stopped_role_has_drained_and_does_not_come_back(world: World) -> None:
    world.place.start(role("a"))
    world.place.start(role("b"))
    await world.until_state("a", S.READY)
    await world.until_state("b", S.READY)
    await world.place.stop("a")
    assert world.statuses["a"].state is S.STOPPED
    assert world.place.pid is not None
    os.kill(world.place.pid, signal.SIGKILL)
    await world.until_state("b", S.READY, restarts=1)
    assert world.statuses["a"].state is S.STOPPED


async def test_a_role_can_be_started_again(world: World) -> None:
    world.place.start(role("a"))
    await world.until_state("a", S.READY)
    await world.place.stop("a")
    world.place.start(role("a"))
    await world.until_state("a", S.READY)


async def test_a_role_is_stopped_even_if_its_worker_dies_meanwhile(world: World) -> None:
    world.place.start(role("a", "stay"))
    await world.until_state("a", S.READY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.place.stop, "a")
        await world.until_state("a", S.DRAINING)
        assert world.place.pid is not None
        os.kill(world.place.pid, signal.SIGKILL)
    assert world.statuses["a"].state is S.STOPPED


async def test_cancelling_a_workplace_ends_its_worker(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        world.place.start(role("a"))
        await world.until_state("a", S.READY)
        pid = world.place.pid
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_worker_that_hangs_is_killed_in_the_end(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        world.place.start(role("a", "hang"))
        await world.until_state("a", S.READY)
        pid = world.place.pid
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("todo", ["ready", "stay", "hang"])
def test_a_worker_ends_with_its_supervisor(tmp_path: Path, todo: str) -> None:
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; import tests.tunneld.fake_supervisor as f"
    argv = [sys.executable, "-c", f"{code}; f.run()", todo, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        worker = os.pidfd_open(int(supervisor.stdout.readline()))
        supervisor.kill()
    assert select.select([worker], [], [], PATIENCE)[0] == [worker]
    os.close(worker)


async def test_signals_for_the_supervisor_do_not_end_a_worker(world: World) -> None:
    world.place.start(role("a"))
    await world.until_state("a", S.READY)
    pid = world.place.pid
    assert pid is not None
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    await world.place.stop("a")
    world.place.start(role("a"))
    await world.until_state("a", S.READY)
    assert world.place.pid == pid


async def test_log_lines_of_roles_arrive(world: World) -> None:
    world.place.start(role("a"))
    await world.until_state("a", S.READY)
    seen = [(name, line.event, line.fields) for name, line in world.lines]
    assert ("a", "told to log", {"number": 1}) in seen


async def test_answers_come_from_the_worker(world: World) -> None:
    world.place.start(role("a"))
    await world.until_state("a", S.READY)
    (answer,) = await world.place.ask("a", "agents", {})
    assert answer["rows"] == [{"id": "demo", "server": "a"}]
    (answer,) = await world.place.ask("a", "conns", {})
    assert answer["rows"] == []


async def test_a_dial_runs_on_the_clients_own_socket(world: World) -> None:
    world.place.start(role("a"))
    await world.until_state("a", S.READY)
    near, far = socket.socketpair()
    stream = trio.socket.from_stdlib_socket(near)
    with stream:
        reply: Message = {"id": 7, "result": {"server": "a"}}
        await world.place.dial("a", far, "somewhere", 80, reply)
        assert far.fileno() == -1
        reply["result"] = {"server": "a", "agent": "demo", "peer": "a via agent demo"}
        assert await stream.recv(200) == encode(reply)
        await stream.send(b"abc")
        assert await stream.recv(100) == b"bcd"
        stream.shutdown(socket.SHUT_WR)
        assert await stream.recv(100) == b"end"
        assert await stream.recv(100) == b""


async def test_a_refused_dial_leaves_the_clients_socket_alone(world: World) -> None:
    world.place.start(role("a"))
    await world.until_state("a", S.READY)
    near, far = socket.socketpair()
    with near, far:
        with pytest.raises(ControlError) as caught:
            await world.place.dial("a", far.dup(), "refused", 80, {"id": 7, "result": {}})
        assert (caught.value.code, caught.value.hint) == ("refused", "try another")
        far.send(b"still open")
        assert near.recv(100) == b"still open"


async def test_a_dial_fails_with_its_worker(world: World) -> None:
    world.place.start(role("a"))
    await world.until_state("a", S.READY)
    near, far = socket.socketpair()
    with near:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_fails, world.place, far)
            while not (await world.place.ask("a", "conns", {}))[0]["rows"]:
                await trio.lowlevel.checkpoint()
            assert world.place.pid is not None
            os.kill(world.place.pid, signal.SIGKILL)
        assert near.recv(100) == b""


async def _fails(place: Workplace, sock: socket.socket) -> None:
    with pytest.raises(ControlError, match="the worker has ended"):
        await place.dial("a", sock, "slow", 80, {"id": 7, "result": {}})


async def test_a_worker_that_hangs_is_killed_and_another_one_employed(tmp_path: Path) -> None:
    async with running(World(tmp_path, watchdog=1.0)) as world:
        world.place.start(role("a", "hang"))
        await world.until_state("a", S.READY)
        await world.until_state("a", S.BACKOFF)
        assert "killed by SIGKILL" in world.statuses["a"].reason
        await world.until_state("a", S.READY, restarts=1)
