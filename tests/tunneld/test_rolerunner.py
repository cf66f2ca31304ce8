import errno
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ctl.messages import ControlError
from tests.tunneld.fakes import FakeRole, Script, cannot_start
from tunneld.backoff import Backoff
from tunneld.config import AgentConfig, EchoConfig, RoleConfig
from tunneld.reactor import Reactor
from tunneld.role import RoleError, RoleState
from tunneld.rolerunner import RoleRunner, Surroundings, drain_timeout
from tunneld.rolestatus import RoleStatus, reason_of

S = RoleState
ECHO = EchoConfig(name="echo")
AGENT = AgentConfig(name="agent", server="s:1", cert="c", key="k", ca="a", drain_timeout=30)


@pytest.fixture
def script() -> Script:
    return Script()


class World:
    """A runner, and what it reported."""

    def __init__(self, script: Script, config: RoleConfig = ECHO) -> None:
        self.reports: list[RoleStatus] = []
        surroundings = Surroundings(
            reactor=Reactor(),
            state_dir=Path("/nowhere"),
            report=lambda name, status: self.reports.append(status),
            backoff=lambda: Backoff(1, 8, uniform=lambda low, high: high),
        )
        self.reactor = surroundings.reactor
        self.script = script
        self.runner = RoleRunner(config, script.factory, surroundings)

    @property
    def states(self) -> list[RoleState]:
        return [status.state for status in self.reports]

    @property
    def role(self) -> FakeRole:
        (role,) = self.script.roles
        return role


@pytest.fixture
async def world(script: Script, nursery: trio.Nursery) -> AsyncIterator[World]:
    """A role that runs."""
    world = World(script)
    nursery.start_soon(world.runner.run)
    await wait_all_tasks_blocked()
    yield world
    world.reactor.close()


async def test_a_role_becomes_ready_and_stops_when_told(world: World) -> None:
    assert world.runner.status.addresses == ("echo:1",)
    world.runner.stop()
    await world.runner.finished.wait()
    assert world.states == [S.STARTING, S.READY, S.DRAINING, S.STOPPED]
    assert (world.script.drained, world.script.cancelled) == (1, 0)


async def test_a_role_that_fails_is_started_again_ever_more_slowly(
    world: World, autojump_clock: MockClock
) -> None:
    def refuse() -> None:
        raise OSError(errno.EADDRINUSE, "Address already in use")

    world.script.run = refuse
    world.role.end(RoleError("lost its listener"))
    with trio.move_on_after(20):
        await world.runner.finished.wait()
    assert [round(at) for at in world.script.started] == [0, 1, 3, 7, 15]
    assert world.reports[2].reason == "lost its listener"
    assert world.runner.status.state is S.BACKOFF
    assert world.runner.status.reason == "[Errno 98] Address already in use"
    assert world.runner.status.restarts == 4


async def test_a_role_that_lasted_starts_over_at_once(
    world: World, autojump_clock: MockClock
) -> None:
    for _ in range(3):
        await trio.sleep(10)
        world.role.end()
        await trio.sleep(1.5)
    assert [round(at, 1) for at in world.script.started] == [0, 11, 22.5, 34]


async def test_a_role_that_ends_unasked_has_failed(world: World) -> None:
    world.role.end()
    await wait_all_tasks_blocked()
    assert world.runner.status.state is S.BACKOFF
    assert world.runner.status.reason == "it ended by itself"


async def test_a_bug_in_a_role_is_logged_with_its_traceback(world: World) -> None:
    with structlog.testing.capture_logs() as logs:
        world.role.end(ValueError("odd"))
        await wait_all_tasks_blocked()
    crash, failure = logs
    assert (crash["event"], crash["exc_info"]) == ("role crashed", True)
    assert (failure["event"], failure["reason"]) == ("role failed", "ValueError: odd")
    assert world.runner.status.state is S.BACKOFF


async def test_a_role_that_cannot_be_made_is_not_tried_again(
    script: Script, autojump_clock: MockClock
) -> None:
    script.construct = cannot_start
    world = World(script)
    await world.runner.run()
    assert world.states == [S.STARTING, S.FAILED]
    assert world.runner.status.reason == "cannot read server.crt: No such file or directory"
    world.reactor.close()


async def test_a_stop_ends_the_wait_for_the_next_start(
    world: World, autojump_clock: MockClock
) -> None:
    world.role.end()
    await wait_all_tasks_blocked()
    world.runner.stop()
    await world.runner.finished.wait()
    assert trio.current_time() == 0
    assert world.states[-2:] == [S.BACKOFF, S.STOPPED]


