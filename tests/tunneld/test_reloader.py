"""What a reload does to roles, which are fakes here, and what it refuses."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ctl.messages import ControlError
from tests.tunneld.fake_worker import COMMAND
from tests.tunneld.fakes import FakeRole, Script
from tunneld.config import AgentConfig, EchoConfig, RoleConfig
from tunneld.configdiff import Change, How
from tunneld.configfile import load_config
from tunneld.factories import Factories
from tunneld.logbook import LogBook
from tunneld.notify import Notifier
from tunneld.prepared import FileChange, Prepared
from tunneld.reloader import CONFIG_FILE, Reloader
from tunneld.reloading import Hangups, reload_on_change, reload_on_hangup
from tunneld.role import Host, Role, RoleError, RoleState
from tunneld.roster import Roster
from tunneld.supervisor import Supervisor, open_supervisor
from tunneld.workplace import Premises

AGENT = """
[[role]]
kind = "agent"
name = "home"
server = "127.0.0.1:1"
ca = "{pki}/agent/ca.crt"
cert = "{pki}/agent/agent.crt"
key = "{pki}/agent/agent.key"
policy = {{ open = true }}
"""
ECHO = """
[[role]]
kind = "echo"
name = "{name}"
listen = "127.0.0.1:{port}"
"""


class ReloadableRole(FakeRole):
    """Has files that are as the test says."""

    trouble = ""
    changes: tuple[FileChange, ...] = ()

    def prepare(self, config: RoleConfig) -> Prepared:
        if self.trouble:
            raise RoleError(self.trouble)
        return Prepared(self.changes, lambda: setattr(self, "config", config))


@dataclass
class World:
    """A daemon's supervisor and reloader."""

    file: Path
    pki: Path
    supervisor: Supervisor
    reloader: Reloader
    script: Script
    told: list[Change] = field(default_factory=list)

    def write(self, *tables: str) -> None:
        self.file.write_text("".join(tables))

    def agent(self, more: str = "") -> str:
        return AGENT.format(pki=self.pki) + more

    async def reload(self) -> list[Change]:
        async def tell(change: Change) -> None:
            self.told.append(change)

        return await self.reloader.reload(tell)

    def role(self, name: str) -> ReloadableRole:
        [found] = [role for role in self.script.roles if role.config.name == name]
        assert isinstance(found, ReloadableRole)
        return found

    def names(self) -> list[str]:
        return [entry.name for entry in self.supervisor.roster]


@asynccontextmanager
async def open_world(
    tmp_path: Path, pki: Path, text: str | None = None, *, config: bool = True
) -> AsyncIterator[World]:
    script = Script()

    def make(config: RoleConfig, host: Host) -> Role:
        return ReloadableRole(config, host, script)

    file = tmp_path / "t.toml"
    file.write_text(
        AGENT.format(pki=pki) + ECHO.format(name="echo", port=7) if text is None else text
    )
    loaded = load_config(file)
    roster = Roster(LogBook())
    premises = Premises(tmp_path, roster.report, lambda name, line: None, COMMAND)
    factories: Factories = {AgentConfig: make, EchoConfig: make}
    async with open_supervisor(premises, lambda name: [], roster, factories) as supervisor:
        supervisor.add(loaded.role)
        await supervisor.settled(list(roster))
        reloader = Reloader(supervisor, file if config else None, loaded, tmp_path)
        yield World(file, pki, supervisor, reloader, script)


@pytest.fixture
async def world(tmp_path: Path, pki: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, pki) as opened:
        yield opened


async def test_a_live_change_reaches_the_running_role(world: World) -> None:
    before = world.role("home")
    world.write(world.agent("keepalive = 3.0\n"), ECHO.format(name="echo", port=7))
    change = Change("home", "keepalive", "10.0", "3.0", How.LIVE)
    assert await world.reload() == [change] == world.told
    assert world.role("home") is before
    assert isinstance(before.config, AgentConfig)
    assert before.config.keepalive == 3.0
    assert await world.reload() == []


