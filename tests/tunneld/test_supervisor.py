import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ctl.messages import ControlError
from tests.tunneld.fake_worker import COMMAND
from tests.tunneld.fakes import FakeRole, Script, cannot_start
from tests.tunneld.policies import OPEN_SERVER
from tunneld.backoff import Backoff
from tunneld.config import EchoConfig, Frontend, ServerConfig, TunnelListener
from tunneld.factories import Factories
from tunneld.logbook import LogBook
from tunneld.role import RoleState
from tunneld.roster import Roster
from tunneld.supervisor import Supervisor, open_supervisor
from tunneld.workplace import Premises

S = RoleState


def echo(name: str, namespace: str | None = None, todo: str = "ready") -> EchoConfig:
    return EchoConfig(name=name, namespace=namespace, listen=f"{todo}:1")


def server(name: str) -> ServerConfig:
    tunnel = TunnelListener(listen="h:1", cert="c", key="k", client_ca="a")
    return ServerConfig(
        policy=OPEN_SERVER, name=name, frontends=(Frontend(listen="h:2"),), tunnel=tunnel
    )


def enter(namespace: str) -> list[str]:
    if namespace == "nowhere":
        raise ControlError("not_found", "no namespace 'nowhere'")
    return []


@pytest.fixture
def script() -> Script:
    return Script()


@asynccontextmanager
async def supervising(tmp_path: Path, script: Script) -> AsyncIterator[Supervisor]:
    roster = Roster(LogBook())
    premises = Premises(
        state_dir=tmp_path,
        report=roster.report,
        log_line=lambda name, line: None,
        worker=COMMAND,
        backoff=lambda: Backoff(0.01, 0.01),
    )
    factories: Factories = {EchoConfig: script.factory, ServerConfig: script.factory}
    async with open_supervisor(premises, enter, roster, factories) as supervisor:
        yield supervisor


@pytest.fixture
async def supervisor(tmp_path: Path, script: Script) -> AsyncIterator[Supervisor]:
    async with supervising(tmp_path, script) as supervisor:
        yield supervisor


def states(supervisor: Supervisor) -> dict[str, RoleState]:
    return {entry.name: entry.status.state for entry in supervisor.roster}


def role(script: Script, name: str) -> FakeRole:
    (found,) = (role for role in script.roles if role.config.name == name)
    return found


async def test_roles_without_a_namespace_run_in_this_process(supervisor: Supervisor) -> None:
    supervisor.add([echo("a"), echo("b")])
    await wait_all_tasks_blocked()
    assert states(supervisor) == {"a": S.READY, "b": S.READY}
    row = supervisor.row(supervisor.roster.get("a"))
    assert isinstance(row.pop("since"), float)
    assert row == {
        "name": "a",
        "kind": "echo",
        "namespace": None,
        "lab": None,
        "pid": os.getpid(),
        "state": "ready",
        "reason": "",
        "restarts": 0,
        "addresses": ["a:1"],
    }


async def test_roles_with_a_namespace_run_in_its_worker(supervisor: Supervisor) -> None:
    with trio.fail_after(30):
        supervisor.add([echo("a", "one"), echo("b", "one"), echo("c", "two")], "lab")
        entries = list(supervisor.roster)
        assert await supervisor.settled(entries)
        assert set(states(supervisor).values()) == {S.READY}
        rows = [supervisor.row(entry) for entry in entries]
        assert rows[0]["pid"] == rows[1]["pid"] != rows[2]["pid"]
        assert rows[0]["pid"] != os.getpid()
        asked = await supervisor.ask_all("agents", {})
        assert sorted((role, answer["total"]) for role, answer in asked) == [
            *(("a", 1), ("b", 1), ("c", 1))
        ]
        await supervisor.remove(entries[:2])
        with pytest.raises(ProcessLookupError):
            os.kill(rows[0]["pid"], 0)
        assert states(supervisor) == {"c": S.READY}
        assert supervisor.row(entries[2])["pid"] == rows[2]["pid"]


async def test_a_role_that_fails_harms_no_other(supervisor: Supervisor, script: Script) -> None:
    supervisor.add([echo("a"), echo("b")])
    await wait_all_tasks_blocked()
    role(script, "a").end(ValueError("odd"))
    await wait_all_tasks_blocked()
    assert states(supervisor) == {"a": S.BACKOFF, "b": S.READY}


async def test_roles_are_added_all_or_none(supervisor: Supervisor) -> None:
    supervisor.add([echo("a")], "demo")
    with pytest.raises(ControlError) as caught:
        supervisor.add([echo("b"), echo("a")])
    assert caught.value.code == "exists"
    assert "of the lab 'demo'" in caught.value.message
    assert [entry.name for entry in supervisor.roster] == ["a"]


async def test_a_role_is_stopped_started_and_restarted_by_hand(
    supervisor: Supervisor, script: Script
) -> None:
    supervisor.add([echo("a")])
    await wait_all_tasks_blocked()
    assert (await supervisor.stop("a")).status.state is S.STOPPED
    assert (await supervisor.stop("a")).status.state is S.STOPPED
    assert (await supervisor.start("a")).status.state is S.READY
    assert (await supervisor.start("a")).status.state is S.READY
    assert len(script.started) == 2
    assert (await supervisor.restart("a")).status.state is S.READY
    assert len(script.started) == 3
    assert script.drained == 2


async def test_a_role_that_failed_can_be_started_again(
    supervisor: Supervisor, script: Script
) -> None:
    script.construct = cannot_start
    supervisor.add([echo("a")])
    await wait_all_tasks_blocked()
    assert states(supervisor) == {"a": S.FAILED}
    script.construct = lambda: None
    assert (await supervisor.start("a")).status.state is S.READY


