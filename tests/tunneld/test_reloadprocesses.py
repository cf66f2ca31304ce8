"""Reloads of roles that run in other processes."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import trio

from ctl.messages import ControlError
from tests.tunneld.test_team import PATIENCE, World
from tunneld.backoff import Backoff
from tunneld.logbook import LogBook
from tunneld.registrar import Registrar
from tunneld.roster import Roster
from tunneld.supervisor import open_supervisor
from tunneld.workplace import Premises


@pytest.fixture
def registrar(tmp_path: Path) -> Registrar:
    """Certificates that a test may change."""
    registrar = Registrar(tmp_path / "pki")
    registrar.init(["127.0.0.1"], "demo")
    return registrar


@pytest.fixture
async def world(registrar: Registrar, tmp_path: Path) -> AsyncIterator[World]:
    roster = Roster(LogBook())
    premises = Premises(
        state_dir=registrar.directory,
        report=roster.report,
        log_line=lambda name, line: None,
        backoff=lambda: Backoff(0.01, 0.01),
    )
    with trio.fail_after(PATIENCE):
        async with open_supervisor(premises, lambda name: [], roster) as supervisor:
            yield World(registrar.directory, tmp_path / "front.sock", supervisor)
            await supervisor.drain()


async def test_all_processes_of_a_role_have_the_new_files(
    world: World, registrar: Registrar
) -> None:
    await world.begin(world.agent(namespace="here"), tunnels=2)
    server, agent = world.entry("server"), world.entry("agent")
    assert await world.supervisor.reload(server, server.config, apply=True) == []
    registrar.renew()
    looked = await world.supervisor.reload(server, server.config, apply=False)
    done = await world.supervisor.reload(server, server.config, apply=True)
    assert looked == done
    assert [change.field for change in done] == [
        "frontends[0].cert",
        "frontends[0].key",
        "tunnel.cert",
        "tunnel.key",
    ]
    assert await world.supervisor.reload(server, server.config, apply=True) == []
    changes = await world.supervisor.reload(agent, agent.config, apply=True)
    assert [change.field for change in changes] == ["cert", "key"]
    await world.echo(4)


async def test_a_worker_that_comes_after_the_reload_has_the_new_configuration(
    world: World,
) -> None:
    await world.begin(world.agent(namespace="here"), tunnels=2)
    agent = world.entry("agent")
    config = msgspec.structs.replace(agent.config, connect_timeout=0.5)
    await world.supervisor.reload(agent, config, apply=True)
    assert agent.config == config
    tenant = world.supervisor._lodgings["here"].place._tenants["agent"]  # type: ignore[union-attr]
    assert tenant.config == config


async def test_what_one_process_cannot_use_is_told(world: World, registrar: Registrar) -> None:
    await world.begin(world.agent(), tunnels=2)
    server = world.entry("server")
    (registrar.directory / "agent/server.crt").write_text("nonsense")
    with pytest.raises(ControlError, match=r"cannot use certificate .*server\.crt"):
        await world.supervisor.reload(server, server.config, apply=False)
    await world.echo(4)


async def test_each_certificate_of_several_processes_is_listed_once(world: World) -> None:
    await world.begin(world.agent(), tunnels=2)
    rows = await world.supervisor.certificates()
    assert sorted((row["role"], row["key"], row["kind"]) for row in rows) == [
        ("agent", "ca", "ca"),
        ("agent", "cert", "cert"),
        ("server", "frontends[0].cert", "cert"),
        ("server", "frontends[0].client-ca", "ca"),
        ("server", "tunnel.cert", "cert"),
        ("server", "tunnel.client-ca", "ca"),
    ]


async def test_a_role_gets_another_number_of_processes(world: World) -> None:
    await world.begin(world.agent(), tunnels=2)
    server = world.entry("server")
    await world.supervisor.replace(server, world.server(processes=3))
    assert await world.supervisor.settled([server])
    await world.tunnels(3)
    await world.supervisor.replace(server, world.server(processes=1))
    assert await world.supervisor.settled([server])
    await world.tunnels(1)
    assert world.children() == []