async def test_a_look_at_it_changes_nothing(world: World) -> None:
    world.write(world.agent("keepalive = 3.0\n"))
    assert await world.reloader.plan() == [
        Change("echo", "", "", "", How.REMOVE),
        Change("home", "keepalive", "10.0", "3.0", How.LIVE),
    ]
    role = world.role("home")
    assert isinstance(role.config, AgentConfig)
    assert role.config.keepalive == 10.0
    assert world.names() == ["home", "echo"]


async def test_one_role_restarts_alone(world: World) -> None:
    before = world.role("home")
    world.write(world.agent(), ECHO.format(name="echo", port=8))
    assert await world.reload() == [
        Change("echo", "listen", "127.0.0.1:7", "127.0.0.1:8", How.RESTART)
    ]
    assert world.role("home") is before
    assert world.script.drained == 1
    assert world.role("echo").config == EchoConfig(name="echo", listen="127.0.0.1:8")


async def test_roles_come_and_go(world: World) -> None:
    world.write(ECHO.format(name="new", port=9))
    assert [(change.role, change.how) for change in await world.reload()] == [
        ("home", How.REMOVE),
        ("echo", How.REMOVE),
        ("new", How.ADD),
    ]
    assert world.names() == ["new"]
    assert world.role("new").config.name == "new"


async def test_a_role_moves_to_other_processes_and_back(world: World) -> None:
    world.write(world.agent(), ECHO.format(name="echo", port=7), 'namespace = "n"\n')
    await world.reload()
    entry = world.supervisor.roster.get("echo")
    assert entry.config.namespace == "n"
    assert world.supervisor.row(entry)["pid"] != os.getpid()
    world.write(world.agent(), ECHO.format(name="echo", port=7))
    await world.reload()
    assert world.supervisor.row(entry)["pid"] == os.getpid()
    assert world.role("echo").config.namespace is None


async def test_mistakes_are_all_told_and_nothing_changes(world: World) -> None:
    world.write(world.agent('keepalive = "x"\nnonsense = 1\n'), ECHO.format(name="echo", port=8))
    with pytest.raises(ControlError) as caught:
        await world.reload()
    assert caught.value.code == "failed"
    assert "keepalive" in caught.value.message
    assert "nonsense" in caught.value.message
    assert world.role("echo").config == EchoConfig(name="echo", listen="127.0.0.1:7")
    assert world.told == []
    assert world.reloader.problems[CONFIG_FILE] == caught.value.message
    world.write(world.agent(), ECHO.format(name="echo", port=7))
    await world.reload()
    assert world.reloader.problems == {}


async def test_a_role_that_cannot_use_its_files_keeps_all_others_from_changing(
    world: World,
) -> None:
    world.role("home").trouble = "cannot use x.crt"
    world.write(world.agent("keepalive = 3.0\n"), ECHO.format(name="echo", port=8))
    with pytest.raises(ControlError, match=r"role home: cannot use x\.crt"):
        await world.reload()
    assert world.role("echo").config == EchoConfig(name="echo", listen="127.0.0.1:7")
    assert world.supervisor.roster.get("home").config == load(world, "home")


def load(world: World, name: str) -> RoleConfig:
    return next(role for role in world.reloader.config.role if role.name == name)


async def test_changes_in_files_are_told(world: World) -> None:
    world.role("home").changes = (FileChange("cert", "one", "two"),)
    assert await world.reload() == [Change("home", "cert", "one", "two", How.LIVE)]


async def test_a_role_that_was_stopped_by_hand_stays_so(world: World) -> None:
    await world.supervisor.stop("echo")
    world.write(world.agent(), ECHO.format(name="echo", port=8))
    await world.reload()
    entry = world.supervisor.roster.get("echo")
    assert entry.status.state is RoleState.STOPPED
    assert entry.config == EchoConfig(name="echo", listen="127.0.0.1:8")


async def test_roles_of_labs_are_left_alone_but_for_their_files(world: World) -> None:
    world.supervisor.add([EchoConfig(name="demo")], "lab")
    await wait_all_tasks_blocked()
    world.role("demo").changes = (FileChange("cert", "one", "two"),)
    world.write()
    changes = await world.reload()
    assert Change("demo", "cert", "one", "two", How.LIVE) in changes
    assert world.names() == ["demo"]


