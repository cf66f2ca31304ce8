"""Real labs of one or two namespaces, whose roles are fakes in real workers."""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
import trio

from ctl.messages import ControlError, Message
from netns import LabState, read_lab
from tests.conftest import need
from tests.tunneld.fake_worker import COMMAND
from tunneld.backoff import Backoff
from tunneld.labs import Labs, open_labs
from tunneld.logbook import LogBook
from tunneld.namespaces import way_into
from tunneld.role import RoleState
from tunneld.roster import Roster
from tunneld.supervisor import Supervisor, open_supervisor
from tunneld.workplace import Premises

PATIENCE = 60
"""Seconds that a test may take; each needs one or two."""

NAME = f"lt{os.getpid()}"


def plan(*roles: str, second: bool = False) -> Message:
    """A topology with one namespace, or two; ``roles`` are what `fake_worker` does."""
    tables = [
        {"kind": "echo", "name": todo, "namespace": "one", "listen": f"{todo}:1"} for todo in roles
    ]
    spaces = [{"name": "one"}, *([{"name": "two"}] if second else [])]
    return {"name": "test", "namespace": spaces, "role": tables}


class World:
    """Labs, their supervisor, and the steps they took."""

    def __init__(self, supervisor: Supervisor, labs: Labs) -> None:
        self.supervisor = supervisor
        self.labs = labs
        self.steps: list[tuple[str, str]] = []

    async def emit(self, item: Message) -> None:
        self.steps.append((str(item["step"]), str(item["state"])))

    async def up(self, *roles: str, second: bool = False, bare: bool = False) -> Message:
        topology = plan(*roles, second=second)
        return await self.labs.up(NAME, topology, self.emit, bare=bare)

    async def down(self) -> Message:
        return await self.labs.down(NAME, self.emit)

    async def down_if_up(self) -> None:
        if self.labs.files.path(NAME).exists():
            await self.down()

    @property
    def states(self) -> dict[str, RoleState]:
        return {entry.name: entry.status.state for entry in self.supervisor.roster}

    @property
    def path(self) -> Path:
        return self.labs.files.path(NAME)

    def left(self) -> list[Path]:
        """What there still is of the lab."""
        return [path for path in (self.path, Path("/run/netns", f"{NAME}-one")) if path.exists()]


@asynccontextmanager
async def open_labs_only(directory: Path) -> AsyncIterator[World]:
    """A daemon's labs, to which nothing is done in the end but what the daemon does."""
    roster = Roster(LogBook())
    premises = Premises(
        state_dir=directory,
        report=roster.report,
        log_line=lambda name, line: None,
        worker=COMMAND,
        backoff=lambda: Backoff(0.01, 0.1),
    )
    labs_dir = directory / "labs"
    with trio.fail_after(PATIENCE):
        async with (
            open_supervisor(premises, lambda name: way_into(labs_dir, name), roster) as supervisor,
            open_labs(labs_dir, supervisor) as labs,
        ):
            yield World(supervisor, labs)


@asynccontextmanager
async def open_world(directory: Path) -> AsyncIterator[World]:
    """The same, and the lab is taken down in the end."""
    async with open_labs_only(directory) as world:
        try:
            yield world
        finally:
            with trio.CancelScope(shield=True):
                await world.down_if_up()


async def _try(directory: Path) -> ControlError | None:
    async with open_world(directory) as world:
        try:
            await world.up(bare=True)
        except ControlError as exc:
            return exc
    return None