async def test_a_failed_role_can_be_stopped(supervisor: Supervisor, script: Script) -> None:
    script.construct = cannot_start
    supervisor.add([echo("a")])
    await wait_all_tasks_blocked()
    assert (await supervisor.stop("a")).status.state is S.STOPPED


async def test_waiting_for_a_start_has_an_end(
    supervisor: Supervisor, script: Script, autojump_clock: MockClock
) -> None:
    supervisor.add([echo("a")])
    await wait_all_tasks_blocked()
    await supervisor.stop("a")
    script.connected = False
    assert (await supervisor.start("a")).status.state is S.STARTING
    assert trio.current_time() == pytest.approx(10)


async def test_a_stop_goes_on_without_the_client_who_asked(
    supervisor: Supervisor, script: Script, autojump_clock: MockClock
) -> None:
    script.busy = True
    supervisor.add([echo("a")])
    await wait_all_tasks_blocked()
    with trio.move_on_after(1):
        await supervisor.stop("a")
    assert states(supervisor) == {"a": S.DRAINING}
    await trio.sleep(5)
    assert states(supervisor) == {"a": S.STOPPED}


async def test_a_start_waits_for_the_stop_before_it(
    supervisor: Supervisor, script: Script, autojump_clock: MockClock
) -> None:
    script.busy = True
    supervisor.add([echo("a")])
    await wait_all_tasks_blocked()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.stop, "a")
        await wait_all_tasks_blocked()
        assert (await supervisor.start("a")).status.state is S.READY
    assert trio.current_time() == pytest.approx(5)


async def test_a_role_that_is_removed_is_not_started_meanwhile(
    supervisor: Supervisor, script: Script, autojump_clock: MockClock
) -> None:
    supervisor.add([echo("a"), echo("b")])
    await wait_all_tasks_blocked()
    script.busy = True
    role(script, "a").script = Script()  # which drains at once
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.remove, list(supervisor.roster))
        await wait_all_tasks_blocked()
        assert states(supervisor) == {"a": S.STOPPED, "b": S.DRAINING}
        assert (await supervisor.start("a")).status.state is S.STOPPED
    assert states(supervisor) == {}


async def test_an_unknown_role_gets_a_suggestion(supervisor: Supervisor) -> None:
    supervisor.add([echo("agent")])
    with pytest.raises(ControlError) as caught:
        await supervisor.stop("agnet")
    assert (caught.value.code, caught.value.hint) == ("not_found", "did you mean agent?")


async def test_a_daemon_that_drains_stops_all_and_starts_nothing(
    supervisor: Supervisor, script: Script, autojump_clock: MockClock
) -> None:
    supervisor.add([echo("a"), echo("b")])
    await wait_all_tasks_blocked()
    script.busy = True
    await supervisor.drain()
    assert trio.current_time() == pytest.approx(5)  # at the same time, not one by one
    assert set(states(supervisor).values()) == {S.STOPPED}
    with pytest.raises(ControlError) as caught:
        await supervisor.start("a")
    assert caught.value.code == "busy"


async def test_the_end_of_the_supervisor_ends_everything(tmp_path: Path, script: Script) -> None:
    with trio.fail_after(30):
        async with supervising(tmp_path, script) as supervisor:
            supervisor.add([echo("a"), echo("b", "one")])
            await supervisor.settled(list(supervisor.roster))
            pid = supervisor.row(supervisor.roster.get("b"))["pid"]
    assert script.cancelled == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_namespace_that_is_not_there_is_a_reason(supervisor: Supervisor) -> None:
    with trio.fail_after(30):
        supervisor.add([echo("a", "nowhere")])
        await supervisor.settled(list(supervisor.roster))
        row = supervisor.row(supervisor.roster.get("a"))
    assert (row["state"], row["reason"], row["pid"]) == ("backoff", "no namespace 'nowhere'", None)
    await supervisor.remove(list(supervisor.roster))


async def dial_refused(supervisor: Supervisor, name: str | None) -> ControlError:
    near, far = socket.socketpair()
    with near:
        with pytest.raises(ControlError) as caught:
            await supervisor.dial(name, far, "somewhere", 80, {"id": 1, "result": {}})
        assert far.fileno() == -1
    return caught.value


async def test_a_dial_wants_to_know_its_server(supervisor: Supervisor, script: Script) -> None:
    assert (await dial_refused(supervisor, None)).code == "not_found"
    supervisor.add([server("one"), server("two"), echo("a")])
    await wait_all_tasks_blocked()
    several = await dial_refused(supervisor, None)
    assert (several.code, several.message) == ("bad_request", "several servers run here: one, two")
    assert (await dial_refused(supervisor, "a")).code == "bad_request"
    assert (await dial_refused(supervisor, "three")).code == "not_found"


async def test_a_dial_goes_to_the_only_server_that_is_ready(
    supervisor: Supervisor, script: Script
) -> None:
    supervisor.add([server("one"), server("two")])
    await wait_all_tasks_blocked()
    await supervisor.stop("one")
    near, far = socket.socketpair()
    far.setblocking(False)
    with trio.socket.from_stdlib_socket(near) as client:
        await supervisor.dial(None, far, "somewhere", 80, {"id": 1, "result": {}})
        assert b"two" in await client.recv(100)
        assert role(script, "two").dialled == [("somewhere", 80)]
        assert await supervisor.connections() == {"two": 1}
