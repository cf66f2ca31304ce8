"""Attempts at what the policy denies, on whole tunnels over real sockets."""

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from tests.tunneld.peers import ESTABLISHED, connect, open_tls
from tests.tunneld.server.konnectivitypeers import greeted, open_agents
from tests.tunneld.tunnelworld import World, open_world
from tunneld.certificate import Kind, issue, load, peer_request
from tunneld.config import AgentGrant, DestinationPolicy, DestinationRule, Policy, Rule
from tunneld.pki import Pki

SECRET = "secret.example"
"""A name that the policy does not deny, of an address that it does."""


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates") / "pki"
    Pki(directory).init(["127.0.0.1"], "demo")
    return directory


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """What names resolve to, one list of addresses for each look-up; the last one stays."""
    answers: dict[str, list[list[str]]] = {}
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *args: Any, **options: Any) -> list[Any]:
        if host not in answers:
            return real(host, port, *args, **options)
        left = answers[host]
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [found for each in addresses for found in real(each, port, 0, socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return answers


@asynccontextmanager
async def world_of(
    pki: Path, tmp_path: Path, *rules: Rule, agent: DestinationPolicy | None = None, **policy: Any
) -> AsyncIterator[World]:
    server = Policy(rules=rules, **policy)
    agent_options = {"policy": agent} if agent is not None else {}
    async with open_world(
        pki, tmp_path, server_options={"policy": server}, agent_options=agent_options
    ) as world:
        yield world


async def ask(world: World, destination: str) -> bytes:
    """The answer to a CONNECT of the client with a certificate."""
    peer = await open_tls(world.frontend, world.pki)
    try:
        with trio.fail_after(10):
            return await connect(peer, destination)
    finally:
        await trio.aclose_forcefully(peer.stream)


async def listener(world: World) -> tuple[int, list[int]]:
    """An endpoint on loopback, and the list of those that reached it."""
    reached: list[int] = []

    async def serve(stream: trio.SocketStream) -> None:
        reached.append(1)
        await stream.receive_some()

    return await world.endpoint(serve), reached


def is_denied(answer: bytes) -> bool:
    return (
        answer.startswith(b"HTTP/1.1 403 ")
        and b"error=destination_ip_prohibited" in answer
        and b"denied by the " in answer
    )


DENY_LOOPBACK = (Rule(action="deny", cidr=("127.0.0.0/8", "::1")), Rule(action="allow"))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "0.0.0.0",
        "[::]",
        "127.1",
        "2130706433",
        "0x7f000001",
        SECRET,
        f"{SECRET}.",
    ],
)
async def test_a_denied_address_is_not_reached_by_any_name_or_form(
    pki: Path, tmp_path: Path, resolver: dict[str, list[list[str]]], host: str
) -> None:
    resolver[SECRET] = resolver[f"{SECRET}."] = [["127.0.0.1"]]
    async with world_of(pki, tmp_path, *DENY_LOOPBACK) as world:
        port, reached = await listener(world)
        assert is_denied(await ask(world, f"{host}:{port}"))
        assert reached == []


async def test_a_denied_name_is_not_reached_in_any_spelling(pki: Path, tmp_path: Path) -> None:
    rules = Rule(action="deny", host=("localhost", "*.localhost")), Rule(action="allow")
    async with world_of(pki, tmp_path, *rules) as world:
        port, reached = await listener(world)
        for name in ("localhost", "LOCALHOST", "localhost.", "a.LocalHost"):
            assert is_denied(await ask(world, f"{name}:{port}"))
        assert reached == []
        assert await ask(world, f"127.0.0.1:{port}") == ESTABLISHED


async def test_another_answer_of_dns_after_the_check_is_never_dialled(
    pki: Path, tmp_path: Path, resolver: dict[str, list[list[str]]]
) -> None:
    """The name resolves to what is allowed first, and to what is not for everybody who asks
    again."""
    rules = Rule(action="deny", cidr=("127.0.0.1",)), Rule(action="allow")
    resolver["rebind.example"] = [["127.0.0.2"], ["127.0.0.1"]]
    async with world_of(pki, tmp_path, *rules) as world:
        port, reached = await listener(world)  # on 127.0.0.1
        first = await ask(world, f"rebind.example:{port}")
        assert b"dial tcp 127.0.0.2:" in first
        assert is_denied(await ask(world, f"rebind.example:{port}"))
        assert reached == []


