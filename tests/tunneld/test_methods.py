"""The control methods, asked over a real socket; the roles are fakes."""

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ctl.messages import Message
from tests.tunneld.control_client import ControlClient
from tests.tunneld.fakes import Script
from tests.tunneld.policies import OPEN_SERVER
from tunneld import __version__
from tunneld.config import Config, EchoConfig, Frontend, ServerConfig, TunnelListener, parse_roles
from tunneld.control import ControlServer
from tunneld.eventlog import EventLog
from tunneld.factories import Factories
from tunneld.health import Health
from tunneld.labs import open_labs
from tunneld.logbook import LINES, LogBook, record
from tunneld.methods import Facts, Methods
from tunneld.namespaces import way_into
from tunneld.notify import Notifier
from tunneld.reloader import Reloader
from tunneld.roster import Roster
from tunneld.scrape import Scrape
from tunneld.socketfile import control_socket
from tunneld.supervisor import Supervisor, open_supervisor
from tunneld.upgrade import Belongings, Upgrade
from tunneld.viewmethods import ViewMethods
from tunneld.workplace import Premises

TUNNEL = TunnelListener(listen="h:1", cert="c", key="k", client_ca="a")
SERVER = ServerConfig(
    policy=OPEN_SERVER, name="edge", frontends=(Frontend(listen="h:2"),), tunnel=TUNNEL
)
ECHO = EchoConfig(name="echo")


class World:
    """A daemon without the process around it."""

    def __init__(self, path: Path, supervisor: Supervisor, logs: LogBook, script: Script) -> None:
        self.path = path
        self.supervisor = supervisor
        self.logs = logs
        self.script = script
        self.stopped = trio.Event()
        self.events = EventLog()

    def log(self, event: str) -> None:
        self.logs.add("edge", record(time.time(), "info", event, [("n", 1)]))