@pytest.fixture(scope="module")
def _possible(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips the tests where the kernel forbids namespaces."""
    error = trio.run(_try, tmp_path_factory.mktemp("try"))
    need(error is None or error.code != "forbidden", str(error))
    assert error is None


@pytest.fixture
async def world(tmp_path: Path, _possible: None) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


async def fails(action: Callable[[], Awaitable[object]]) -> ControlError:
    with pytest.raises(ControlError) as caught:
        await action()
    return caught.value


async def test_a_lab_comes_up_with_its_roles_and_goes_without_trace(world: World) -> None:
    result = await world.up("ready")
    assert result["name"] == NAME
    assert result["namespaces"] == [f"{NAME}-one"]
    assert result["roles"] == [f"{NAME}/ready"]
    assert len(result["next"]) == 3
    assert (f"role {NAME}/ready", "done") in world.steps
    assert world.states == {f"{NAME}/ready": RoleState.READY}
    assert (world.path / "pki" / "frontend" / "ca.key").stat().st_mode & 0o777 == 0o600
    assert await world.down() == {"name": NAME}
    assert world.states == {}
    assert world.left() == []


async def test_a_role_is_inside_of_its_namespace(world: World) -> None:
    await world.up("ready")
    (entry,) = world.supervisor.roster
    pid = world.supervisor.row(entry)["pid"]
    assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")  # noqa: PTH115


async def test_a_second_up_changes_nothing(world: World) -> None:
    first = await world.up("ready")
    before = world.labs.files.rows(), [world.supervisor.row(e) for e in world.supervisor.roster]
    world.steps.clear()
    assert await world.up("ready") == first
    assert {state for step, state in world.steps if step != "certificates"} == {"skip"}
    after = world.labs.files.rows(), [world.supervisor.row(e) for e in world.supervisor.roster]
    assert after == before


async def test_a_lab_that_stands_is_not_replaced_by_another(world: World) -> None:
    await world.up("ready")
    error = await fails(lambda: world.up("ready", second=True))
    assert error.code == "exists"
    assert world.states == {f"{NAME}/ready": RoleState.READY}
    assert world.labs.files.stands(NAME)


async def test_other_roles_replace_the_present_ones(world: World) -> None:
    await world.up("ready")
    await world.up("ready", "stay")
    assert set(world.states) == {f"{NAME}/ready", f"{NAME}/stay"}
    await world.up("ready")
    assert set(world.states) == {f"{NAME}/ready"}


async def test_a_bare_lab_has_certificates_and_no_roles(world: World) -> None:
    result = await world.up("ready", bare=True)
    assert result["roles"] == []
    assert world.states == {}
    assert (world.path / "pki" / "agent" / "agent.crt").exists()


async def test_a_role_stopped_by_hand_stays_stopped(world: World) -> None:
    await world.up("ready")
    await world.supervisor.stop(f"{NAME}/ready")
    await world.up("ready")
    assert world.states == {f"{NAME}/ready": RoleState.STOPPED}


async def test_bad_roles_undo_the_network(world: World) -> None:
    topology = {**plan(), "role": [{"kind": "ecco", "name": "e", "namespace": "one"}]}
    error = await fails(lambda: world.labs.up(NAME, topology, world.emit))
    assert error.code == "bad_request"
    assert "did you mean echo?" in error.message
    assert world.left() == []


async def test_a_name_that_is_taken_undoes_the_network(world: World) -> None:
    twice = [{"kind": "echo", "name": "e", "namespace": "one", "listen": "ready:1"}] * 2
    error = await fails(lambda: world.labs.up(NAME, {**plan(), "role": twice}, world.emit))
    assert "taken by role[0].name" in error.message
    assert world.left() == []


async def test_a_client_that_leaves_undoes_what_it_began(world: World) -> None:
    with trio.move_on_after(30) as scope:

        async def leave(item: Message) -> None:
            if item["step"] == f"role {NAME}/raise":
                scope.cancel()

        with structlog.testing.capture_logs():
            await world.labs.up(NAME, plan("raise"), leave)
    assert scope.cancelled_caught
    assert world.states == {}
    assert world.left() == []


async def test_a_client_that_leaves_in_mid_build_undoes_it_too(world: World) -> None:
    async def leave(item: Message) -> None:
        if item["step"] == f"namespace {NAME}-one":
            raise trio.BrokenResourceError

    with structlog.testing.capture_logs(), pytest.raises(trio.BrokenResourceError):
        await world.labs.up(NAME, plan("ready"), leave)
    assert world.left() == []


async def test_a_down_goes_on_without_its_client(world: World) -> None:
    await world.up("ready")

    async def leave(item: Message) -> None:
        raise trio.BrokenResourceError

    await world.labs.down(NAME, leave)
    assert world.left() == []


async def test_a_worker_that_is_killed_comes_back_in_its_namespace(world: World) -> None:
    await world.up("ready")
    (entry,) = world.supervisor.roster
    os.kill(world.supervisor.row(entry)["pid"], signal.SIGKILL)
    await world.supervisor.roster.wait_until(lambda: entry.status.state is RoleState.BACKOFF)
    await world.supervisor.roster.wait_until(lambda: entry.status.state is RoleState.READY)
    assert entry.status.restarts == 1


async def test_a_lab_that_is_not_there_is_not_found(world: World) -> None:
    assert (await fails(world.down)).code == "not_found"
    assert (await fails(lambda: world.labs.check(NAME, world.emit))).code == "not_found"
    with pytest.raises(ControlError, match="no lab"):
        world.labs.graph(NAME)


@pytest.mark.parametrize("name", ["../x", "a b", "x" * 100])
async def test_a_lab_needs_a_name(world: World, name: str) -> None:
    for action in (world.labs.up(name, None, world.emit), world.labs.down(name, world.emit)):
        with pytest.raises(ControlError) as caught:
            await action
        assert caught.value.code == "bad_request"


async def test_a_lab_is_listed_checked_and_drawn(world: World) -> None:
    await world.up(bare=True)
    (row,) = world.labs.files.rows()
    assert (row["name"], row["state"]) == (NAME, "up")
    assert row["namespaces"] == [{"name": f"{NAME}-one", "addresses": []}]
    checks: list[Message] = []

    async def take(item: Message) -> None:
        checks.append(item)

    assert await world.labs.check(NAME, take) == {"ok": True}
    assert checks[0]["ok"] is True
    graph = world.labs.graph(NAME)
    assert [space["name"] for space in graph["topology"]["namespace"]] == ["one"]
    assert f"{NAME}-one" in graph["drawing"]


async def test_a_damaged_journal_is_shown_and_taken_down(world: World) -> None:
    await world.up(bare=True)
    (world.path / "journal.json").write_text("nonsense")
    with structlog.testing.capture_logs() as logs:
        (row,) = world.labs.files.rows()
    assert (row["name"], row["state"]) == (NAME, "broken")
    assert logs[0]["event"] == "journal of a lab is damaged"
    with structlog.testing.capture_logs():
        await world.down()
    assert world.left() == []


@pytest.mark.usefixtures("_possible")
async def test_the_end_of_the_daemon_leaves_labs_of_root_and_no_others(tmp_path: Path) -> None:
    async with open_labs_only(tmp_path) as world:
        await world.up("ready")
    lab = read_lab(world.path)
    if os.geteuid() != 0:
        assert lab is None
        assert world.left() == []
        return
    assert lab is not None
    assert lab.state is LabState.UP
    async with open_world(tmp_path) as world:  # a successor adopts it
        await world.up("ready")
        assert (f"namespace {NAME}-one", "skip") in world.steps
        assert world.states == {f"{NAME}/ready": RoleState.READY}


@pytest.mark.root
async def test_a_lab_that_lost_a_namespace_is_built_anew(world: World) -> None:
    await world.up("ready")
    assert way_into(world.labs.files.directory, f"{NAME}-one")
    code = f"umount /run/netns/{NAME}-one && rm /run/netns/{NAME}-one"
    await trio.run_process(["sh", "-c", code])
    assert world.labs.files.rows()[0]["state"] == "broken"
    await world.up("ready")
    assert world.labs.files.rows()[0]["state"] == "up"
    assert world.states == {f"{NAME}/ready": RoleState.READY}