async def test_of_several_answers_only_the_allowed_are_dialled(
    pki: Path, tmp_path: Path, resolver: dict[str, list[list[str]]]
) -> None:
    rules = Rule(action="deny", cidr=("127.0.0.1",)), Rule(action="allow")
    resolver["mixed.example"] = [["127.0.0.1", "127.0.0.2"]]
    async with world_of(pki, tmp_path, *rules) as world:
        port, reached = await listener(world)
        assert b"dial tcp 127.0.0.2:" in await ask(world, f"mixed.example:{port}")
        assert reached == []


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[::ffff:169.254.169.254]", "[fe80::1]", "metadata.example"]
)
async def test_metadata_is_out_of_reach_of_an_open_server_and_an_open_agent(
    pki: Path, tmp_path: Path, resolver: dict[str, list[list[str]]], host: str
) -> None:
    resolver["metadata.example"] = [["169.254.169.254"]]
    async with world_of(pki, tmp_path, open=True) as world:
        answer = await ask(world, f"{host}:80")
        assert is_denied(answer)
        assert b"metadata addresses, which no rule names" in answer


async def test_the_agent_s_rules_hold_against_a_server_that_allows_everything(
    pki: Path, tmp_path: Path, resolver: dict[str, list[list[str]]]
) -> None:
    resolver[SECRET] = [["127.0.0.1"]]
    only = DestinationPolicy(rules=(DestinationRule(action="allow", cidr=("10.0.0.0/8",)),))
    async with world_of(pki, tmp_path, Rule(action="allow"), agent=only) as world:
        port, reached = await listener(world)
        for host in ("127.0.0.1", SECRET, "localhost", "0.0.0.0"):
            answer = await ask(world, f"{host}:{port}")
            assert is_denied(answer)
            assert b"denied by the agent's policy" in answer
        assert reached == []


async def test_who_is_not_named_reaches_nothing(pki: Path, tmp_path: Path) -> None:
    async with world_of(pki, tmp_path, Rule(action="allow", client=("cert:alice",))) as world:
        port, reached = await listener(world)
        answer = await ask(world, f"127.0.0.1:{port}")
        assert is_denied(answer)
        assert b"cert:client may not reach" in answer
        assert reached == []


async def test_a_konnectivity_agent_gets_no_name_whose_address_matters(
    pki: Path, tmp_path: Path
) -> None:
    """It could not check the address; so what would depend on that is denied."""
    options = {"policy": Policy(rules=DENY_LOOPBACK)}
    async with (
        open_world(pki, tmp_path, agent=False, server_options=options) as world,
        open_agents(world) as agents,
    ):
        await greeted(await agents.connect_agent())
        answer = await ask(world, "secret.example:80")
        assert is_denied(answer)
        assert b"depends on the address, which the agent cannot check" in answer


async def test_shadow_mode_allows_and_tells(pki: Path, tmp_path: Path) -> None:
    async with world_of(pki, tmp_path, *DENY_LOOPBACK, mode="shadow") as world:
        port, reached = await listener(world)
        with capture_logs() as logs:
            for host in ("127.0.0.1", "localhost"):
                assert await ask(world, f"{host}:{port}") == ESTABLISHED
        told = [each for each in logs if each["event"] == "policy would deny"]
        assert [each["rule"] for each in told] == ["rule 1", "rule 1"]
        await world.until(lambda: len(reached) == 2)


async def test_an_agent_that_dials_what_it_was_told_not_to_is_found_out(
    pki: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunneld.agent.policy.from_text", lambda _: ())
    async with world_of(pki, tmp_path, *DENY_LOOPBACK) as world:
        port, _ = await listener(world)
        with capture_logs() as logs:
            assert is_denied(await ask(world, f"localhost:{port}"))
        assert [each["event"] for each in logs if each["log_level"] == "error"] == [
            "agent goes by no rules"
        ]
        await world.at_rest()


# -- agents -----------------------------------------------------------------------------------


GRANTED = AgentGrant(identity=("cert:demo",), cidr=("10.0.0.0/8",), host=("*.home.example",))


async def refusal(world: World) -> str:
    """Why the server refuses the world's agent."""
    with capture_logs() as logs:
        await world.start_agent()

        def refused() -> list[Any]:
            return [each for each in logs if each["event"] == "agent refused"]

        await world.until(refused)
    assert world.server.agents() == []
    return str(refused()[0]["error"])


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"agent_id": "other"}, "agent id 'other' is granted to others than cert:demo"),
        ({"identifiers": "cidr=0.0.0.0/0"}, "cert:demo may not claim cidr=0.0.0.0/0"),
        ({"identifiers": "ipv4=192.168.1.1"}, "cert:demo may not claim ipv4=192.168.1.1"),
        ({"identifiers": "host=db.corp"}, "cert:demo may not claim host=db.corp"),
        ({"identifiers": "default-route=true"}, "cert:demo may not claim default-route=true"),
    ],
)
async def test_an_agent_that_claims_too_much_is_refused(
    pki: Path, tmp_path: Path, options: dict[str, str], why: str
) -> None:
    policy = {"policy": Policy(open=True, agents=(GRANTED,))}
    async with open_world(
        pki, tmp_path, agent=False, server_options=policy, agent_options=options
    ) as world:
        assert await refusal(world) == f"its claims are not granted: {why}"