async def test_a_name_that_a_lab_has_is_refused(world: World) -> None:
    world.supervisor.add([EchoConfig(name="demo")], "lab")
    world.write(ECHO.format(name="demo", port=9))
    with pytest.raises(ControlError, match="there is one of that name already, of the lab 'lab'"):
        await world.reload()
    assert world.names() == ["home", "echo", "demo"]


async def test_a_role_that_does_not_come_back_is_told(world: World) -> None:
    def fail() -> None:
        raise RoleError("port is taken")

    world.script.run = fail
    world.write(world.agent(), ECHO.format(name="echo", port=8))
    with pytest.raises(ControlError, match="role echo: backoff, port is taken"):
        await world.reload()


async def test_a_client_that_leaves_before_anything_was_done_leaves_everything(
    world: World,
) -> None:
    async def leave(change: Change) -> None:
        raise trio.BrokenResourceError

    world.write()
    with pytest.raises(trio.BrokenResourceError):
        await world.reloader.reload(leave)
    assert world.names() == ["home", "echo"]


async def test_without_a_file_only_files_of_roles_are_looked_at(tmp_path: Path, pki: Path) -> None:
    async with open_world(tmp_path, pki, config=False) as world:
        world.write("nonsense")
        assert await world.reload() == []
        assert world.reloader.files() == {
            "home": [f"{pki}/agent/{name}" for name in ("agent.crt", "agent.key", "ca.crt")],
            "echo": [],
        }


async def test_what_changes_on_disk_takes_effect(world: World, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reload_on_change, world.reloader)
        world.write(world.agent(), ECHO.format(name="echo", port=8))
        await wait_for(lambda: len(world.script.started) == 3)
        world.write("nonsense")
        await wait_for(lambda: CONFIG_FILE in world.reloader.problems)
        world.write(world.agent("keepalive = 3.0\n"), ECHO.format(name="echo", port=8))
        await wait_for(lambda: not world.reloader.problems)
        nursery.cancel_scope.cancel()
    assert getattr(world.role("home").config, "keepalive", None) == 3.0


async def test_a_file_that_cannot_be_used_is_noted_until_it_can(world: World) -> None:
    world.role("home").trouble = "cannot use x.crt"
    await world.reloader.reload_files(["home", "nobody"])
    assert world.reloader.problems == {"home": "cannot use x.crt"}
    world.role("home").trouble = ""
    await world.reloader.reload_files(["home"])
    assert world.reloader.problems == {}


async def test_nothing_is_watched_where_that_is_not_wanted(tmp_path: Path, pki: Path) -> None:
    async with open_world(tmp_path, pki, "watch = false\n") as world:
        assert world.reloader.files() == {}
        world.write("watch = true\n")
        assert await world.reload() == [Change("", "watch", "false", "true", How.LIVE)]
        assert world.reloader.files() == {CONFIG_FILE: [str(world.file)]}


async def test_settings_of_the_daemon_wait_for_a_new_process(world: World) -> None:
    world.write('[log]\nlevel = "debug"\n', world.agent(), ECHO.format(name="echo", port=7))
    change = Change("", "log.level", "info", "debug", How.UPGRADE)
    assert await world.reload() == [change]
    assert await world.reload() == [change]  # as there is none yet


async def test_a_hangup_reloads(world: World) -> None:
    hangups = Hangups()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reload_on_hangup, world.reloader, hangups, Notifier())
        world.write(world.agent())
        hangups.tell()
        await wait_for(lambda: world.names() == ["home"])
        world.write("nonsense")
        hangups.tell()
        await wait_for(lambda: CONFIG_FILE in world.reloader.problems)
        nursery.cancel_scope.cancel()


async def wait_for(true: Callable[[], object]) -> None:
    while not true():  # noqa: ASYNC110 - nothing tells about it
        await trio.sleep(0.01)
