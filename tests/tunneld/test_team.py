"""Roles of several processes: real workers, real servers and agents, on loopback."""

import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from ctl.messages import ControlError, Message
from tests.interop.konnectivity.processes import free_port
from tests.tunneld.policies import OPEN_AGENT, OPEN_SERVER
from tunneld.backoff import Backoff
from tunneld.client import Client, connect
from tunneld.config import (
    AgentConfig,
    EchoConfig,
    Frontend,
    ServerConfig,
    TunnelListener,
    WebsocketListener,
)
from tunneld.logbook import LogBook
from tunneld.role import RoleState
from tunneld.roster import Entry, Roster
from tunneld.supervisor import Supervisor, open_supervisor
from tunneld.workplace import Premises

PATIENCE = 30
"""Seconds that a test may take; each needs two or three."""
FRONTEND, TUNNEL, ENDPOINT = 0, 1, 2


class World:
    """A server and an agent of several processes each, and an endpoint."""

    def __init__(self, pki: Path, unix: Path, supervisor: Supervisor) -> None:
        self.pki = pki
        self.unix = unix
        self.supervisor = supervisor
        self.ports = [free_port() for _ in range(3)]

    def server(self, **options: Any) -> ServerConfig:
        return ServerConfig(
            policy=OPEN_SERVER,
            name="server",
            frontends=(
                Frontend(
                    listen=f"127.0.0.1:{self.ports[FRONTEND]}",
                    cert="frontend/server.crt",
                    key="frontend/server.key",
                    client_ca="frontend/ca.crt",
                ),
                Frontend(listen=f"unix:{self.unix}"),
            ),
            tunnel=TunnelListener(
                listen=f"127.0.0.1:{self.ports[TUNNEL]}",
                cert="agent/server.crt",
                key="agent/server.key",
                client_ca="agent/ca.crt",
            ),
            **{"processes": 2, "drain_timeout": 1.0, **options},
        )

    def agent(self, **options: Any) -> AgentConfig:
        return AgentConfig(
            policy=OPEN_AGENT,
            name="agent",
            server=f"127.0.0.1:{self.ports[TUNNEL]}",
            cert="agent/agent.crt",
            key="agent/agent.key",
            ca="agent/ca.crt",
            **{"backoff_min": 0.01, "backoff_max": 0.05, "drain_timeout": 1.0, **options},
        )

    def entry(self, name: str) -> Entry:
        return self.supervisor.roster.get(name)

    async def begin(self, agent: AgentConfig, tunnels: int, **server: Any) -> None:
        """Start all, and wait for so many tunnels."""
        endpoint = EchoConfig(name="echo", listen=f"127.0.0.1:{self.ports[ENDPOINT]}")
        self.supervisor.add([self.server(**server), agent, endpoint])
        assert await self.supervisor.settled(list(self.supervisor.roster))
        await self.tunnels(tunnels)

    async def tunnels(self, count: int) -> None:
        """Wait until there are so many."""
        while len(await self.agents()) != count:  # noqa: ASYNC110 - workers tell nothing
            await trio.sleep(0.02)

    async def agents(self) -> list[Message]:
        """Rows of all processes."""
        answers = await self.supervisor.ask_all("agents", {})
        return [row for _, answer in answers for row in answer["rows"]]

    async def until(self, true: Callable[[], object]) -> None:
        await self.supervisor.roster.wait_until(lambda: bool(true()))

    @asynccontextmanager
    async def client(self, *, unix: bool = False) -> AsyncIterator[Client]:
        if unix:
            async with connect(f"unix:{self.unix}") as client:
                yield client
        else:
            directory = self.pki / "frontend"
            async with connect(
                f"127.0.0.1:{self.ports[FRONTEND]}",
                cert=directory / "client.crt",
                key=directory / "client.key",
                ca=directory / "ca.crt",
            ) as client:
                yield client

    async def echo(self, count: int, *, unix: bool = False) -> None:
        """Open so many connections, all of them together, and use each."""
        async with self.client(unix=unix) as client:
            port = self.ports[ENDPOINT]
            streams = [await client.dial("127.0.0.1", port) for _ in range(count)]
            assert (await self.supervisor.connections()).total() == 2 * count  # at both ends
            for number, stream in enumerate(streams):
                await stream.send_all(b"number %d" % number)
                await stream.send_eof()
            for number, stream in enumerate(streams):
                octets = b""
                while more := await stream.receive_some():
                    octets += more
                assert octets == b"number %d" % number
                await stream.aclose()

    def children(self) -> list[int]:
        """Processes that this one has spawned."""
        path = Path(f"/proc/self/task/{os.getpid()}/children")
        return [int(word) for word in path.read_text().split()]


