"""Health and metrics of a daemon whose roles are fakes: what is missing, hangs or fails is told."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.tunneld.fakes import Script
from tunneld.adminhttp import Request
from tunneld.adminpages import admin_routes
from tunneld.config import EchoConfig
from tunneld.health import Check, Health
from tunneld.logbook import LogBook
from tunneld.role import RoleState
from tunneld.roster import Roster
from tunneld.samples import metric
from tunneld.scrape import Scrape
from tunneld.supervisor import Supervisor, open_supervisor
from tunneld.workplace import Premises


class World:
    def __init__(self, supervisor: Supervisor, script: Script) -> None:
        self.supervisor = supervisor
        self.script = script
        self.health = Health(supervisor)
        self.scrape = Scrape(supervisor, lambda: 3)

    @property
    def role(self) -> Any:
        """The only one."""
        (role,) = self.script.roles
        return role

    async def page(self, path: str, **query: list[str]) -> tuple[int, str]:
        request = Request("GET", path, path, query, "", trio.Event())
        response = admin_routes(self.health, self.scrape)[path](request)
        assert not hasattr(response, "status")
        answer = await response
        return int(answer.status), answer.body.decode()


@pytest.fixture
async def world(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[World]:
    script = Script()
    roster = Roster(LogBook())
    premises = Premises(tmp_path, roster.report, lambda role, line: None)
    async with open_supervisor(
        premises, lambda name: [], roster, {EchoConfig: script.factory}
    ) as supervisor:
        supervisor.add([EchoConfig(name="echo")])
        await wait_all_tasks_blocked()
        yield World(supervisor, script)


async def test_a_daemon_that_works_is_alive_and_ready(world: World) -> None:
    assert await world.health.alive() == [Check("daemon"), Check("echo")]
    assert await world.health.ready() == [Check("daemon"), Check("echo")]
    assert await world.page("/healthz") == (200, "ok\n")
    assert await world.page("/readyz", verbose=[""]) == (200, "[+] daemon\n[+] echo\nok\n")


async def test_a_role_that_is_not_well_is_alive_but_not_ready(world: World) -> None:
    world.role.say(RoleState.BACKOFF, "no server")
    assert await world.page("/healthz") == (200, "ok\n")
    status, text = await world.page("/readyz")
    assert (status, text) == (503, "[-] echo: it is backoff: no server\ncheck failed\n")


async def test_a_role_that_was_stopped_by_hand_is_not_missed(world: World) -> None:
    await world.supervisor.stop("echo")
    assert await world.health.ready() == [Check("daemon")]


async def test_what_a_role_finds_wrong_with_itself_is_told(world: World) -> None:
    async def readiness() -> list[tuple[str, str]]:
        return [("tunnel to a", ""), ("tunnel to b", "silent")]

    world.role.readiness = readiness
    checks = await world.health.ready()
    assert [check.to_map() for check in checks[2:]] == [
        {"name": "echo: tunnel to a", "ok": True, "problem": ""},
        {"name": "echo: tunnel to b", "ok": False, "problem": "silent"},
    ]


async def test_a_data_plane_that_stands_still_is_not_alive(
    world: World, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def hang(_: Supervisor) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Supervisor, "alive", hang)
    (own, _) = await world.health.alive()
    assert own.problem == "its data plane has not answered in 2 s"


async def test_metrics_of_roles_and_of_the_daemon_are_one_text(world: World) -> None:
    world.role.metrics = lambda: [metric("tunneld_a", "gauge", "A.", [({"x": "1"}, 5)])]
    status, text = await world.page("/metrics")
    assert status == 200
    found = {family.name: family.samples for family in text_string_to_metric_families(text)}
    (sample,) = found["tunneld_a"]
    assert (sample.labels, sample.value) == ({"x": "1", "role": "echo", "kind": "echo"}, 5)
    (fds,) = found["tunneld_open_fds"]
    assert fds.labels == {"process": "tunneld"}
    assert fds.value > 0
    states = {s.labels["state"]: s.value for s in found["tunneld_role_state"]}
    assert states == {str(state): state is RoleState.READY for state in RoleState}
    assert found["tunneld_not_reloaded"][0].value == 3
