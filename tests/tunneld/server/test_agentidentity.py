"""Agents that are known by a token: whole tunnels, and what a hostile agent answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from tests.tunneld.peers import connect, open_unix
from tests.tunneld.server.konnectivitypeers import greeted, open_agents
from tests.tunneld.tunnelworld import World, open_world
from tunneld import secretsfile
from tunneld.agentinfo import AgentInfo
from tunneld.config import TunnelListener
from tunneld.secret import of_token
from tunneld.tokenproof import authorization, new_challenge


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    path = tmp_path / "secrets"
    secretsfile.add(path, of_token("home", "token-of-home"))
    secretsfile.add(path, of_token("away", "token-of-away"))
    return path


@asynccontextmanager
async def world_of(
    pki: Path, secrets: Path, *, ca: bool = False, agent: bool = False, **agent_options: Any
) -> AsyncIterator[World]:
    """A server that knows agents by tokens, with ``ca`` by certificates too; agents have a token
    and no certificate, unless told otherwise."""
    (secrets.parent / "token").write_text("token-of-home\n")
    tunnel = TunnelListener(
        listen="127.0.0.1:0",
        cert="agent/server.crt",
        key="agent/server.key",
        client_ca="agent/ca.crt" if ca else "",
        secrets=str(secrets),
    )
    token = {
        "cert": "",
        "key": "",
        "agent_id": "home",
        "token_path": str(secrets.parent / "token"),
    }
    async with open_world(
        pki,
        secrets.parent,
        agent=agent,
        server_options={"tunnel": tunnel},
        agent_options=token | agent_options,
    ) as world:
        yield world


def refusals(logs: list[Any]) -> list[str]:
    """Why agents were refused."""
    return [each["error"] for each in logs if each["event"] == "agent refused"]


async def refusal(world: World) -> str:
    """Why the server refuses the world's agent."""
    with capture_logs() as logs:
        await world.start_agent()
        await world.until(lambda: refusals(logs))
    assert world.server.agents() == []
    return refusals(logs)[0]


@pytest.mark.parametrize("ca", [False, True])
async def test_an_agent_with_a_token_needs_no_certificate(
    pki: Path, secrets: Path, ca: bool
) -> None:
    async with world_of(pki, secrets, ca=ca, agent=True) as world:
        assert [row["id"] for row in world.server.agents()] == ["home"]
        peer = await open_unix(world.unix_frontend)
        assert b"connection refused" in await connect(peer, "127.0.0.1:1")
        await trio.aclose_forcefully(peer.stream)


async def test_the_token_does_not_travel(pki: Path, secrets: Path) -> None:
    async with world_of(pki, secrets, agent=True) as world:
        (tunnel,) = world.server._registry.tunnels
        assert tunnel.info.authorization.startswith("Proof ")
        assert "token-of-home" not in tunnel.info.authorization


async def test_with_both_a_certificate_will_do(pki: Path, secrets: Path) -> None:
    options: dict[str, Any] = {
        "cert": "agent/agent.crt",
        "key": "agent/agent.key",
        "token_path": "",
    }
    async with world_of(pki, secrets, ca=True, agent=True, agent_id="", **options) as world:
        assert [row["id"] for row in world.server.agents()] == ["demo"]


async def test_a_token_beside_a_certificate_adds_its_name(pki: Path, secrets: Path) -> None:
    options: dict[str, Any] = {"cert": "agent/agent.crt", "key": "agent/agent.key"}
    async with world_of(pki, secrets, ca=True, agent=True, **options) as world:
        assert [row["id"] for row in world.server.agents()] == ["home"]


async def test_a_token_gives_its_own_name_alone(pki: Path, secrets: Path) -> None:
    async with world_of(pki, secrets, agent_id="away") as world:
        text = "agent id 'away' is not one its certificate or token allows: home"
        assert await refusal(world) == text


async def test_without_a_token_nobody_joins(pki: Path, secrets: Path) -> None:
    async with world_of(pki, secrets, token_path="") as world:
        assert (await refusal(world)).startswith("it proves no token that is known here")


async def test_a_token_that_is_removed_does_not_count_after_a_reload(
    pki: Path, secrets: Path
) -> None:
    async with world_of(pki, secrets) as world:
        secretsfile.remove(secrets, "home")
        known = world.server.agent_server.secrets
        assert known is not None
        known.reload()
        assert (await refusal(world)).startswith("it proves no token that is known here")


async def test_a_certificate_of_another_ca_is_refused_all_the_same(
    pki: Path, secrets: Path
) -> None:
    options: dict[str, Any] = {"cert": "frontend/client.crt", "key": "frontend/client.key"}
    async with world_of(pki, secrets, ca=True, **options) as world:
        assert (await refusal(world)).startswith("TLS: ")


# -- hostile agents ---------------------------------------------------------------------------


def replay(challenge: bytes) -> str:
    """A proof that was good for another tunnel."""
    return authorization("token-of-home", new_challenge(), "home")


def of_another_id(challenge: bytes) -> str:
    return authorization("token-of-home", challenge, "away")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (replay, "it proves no token that is known here"),
        (of_another_id, "it proves no token that is known here"),
        (lambda _: "Bearer token-of-home", "it shows its token where it has to prove it"),
        (lambda _: "Proof 00 00", "it proves no token that is known here"),
        (lambda _: "", "it proves no token that is known here"),
    ],
)
async def test_an_answer_that_proves_nothing_is_refused(
    pki: Path, secrets: Path, monkeypatch: pytest.MonkeyPatch, answer: Any, says: str
) -> None:
    def answering(self: AgentInfo, challenge: bytes) -> AgentInfo:
        octets = bytes.fromhex(challenge.decode())
        return msgspec.structs.replace(self, authorization=answer(octets))

    monkeypatch.setattr(AgentInfo, "answering", answering)
    async with world_of(pki, secrets) as world:
        assert (await refusal(world)).startswith(says)


# -- konnectivity's ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ([("authorization", "Bearer token-of-home")], None),
        ([("authorization", "Bearer token-of-away")], "agent id 'home' is not one its certificate"),
        ([("authorization", "Bearer nonsense")], "it shows no token that is known here"),
        ([("authorization", "token-of-home")], "it shows no token that is known here"),
        ([("authorization", "Bearer token-of-home")] * 2, "it shows no token that is known here"),
        ([], "it shows no token that is known here"),
    ],
)
async def test_an_agent_of_konnectivity_shows_its_token(
    pki: Path, secrets: Path, metadata: list[tuple[str, str]], error: str | None
) -> None:
    async with (
        world_of(pki, secrets) as world,
        open_agents(world, certificate=False) as client,
    ):
        agent = await client.connect_agent("home", *metadata)
        if error is None:
            await greeted(agent)
            await world.until(world.server.agents)
        else:
            code, text = await agent.status()
            assert code == 2
            assert text.startswith(error)