async def test_a_role_that_does_not_finish_is_cancelled(
    script: Script, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    script.busy = True
    world = World(script, AGENT)
    nursery.start_soon(world.runner.run)
    await wait_all_tasks_blocked()
    world.runner.stop()
    await world.runner.finished.wait()
    assert trio.current_time() == pytest.approx(30)
    assert script.cancelled == 1
    assert world.states == [S.STARTING, S.READY, S.DRAINING, S.STOPPED]
    world.reactor.close()


async def test_a_role_that_fails_while_it_drains_has_stopped(world: World) -> None:
    world.script.busy = True
    world.runner.stop()
    await wait_all_tasks_blocked()
    world.role.end(RoleError("broken"))
    await world.runner.finished.wait()
    assert world.states[-2:] == [S.DRAINING, S.STOPPED]


async def test_a_role_says_how_it_fares_until_it_drains(world: World) -> None:
    world.role.say(S.BACKOFF, "no server")
    assert (world.runner.status.state, world.runner.status.reason) == (S.BACKOFF, "no server")
    since = world.runner.status.since
    world.role.say(S.BACKOFF, "still no server")
    assert world.runner.status.since == since
    world.script.busy = True
    world.runner.stop()
    await wait_all_tasks_blocked()
    world.role.say(S.READY, "")
    assert world.runner.status.state is S.DRAINING


async def test_cancelling_a_runner_cancels_its_role(script: Script) -> None:
    world = World(script)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.runner.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert script.cancelled == 1
    assert world.runner.finished.is_set()
    world.reactor.close()


async def test_rows_name_their_role(world: World) -> None:
    world.role.dialled.append(("a", 1))
    agents = await world.runner.ask("agents", {})
    assert agents["rows"] == [{"id": "demo", "server": "echo"}]
    conns = await world.runner.ask("conns", {"destination": "a"})
    assert conns["rows"] == [{"id": 0, "destination": "a:1", "role": "echo"}]
    with pytest.raises(ControlError, match="sort: expected one of"):
        await world.runner.ask("conns", {"sort": "colour"})
    assert (await world.runner.ask("kill", {"what": "conn", "name": "x"}))["killed"] == []
    world.runner.stop()
    await world.runner.finished.wait()
    with pytest.raises(ControlError, match="does not run"):
        await world.runner.ask("agents", {})


def test_endpoints_get_less_time_to_drain_than_tunnels() -> None:
    assert (drain_timeout(ECHO), drain_timeout(AGENT)) == (5, 30)


def test_a_reason_is_one_line() -> None:
    group = ExceptionGroup("x", [ExceptionGroup("y", [OSError("a\nb")])])
    assert reason_of(group) == "a b"
    assert reason_of(ExceptionGroup("x", [OSError("a"), OSError("a"), KeyError(1)])) == (
        "a; KeyError: 1"
    )
    assert reason_of(TimeoutError()) == "TimeoutError"


class Client:
    """The client of a dial: its end of the socket, and the copy to give away."""

    def __init__(self) -> None:
        near, self.given = socket.socketpair()
        self.given.setblocking(False)
        self.near = trio.socket.from_stdlib_socket(near)

    async def dial(self, world: World, host: str) -> None:
        await world.runner.dial(self.given, host, 80, lambda agent: agent.encode() + b"|")


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    client = Client()
    yield client
    client.near.close()
    client.given.close()


async def test_a_dial_carries_both_ways_and_half_closes(world: World, client: Client) -> None:
    await client.dial(world, "somewhere")
    assert await client.near.recv(100) == b"demo|"
    await client.near.send(b"abc")
    assert await client.near.recv(100) == b"bcd"
    client.near.shutdown(socket.SHUT_WR)
    assert await client.near.recv(100) == b"end"
    assert await client.near.recv(100) == b""


async def test_a_refused_dial_says_why(world: World, client: Client) -> None:
    with pytest.raises(ControlError) as caught:
        await client.dial(world, "refused")
    assert (caught.value.code, caught.value.hint) == ("refused", "try another")
    assert client.given.fileno() == -1


async def test_a_bug_in_a_dial_harms_that_dial_alone(world: World, client: Client) -> None:
    with structlog.testing.capture_logs() as logs, pytest.raises(ControlError) as caught:
        await client.dial(world, "bug")
    assert caught.value.code == "internal"
    assert logs[0]["event"] == "dial failed"
    assert world.runner.status.state is S.READY


async def test_a_client_that_vanishes_gives_its_dial_up(
    world: World, client: Client, autojump_clock: MockClock
) -> None:
    client.near.close()
    with pytest.raises(ControlError):
        await client.dial(world, "slow")
    assert client.given.fileno() == -1


async def test_a_client_that_only_half_closed_still_waits(
    world: World, client: Client, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    client.near.shutdown(socket.SHUT_WR)
    nursery.start_soon(client.dial, world, "slow")
    await trio.sleep(5)
    world.role.answer_dial.set()
    assert await client.near.recv(100) == b"demo|"


async def test_cancelling_a_dial_gives_it_up(world: World, client: Client) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.dial, world, "slow")
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    await wait_all_tasks_blocked()
    assert client.given.fileno() == -1
    assert await client.near.recv(100) == b""


async def test_a_role_that_ends_ends_its_dials(world: World, client: Client) -> None:
    await client.dial(world, "somewhere")
    world.runner.stop()
    await world.runner.finished.wait()
    assert await client.near.recv(100) == b"demo|"
    assert await client.near.recv(100) == b""


async def test_a_role_that_stops_fails_its_pending_dials(world: World, client: Client) -> None:
    failed: list[ControlError] = []

    async def dial() -> None:
        with pytest.raises(ControlError) as caught:
            await client.dial(world, "slow")
        failed.append(caught.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        await wait_all_tasks_blocked()
        world.runner.stop()
    assert failed[0].code == "failed"


async def test_a_role_that_does_not_run_dials_nowhere(world: World, client: Client) -> None:
    world.runner.stop()
    await world.runner.finished.wait()
    with pytest.raises(ControlError, match="does not run, it is stopped"):
        await client.dial(world, "somewhere")
    assert client.given.fileno() == -1