@pytest.fixture
async def world(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[World]:
    script, logs = Script(), LogBook()
    roster = Roster(logs)
    premises = Premises(tmp_path, roster.report, lambda role, line: None)
    factories: Factories = {EchoConfig: script.factory, ServerConfig: script.factory}
    labs_dir = tmp_path / "labs"
    path = tmp_path / "control.sock"
    with control_socket(path) as sock:
        async with (
            open_supervisor(
                premises, lambda name: way_into(labs_dir, name), roster, factories
            ) as supervisor,
            open_labs(labs_dir, supervisor) as labs,
        ):
            world = World(path, supervisor, logs, script)
            facts = Facts(os.getpid(), path, tmp_path, 12.5)
            reloader = Reloader(supervisor, None, Config(), tmp_path)
            views = ViewMethods(
                supervisor, world.events, Health(supervisor), Scrape(supervisor, lambda: 0)
            )
            belongings = Belongings(
                path, sock, False, (), tmp_path, None, "", detached=False, notifier=Notifier()
            )
            upgrade = Upgrade(belongings, supervisor, world.stopped.set)
            methods = Methods(
                facts, supervisor, labs, logs, world.stopped.set, reloader, views, upgrade
            )
            server = ControlServer(methods.table(), "test")
            async with trio.open_nursery() as serving:
                listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
                await serving.start(server.serve, listener)
                supervisor.add([SERVER, ECHO])
                await wait_all_tasks_blocked()
                yield world
                serving.cancel_scope.cancel()


@pytest.fixture
async def client(world: World) -> AsyncIterator[ControlClient]:
    async with await ControlClient.greeted(world.path) as client:
        yield client


async def result(client: ControlClient, method: str, **params: Any) -> Message:
    answer = await client.ask(method, params)
    assert "error" not in answer, answer
    value: Message = answer["result"]
    return value


async def error(client: ControlClient, method: str, **params: Any) -> tuple[str, str]:
    reply = (await client.ask(method, params))["error"]
    return reply["code"], reply["message"]


async def test_the_status_has_facts_and_roles(client: ControlClient, tmp_path: Path) -> None:
    status = await result(client, "status")
    roles = status.pop("roles")
    assert status == {
        "pid": os.getpid(),
        "version": __version__,
        "since": 12.5,
        "control": str(tmp_path / "control.sock"),
        "state": str(tmp_path),
        "not_reloaded": [],
        "certificates": [],
    }
    assert [(role["name"], role["kind"], role["state"]) for role in roles] == [
        ("edge", "server", "ready"),
        ("echo", "echo", "ready"),
    ]
    assert (await result(client, "role.list"))["roles"] == roles


async def test_roles_tell_what_they_run_with(client: ControlClient) -> None:
    config = await result(client, "role.config")
    assert config["file"] is None
    assert parse_roles(config["roles"]) == (SERVER, ECHO)


async def test_a_stop_is_answered_first(client: ControlClient, world: World) -> None:
    assert await result(client, "stop") == {}
    await world.stopped.wait()


async def test_roles_are_stopped_and_started(client: ControlClient) -> None:
    assert (await result(client, "role.stop", name="echo"))["state"] == "stopped"
    assert (await result(client, "role.start", name="echo"))["state"] == "ready"
    assert (await result(client, "role.restart", name="echo"))["state"] == "ready"
    assert await error(client, "role.stop", name="eco") == ("not_found", "no role 'eco'")


async def test_logs_are_told_from_the_last_lines_on(client: ControlClient, world: World) -> None:
    for number in range(4):
        world.log(f"line {number}")
    await client.request(5, "role.logs", {"name": "edge", "lines": 2})
    replies = [await client.reply() for _ in range(3)]
    assert [reply["item"]["event"] for reply in replies[:2]] == ["line 2", "line 3"]
    assert replies[0]["item"]["fields"] == {"n": 1}
    assert replies[2] == {"id": 5, "end": {}}


async def test_logs_are_followed(client: ControlClient, world: World) -> None:
    await client.request(5, "role.logs", {"name": "edge", "lines": 0, "follow": True})
    await wait_all_tasks_blocked()
    world.log("news")
    assert (await client.reply())["item"]["event"] == "news"
    await world.supervisor.remove([world.supervisor.roster.get("edge")])
    assert await client.reply() == {"id": 5, "end": {}}


async def test_a_follower_that_does_not_read_loses_lines_and_is_told(
    client: ControlClient, world: World
) -> None:
    await client.request(5, "role.logs", {"name": "edge", "lines": 0, "follow": True})
    await wait_all_tasks_blocked()
    for number in range(LINES + 5):
        world.log(f"line {number}")
    assert (await client.reply())["item"]["event"] == "5 lines are lost: too many came at once"
    assert (await client.reply())["item"]["event"] == "line 5"


async def test_a_stop_does_not_wait_for_who_follows(client: ControlClient, world: World) -> None:
    await client.request(5, "role.logs", {"name": "edge", "lines": 0, "follow": True})
    await wait_all_tasks_blocked()
    async with await ControlClient.greeted(world.path) as other:
        assert await result(other, "stop") == {}
        await world.supervisor.drain()
        states = {role["state"] for role in (await result(other, "role.list"))["roles"]}
    assert states == {"stopped"}


async def test_agents_and_connections_are_listed(client: ControlClient) -> None:
    answer = await result(client, "agents")
    agents = [{"id": "demo", "server": "echo"}, {"id": "demo", "server": "edge"}]
    assert (answer["agents"], answer["total"], answer["next"]) == (agents, 2, None)
    assert (await result(client, "conns"))["conns"] == []


async def test_a_dial_turns_the_connection_into_the_endpoints(
    client: ControlClient, world: World
) -> None:
    assert await result(client, "dial", host="somewhere", port=80) == {
        "server": "edge",
        "agent": "demo",
        "peer": "edge via agent demo",
    }
    await client.put(b"abc")
    assert await client.socket.recv(100) == b"bcd"
    client.socket.shutdown(trio.socket.SHUT_WR)
    assert await client.socket.recv(100) == b"end"
    assert await client.socket.recv(100) == b""


async def test_octets_sent_ahead_of_the_reply_are_the_endpoints_too(
    client: ControlClient, world: World
) -> None:
    await client.request(1, "dial", {"host": "somewhere", "port": 80})
    await client.put(b"abc")
    assert "result" in await client.reply()
    assert await client.socket.recv(100) == b"bcd"


async def test_a_failed_dial_leaves_the_connection_as_it_was(client: ControlClient) -> None:
    assert await error(client, "dial", host="refused", port=80) == ("refused", "refused:80 refused")
    assert await result(client, "dial", host="somewhere", port=80, server="edge")


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"host": "h"}, "port"),
        ({"host": "h", "port": 0}, "dial.port: expected int >= 1"),
        ({"host": "h", "port": 70000}, "dial.port: expected int <= 65535"),
        ({"host": "", "port": 1}, "dial.host: expected str of length >= 1"),
        ({"host": "h" * 300, "port": 1}, "dial.host: expected str of length <= 253"),
        ({"host": "h", "port": 1, "x": 1}, "unknown field x"),
    ],
)
async def test_a_dial_wants_host_and_port(
    client: ControlClient, params: dict[str, Any], says: str
) -> None:
    code, message = await error(client, "dial", **params)
    assert code == "bad_request"
    assert says in message


async def test_a_client_that_vanishes_gives_its_dial_up(
    world: World, autojump_clock: MockClock
) -> None:
    client = await ControlClient.greeted(world.path)
    await client.request(1, "dial", {"host": "slow", "port": 80})
    await wait_all_tasks_blocked()
    client.close()
    await trio.sleep(1)
    edge = next(role for role in world.script.roles if role.config.name == "edge")
    assert edge.dialled == [("slow", 80)]
    assert edge.given_up == 1


async def test_labs_that_are_not_there_are_not_found(client: ControlClient) -> None:
    assert await result(client, "ns.list") == {"labs": []}
    for method in ("ns.check", "ns.graph", "ns.down"):
        assert await error(client, method, name="x") == ("not_found", "no lab 'x'")
    assert (await error(client, "ns.enter", namespace="x"))[0] == "not_found"


async def test_a_bad_topology_is_refused_with_its_place(client: ControlClient) -> None:
    topology = {"name": "t", "namespace": [{"name": "one", "forwards": 3}]}
    code, message = await error(client, "ns.up", topology=topology)
    assert (code, message.partition(":")[0]) == ("bad_request", "namespace[0].forwards")
