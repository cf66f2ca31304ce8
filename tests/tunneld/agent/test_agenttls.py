"""Certificates, CAs and revocation lists that change under an agent with its tunnel."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.tunneld.tunnelworld import World, open_world
from tunneld.certificate import Kind
from tunneld.pki import Side
from tunneld.registrar import Registrar
from tunneld.role import RoleError


@pytest.fixture
async def world(registrar: Registrar, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(registrar.directory, tmp_path) as opened:
        yield opened


def reload(world: World, **changes: object) -> list[str]:
    """Have the agent reload; the files that have changed."""
    config = msgspec.structs.replace(world.agent._config, **changes)
    prepared = world.agent.prepare(config)
    prepared.commit()
    return [each.field for each in prepared.changes]


async def test_the_tunnel_stays_and_the_next_one_shows_the_new_certificate(
    world: World, registrar: Registrar
) -> None:
    link = world.agent.links[0]
    registrar.add_authority(Side.AGENT)
    registrar.renew(["agent"])
    assert reload(world) == ["cert", "key", "ca"]
    assert world.agent.links == [link]
    # The new certificate is of a CA that this server does not know yet.
    world.server.prepare(world.server_config).commit()
    registrar.drop_authority(Side.AGENT, force=True)
    world.server.prepare(world.server_config).commit()
    reload(world)
    for session in world.sessions():
        session.refuse("test")
    await world.until(lambda: not world.agent.links)
    await world.until(lambda: any("not accepted" in each[2] for each in world.states))
    registrar.renew(["agent/server"])
    world.server.prepare(world.server_config).commit()
    await world.until(lambda: world.agent.links)


async def test_a_revoked_server_is_left_and_not_connected_to_again(
    world: World, registrar: Registrar
) -> None:
    registrar.revoke("agent/server")
    registrar.refresh_lists()
    reload(world, crl=("agent/ca.crl",))
    await world.until(lambda: not world.agent.links)
    await world.until(
        lambda: any(
            "the server's certificate is not accepted: certificate revoked" in each[2]
            for each in world.states
        )
    )
    registrar.issue(Kind.SERVER, "127.0.0.1")
    for suffix in (".crt", ".key"):
        new = registrar.directory / "agent" / f"127.0.0.1{suffix}"
        new.replace(registrar.directory / "agent" / f"server{suffix}")
    world.server.prepare(world.server_config).commit()
    await world.until(lambda: world.agent.links)


async def test_a_certificate_of_another_agent_is_refused(
    world: World, registrar: Registrar
) -> None:
    registrar.init(agent_id="other")
    with pytest.raises(RoleError, match="names the agent 'other', and this one is 'demo'"):
        reload(world)


async def test_settings_change_for_what_comes(world: World) -> None:
    reload(world, connect_timeout=0.25, backoff_max=7.0, sync_forever=True)
    assert world.agent._requests._timeout == 0.25
    assert world.agent._servers is not None
    assert world.agent._servers._forever


async def test_what_is_in_use_is_told(world: World) -> None:
    found = [(key, fact.subject) for key, fact in world.agent.certificates()]
    assert found == [("cert", "demo"), ("ca", "tunneld agent CA")]
