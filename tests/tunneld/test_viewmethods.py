"""Pages, kills and events as the control socket has them; the roles are fakes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ctl.messages import ControlError, Message
from tests.tunneld.fakes import Script
from tunneld.config import EchoConfig
from tunneld.eventlog import EventLog
from tunneld.events import KEPT
from tunneld.health import Health
from tunneld.logbook import LogBook, record
from tunneld.request import Request
from tunneld.roster import Roster
from tunneld.scrape import Scrape
from tunneld.supervisor import open_supervisor
from tunneld.viewmethods import ViewMethods
from tunneld.workplace import Premises


class Asker:
    """One request, whose items are kept; with ``slow`` set, each waits for `read`."""

    def __init__(self, slow: bool = False) -> None:
        self.items: list[Message] = []
        self.read = trio.Semaphore(0 if slow else 1 << 20)

    async def item(self, item: Message) -> None:
        await self.read.acquire()
        self.items.append(item)


class World:
    def __init__(self, views: ViewMethods, events: EventLog, script: Script) -> None:
        self.events = events
        self.script = script
        self._table = views.table()

    async def ask(self, method: str, asker: Asker | None = None, **params: Any) -> Message:
        row = self._table[method]
        request = cast(Request, asker or Asker())
        return await row.run(msgspec.convert(params, row.params), request)

    def happen(self, number: int, name: str = "agent.left") -> None:
        self.events.take("edge", record(float(number), "info", "text", [("n", number)], name))


@pytest.fixture
async def world(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[World]:
    script, events = Script(), EventLog()
    roster = Roster(LogBook())
    premises = Premises(tmp_path, roster.report, lambda role, line: None)
    async with open_supervisor(
        premises, lambda name: [], roster, {EchoConfig: script.factory}
    ) as supervisor:
        supervisor.add([EchoConfig(name="a"), EchoConfig(name="b")])
        await wait_all_tasks_blocked()
        views = ViewMethods(supervisor, events, Health(supervisor), Scrape(supervisor, lambda: 0))
        yield World(views, events, script)


async def test_pages_join_what_roles_have(world: World) -> None:
    for role in world.script.roles:
        role.dialled += [("x", port) for port in (1, 2, 3)]
    first = await world.ask("conns", limit=4)
    assert (len(first["conns"]), first["total"]) == (4, 6)
    second = await world.ask("conns", limit=4, after=first["next"])
    assert (len(second["conns"]), second["next"]) == (2, None)
    seen = [(row["role"], row["id"]) for row in first["conns"] + second["conns"]]
    assert sorted(seen) == [(role, number) for role in "ab" for number in range(3)]
    only = await world.ask("conns", role="b", destination="x:2")
    assert [(row["role"], row["destination"]) for row in only["conns"]] == [("b", "x:2")]


@pytest.mark.parametrize(
    ("params", "text"),
    [({"sort": "colour"}, "sort: expected one of"), ({"sort": "client", "after": [1]}, "after: ")],
)
async def test_pages_that_cannot_be_are_refused(
    world: World, params: dict[str, Any], text: str
) -> None:
    world.script.roles[0].dialled.append(("x", 1))
    with pytest.raises(ControlError, match=text) as caught:
        await world.ask("conns", **params)
    assert caught.value.code == "bad_request"


async def test_a_kill_asks_all_and_tells_of_nothing(world: World) -> None:
    with pytest.raises(ControlError, match="no connection 'x' here") as caught:
        await world.ask("kill", what="conn", name="x")
    assert (caught.value.code, caught.value.hint) == ("not_found", "see: tunnelctl conns")
    role = world.script.roles[1]
    role.kill = lambda what, name, reason: [f"{what} {name} {reason}"]  # type: ignore[method-assign]
    answer = await world.ask("kill", what="agent", name="home", reason="late")
    assert [each["name"] for each in answer["killed"]] == ["agent home late"]


async def test_events_that_were_are_told_and_then_those_to_come(world: World) -> None:
    for number in range(3):
        world.happen(number)
    world.happen(3, "dial.failed")
    asker = Asker()
    await world.ask("events", asker, since=1.0, event="agent.*")
    assert [item["fields"]["n"] for item in asker.items] == [1, 2]
    async with trio.open_nursery() as nursery:
        asker = Asker()
        nursery.start_soon(lambda: world.ask("events", asker, since=99.0, follow=True))
        await wait_all_tasks_blocked()
        assert asker.items == []
        world.happen(100)
        await wait_all_tasks_blocked()
        assert [item["fields"] for item in asker.items] == [{"n": 100, "role": "edge"}]
        nursery.cancel_scope.cancel()


async def test_a_slow_reader_misses_events_and_nobody_waits_for_it(world: World) -> None:
    asker = Asker(slow=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: world.ask("events", asker, follow=True))
        await wait_all_tasks_blocked()
        for number in range(KEPT + 10):
            world.happen(number)
        await wait_all_tasks_blocked()
        for _ in range(KEPT + 1):
            asker.read.release()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    first, *rest = asker.items
    assert (first["event"], first["fields"]) == ("events.lost", {"lost": 10})
    assert [item["fields"]["n"] for item in rest] == list(range(10, KEPT + 10))


async def test_metrics_come_in_pieces(world: World) -> None:
    asker = Asker()
    assert await world.ask("metrics", asker) == {}
    text = "".join(item["text"] for item in asker.items)
    assert "tunneld_build_info" in text
    assert text.endswith("\n")


async def test_health_has_both_pages(world: World) -> None:
    answer = await world.ask("health")
    assert [check["name"] for check in answer["alive"]] == ["daemon", "a", "b"]
    assert all(check["ok"] for check in answer["ready"])