@pytest.fixture
async def world(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    roster = Roster(LogBook())
    premises = Premises(
        state_dir=pki,
        report=roster.report,
        log_line=lambda name, line: None,
        backoff=lambda: Backoff(0.01, 0.01),
    )
    with trio.fail_after(PATIENCE):
        async with open_supervisor(premises, lambda name: [name], roster) as supervisor:
            yield World(pki, tmp_path / "front.sock", supervisor)
            await supervisor.drain()


@pytest.mark.parametrize("processes", [1, 2])
async def test_agents_have_a_tunnel_to_each_process(world: World, processes: int) -> None:
    await world.begin(world.agent(processes=processes), 2 * processes)
    rows = await world.agents()
    assert {(row["id"], row["server"]) for row in rows} == {("demo", "server")}
    assert len({row["peer"] for row in rows}) == 2 * processes
    assert world.entry("server").status.addresses[0] == f"127.0.0.1:{world.ports[FRONTEND]}"
    await world.until(lambda: world.entry("agent").status.reason == "connected to 2 of 2 servers")
    await world.echo(12)
    await world.echo(12, unix=True)


async def test_websockets_are_dealt_out_to_the_processes_too(world: World) -> None:
    address = f"127.0.0.1:{free_port()}"
    agent = msgspec.structs.replace(world.agent(), server=f"ws://{address}/tunnel")
    await world.begin(agent, 2, websocket=WebsocketListener(listen=address))
    await world.until(lambda: world.entry("agent").status.reason == "connected to 2 of 2 servers")
    await world.echo(4)


async def test_local_dials_go_to_the_processes_in_turn(world: World) -> None:
    await world.begin(world.agent(), 2)
    ours = []
    for _ in range(4):
        mine, its = socket.socketpair()
        ours.append(mine)
        reply = {"id": 1, "result": {}}
        await world.supervisor.dial(None, its, "127.0.0.1", world.ports[ENDPOINT], reply)
    assert [row["conns"] for row in await world.agents()] == [2, 2]
    for sock in ours:
        sock.close()


async def test_a_process_that_dies_is_replaced(world: World) -> None:
    await world.begin(world.agent(), 2)
    server = world.entry("server")
    first = world.supervisor.row(server)["pid"]
    os.kill(first, signal.SIGKILL)
    await world.until(lambda: server.status.state is RoleState.BACKOFF)
    assert "process 1 of 2: the worker ended: killed by SIGKILL" in server.status.reason
    await world.until(lambda: server.status.state is RoleState.READY)
    assert server.status.restarts == 1
    assert world.supervisor.row(server)["pid"] != first
    await world.tunnels(2)
    await world.echo(8)
    await world.echo(8, unix=True)


async def test_a_stopped_role_leaves_nothing_and_can_be_started_again(world: World) -> None:
    await world.begin(world.agent(), 2)
    assert len(world.children()) == 2  # the agent runs in this process
    await world.supervisor.stop("server")
    assert world.entry("server").status.state is RoleState.STOPPED
    assert world.children() == []
    assert not world.unix.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", world.ports[FRONTEND]))
    with pytest.raises(ControlError):
        await world.supervisor.dial("server", socket.socket(), "127.0.0.1", 1, {"result": {}})
    await world.supervisor.start("server")
    await world.tunnels(2)
    await world.echo(4)
    await world.supervisor.remove([world.entry("server")])
    assert world.children() == []


async def test_one_that_is_stopped_before_it_began_leaves_nothing(world: World) -> None:
    world.supervisor.add([world.server()])
    await world.supervisor.stop("server")
    assert not world.unix.exists()
    await world.supervisor.start("server")
    assert world.entry("server").status.state is RoleState.READY


async def test_a_socket_that_cannot_be_listened_on_is_said(world: World) -> None:
    world.unix = world.unix.parent / "nowhere" / "front.sock"
    world.supervisor.add([world.server()])
    await world.supervisor.settled(list(world.supervisor.roster))
    status = world.entry("server").status
    assert status.state is RoleState.FAILED
    assert "nowhere/front.sock: No such file or directory" in status.reason
    world.unix.parent.mkdir()
    await world.supervisor.start("server")
    assert world.entry("server").status.state is RoleState.READY


async def test_a_port_that_is_taken_is_said_of_each_process(world: World) -> None:
    with socket.create_server(("127.0.0.1", world.ports[TUNNEL])):
        world.supervisor.add([world.server()])
        server = world.entry("server")
        await world.until(lambda: server.status.state is RoleState.BACKOFF)
        assert "Address already in use" in server.status.reason
    await world.until(lambda: server.status.state is RoleState.READY)