async def test_an_agent_is_not_asked_for_what_it_may_not_claim(pki: Path, tmp_path: Path) -> None:
    policy = Policy(open=True, agents=(GRANTED,))
    async with open_world(pki, tmp_path, server_options={"policy": policy}) as world:
        assert b"No agent available" in await ask(world, "127.0.0.1:1")


async def test_a_client_s_certificate_is_no_agent_s(pki: Path, tmp_path: Path) -> None:
    """One CA for both, and the client's name is an agent's id."""
    authority = load(*((pki / "agent" / f"ca.{end}").read_bytes() for end in ("crt", "key")))
    credential = issue(authority, peer_request(Kind.CLIENT, "demo"), datetime.now(UTC))
    options = {"agent_id": "demo", **write(tmp_path, credential.certificate_pem(), credential)}
    async with open_world(pki, tmp_path, agent=False, agent_options=options) as world:
        assert "is not one its certificate allows: none" in await refusal(world)


# -- certificates -----------------------------------------------------------------------------


def write(directory: Path, certificate: bytes, credential: Any) -> dict[str, str]:
    (directory / "odd.crt").write_bytes(certificate)
    (directory / "odd.key").write_bytes(credential.key_pem())
    return {"cert": str(directory / "odd.crt"), "key": str(directory / "odd.key")}


def of_another_ca(pki: Path, directory: Path) -> Path:
    Pki(directory / "other").init(["127.0.0.1"], "demo")
    return directory / "other"


def expired(pki: Path, directory: Path) -> Path:
    """A client's certificate whose last day is over."""
    authority = load(*((pki / "frontend" / f"ca.{end}").read_bytes() for end in ("crt", "key")))
    long_ago = datetime.now(UTC) - timedelta(days=30)
    credential = issue(authority, peer_request(Kind.CLIENT, "client", days=1), long_ago)
    (directory / "frontend").mkdir()
    (directory / "frontend/client.crt").write_bytes(credential.certificate_pem())
    (directory / "frontend/client.key").write_bytes(credential.key_pem())
    return directory


@pytest.mark.parametrize(
    ("forge", "why"),
    [(of_another_ca, "CERTIFICATE_VERIFY_FAILED"), (expired, "certificate has expired")],
)
async def test_a_client_with_a_bad_certificate_gets_no_word(
    pki: Path, tmp_path: Path, forge: Callable[[Path, Path], Path], why: str
) -> None:
    async with open_world(pki, tmp_path) as world:
        forged = forge(pki, tmp_path)
        context = ssl.create_default_context(cafile=str(pki / "frontend/ca.crt"))
        context.load_cert_chain(forged / "frontend/client.crt", forged / "frontend/client.key")
        with capture_logs() as logs:
            peer = await open_tls(world.frontend, pki, context=context)
            with trio.fail_after(10), pytest.raises((ConnectionError, ssl.SSLError)):
                await connect(peer, "127.0.0.1:1")
            await trio.aclose_forcefully(peer.stream)
        [told] = [each for each in logs if each["event"] == "client refused"]
        assert why in told["error"] or "unable to get local issuer" in told["error"]


def test_hostile_resolver_is_used(resolver: dict[str, list[list[str]]]) -> None:
    resolver["a.example"] = [["127.0.0.1"], ["127.0.0.2"]]
    first, second = (socket.getaddrinfo("a.example", 1)[0][4][0] for _ in range(2))
    assert (first, second) == ("127.0.0.1", "127.0.0.2")
