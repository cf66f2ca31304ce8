"""Files of secrets that change under a server: what is told, and who has to go."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from tests.tunneld.peers import ESTABLISHED, open_tls, open_unix
from tests.tunneld.server.konnectivitypeers import open_agents
from tests.tunneld.server.test_frontend import echo
from tests.tunneld.server.test_gate import (
    SESAME,
    SOMEBODY_ELSE,
    answer_to,
    client_of,
    request,
    stranger,
)
from tests.tunneld.tunnelworld import World, open_world
from tunneld import secretsfile
from tunneld.config import Frontend, TunnelListener
from tunneld.role import RoleError
from tunneld.secret import Secret, of_token


@asynccontextmanager
async def world_of(pki: Path, directory: Path) -> AsyncIterator[World]:
    """Agent ``home`` and client ``web`` are known by tokens, ``alice`` by a password."""
    for name in ("home", "away"):
        secretsfile.add(directory / "agents", of_token(name, f"tnl_{name}"))
    secretsfile.add(directory / "clients", of_token("web", "tnl_web"))
    secretsfile.add(directory / "clients", Secret("alice", SESAME))
    (directory / "token").write_text("tnl_home")
    tunnel = TunnelListener(
        listen="127.0.0.1:0",
        cert="agent/server.crt",
        key="agent/server.key",
        secrets=str(directory / "agents"),
    )
    frontend = Frontend(listen="127.0.0.1:0", plain=True, secrets=str(directory / "clients"))
    agent = {"cert": "", "key": "", "agent_id": "home", "token_path": str(directory / "token")}
    options = {"tunnel": tunnel, "frontends": (frontend,)}
    async with open_world(pki, directory, server_options=options, agent_options=agent) as world:
        yield world


@pytest.fixture
async def world(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(pki, tmp_path) as opened:
        yield opened


def reload(world: World) -> list[tuple[str, str, str]]:
    prepared = world.server.prepare(world.server_config)
    prepared.commit()
    return [(change.field, change.old, change.new) for change in prepared.changes]


async def test_changes_are_told_by_name(world: World, tmp_path: Path) -> None:
    assert reload(world) == []
    secretsfile.add(tmp_path / "clients", of_token("new", "tnl_new"))
    secretsfile.add(tmp_path / "clients", of_token("web", "tnl_other"), force=True)
    secretsfile.remove(tmp_path / "agents", "away")
    assert sorted(reload(world)) == [
        ("frontends[0].secrets", "2", "3 secrets: +new ~web"),
        ("tunnel.secrets", "2", "1 secret: -away"),
    ]


async def test_a_bad_file_changes_nothing(world: World, tmp_path: Path) -> None:
    (tmp_path / "clients").write_text("nonsense")
    with pytest.raises(RoleError, match="line 1"):
        world.server.prepare(world.server_config)
    async with client_of(world) as peer:
        await peer.send_all(request(1, "Bearer tnl_web"))
        assert b" 502 " in await peer.receive_some()


async def test_an_agent_whose_token_is_removed_has_to_go(world: World, tmp_path: Path) -> None:
    secretsfile.remove(tmp_path / "agents", "home")
    reload(world)
    await world.until(lambda: not world.server.agents())


async def test_a_client_whose_secret_is_removed_has_to_go(world: World, tmp_path: Path) -> None:
    port = await world.endpoint(echo)
    async with client_of(world) as peer, client_of(world) as other:
        for each, token in ((peer, "web"), (other, "alice")):
            shown = "Bearer tnl_web" if token == "web" else "Basic YWxpY2U6b3BlbiBzZXNhbWU="
            await each.send_all(request(port, shown))
            assert await each.receive_some() == ESTABLISHED
        secretsfile.remove(tmp_path / "clients", "web")
        reload(world)
        with pytest.raises(ConnectionError), trio.fail_after(10):
            await peer.receive_some()
        await other.send_all(b"hello")
        assert await other.receive_some() == b"hello"


async def test_whose_secret_is_replaced_may_stay(world: World, tmp_path: Path) -> None:
    secretsfile.add(tmp_path / "agents", of_token("home", "tnl_new"), force=True)
    (row,) = world.server.agents()
    assert reload(world) == [("tunnel.secrets", "2", "2 secrets: ~home")]
    assert world.server.agents()[0]["since"] == row["since"]


async def test_a_running_server_takes_to_secrets_and_back(pki: Path, tmp_path: Path) -> None:
    secretsfile.add(tmp_path / "clients", of_token("web", "tnl_web"))
    async with open_world(pki, tmp_path) as world:
        before = world.server_config
        first, second = before.frontends
        named = (
            msgspec.structs.replace(first, secrets=str(tmp_path / "clients")),
            msgspec.structs.replace(second, users=(SOMEBODY_ELSE,)),
        )
        world.server.prepare(msgspec.structs.replace(before, frontends=named)).commit()
        peer = await open_tls(world.frontend, pki, context=stranger(pki))
        await peer.send_all(request(1, "Bearer tnl_web"))
        assert b" 502 " in await peer.receive_some()
        await trio.aclose_forcefully(peer.stream)
        local = await open_unix(world.unix_frontend)
        await local.send_all(request(1, None))
        assert b" 403 " in await local.receive_some()
        await trio.aclose_forcefully(local.stream)
        world.server.prepare(before).commit()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await answer_to(world, stranger(pki), request(1, "Bearer tnl_web"))
        local = await open_unix(world.unix_frontend)
        await local.send_all(request(1, None))
        assert b" 502 " in await local.receive_some()
        await trio.aclose_forcefully(local.stream)


async def test_a_running_server_takes_to_tokens_of_agents_and_back(
    pki: Path, tmp_path: Path
) -> None:
    secretsfile.add(tmp_path / "agents", of_token("home", "tnl_home"))
    (tmp_path / "token").write_text("tnl_home")
    token = {"cert": "", "key": "", "agent_id": "home", "token_path": str(tmp_path / "token")}
    async with open_world(pki, tmp_path, agent=False, agent_options=token) as world:
        before = world.server_config
        tunnel = msgspec.structs.replace(before.tunnel, secrets=str(tmp_path / "agents"))
        world.server.prepare(msgspec.structs.replace(before, tunnel=tunnel)).commit()
        await world.start_agent()
        await world.connected()
        world.server.prepare(before).commit()
        await world.until(lambda: not world.server.agents())


def without_secrets(world: World) -> None:
    """Have the server know its clients and agents by certificates alone, from now on."""
    (frontend,) = world.server_config.frontends
    tunnel = msgspec.structs.replace(world.server_config.tunnel, secrets="")
    frontend = msgspec.structs.replace(frontend, secrets="")
    config = msgspec.structs.replace(world.server_config, frontends=(frontend,), tunnel=tunnel)
    world.server.prepare(config).commit()


@asynccontextmanager
async def world_of_both(pki: Path, directory: Path) -> AsyncIterator[World]:
    """A server that knows clients and agents by certificates or secrets."""
    for name in ("clients", "agents"):
        secretsfile.add(directory / name, of_token("web", "tnl_web"))
    frontend = Frontend(
        listen="127.0.0.1:0",
        cert="frontend/server.crt",
        key="frontend/server.key",
        client_ca="frontend/ca.crt",
        secrets=f"{directory}/clients",
    )
    tunnel = TunnelListener(
        listen="127.0.0.1:0",
        cert="agent/server.crt",
        key="agent/server.key",
        client_ca="agent/ca.crt",
        secrets=f"{directory}/agents",
    )
    options = {"tunnel": tunnel, "frontends": (frontend,), "any_agent_id": True}
    async with open_world(pki, directory, server_options=options) as world:
        yield world


async def test_who_came_when_secrets_would_do_gets_in_by_nothing_less(
    pki: Path, tmp_path: Path
) -> None:
    """It may take its time between handshake and request."""
    async with world_of_both(pki, tmp_path) as world:
        port = await world.endpoint(echo)
        async with (
            client_of(world, stranger(pki)) as silent,
            client_of(world, stranger(pki)) as asked,
        ):
            await asked.send_all(request(port, None))
            assert b" 407 " in await asked.receive_some()
            without_secrets(world)
            for each in (silent, asked):
                await each.send_all(request(port, None))
                assert b" 407 " in await each.receive_some()
                await each.send_all(request(port, "Bearer tnl_web"))
                assert b"knows nobody by a secret any more" in await each.receive_some()


async def test_an_agent_that_came_when_tokens_would_do_needs_a_certificate_then(
    pki: Path, tmp_path: Path
) -> None:
    async with world_of_both(pki, tmp_path) as world:
        async with open_agents(world, certificate=False) as client:
            without_secrets(world)
            call = await client.connect_agent("demo")
            _, message = await call.status()
            assert message == "it has shown no certificate, and no tokens are known any more"
        assert [row["identity"] for row in world.server.agents()] == ["cert:demo"]
