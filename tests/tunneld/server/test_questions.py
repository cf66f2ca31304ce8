"""What servers and agents answer about dials and rules, and traces through whole tunnels."""

from pathlib import Path
from typing import Any

import pytest
import trio

from ctl.messages import ControlError
from tests.tunneld.peers import ESTABLISHED, connect, open_unix, receive_all
from tests.tunneld.server.konnectivitypeers import dial_rsp, greeted, open_agents
from tests.tunneld.tunnelworld import World, open_world
from tunneld.config import DestinationPolicy, DestinationRule, Policy, Rule
from tunneld.role import Role

RULES = Policy(
    rules=(
        Rule(action="deny", name="no mail", port=(25,)),
        Rule(action="allow", client=("cert:alice", "control"), cidr=("127.0.0.0/8",)),
    )
)


async def ask(role: Role, method: str, **params: Any) -> dict[str, Any]:
    with trio.fail_after(10):
        return await role.ask(method, params)


def steps(record: dict[str, Any]) -> list[tuple[str, str]]:
    both = record["steps"] + record["agent_steps"]
    return [(each["where"], each["step"]) for each in both]


async def silent(stream: trio.SocketStream) -> None:
    await stream.receive_some()


async def test_a_trace_tells_each_step_at_both_ends(pki: Path, tmp_path: Path) -> None:
    async with open_world(pki, tmp_path) as world:
        port = await world.endpoint(silent)
        record = await ask(world.server, "trace", host="localhost", port=port)
        assert (record["code"], record["agent"]) == ("", "demo")
        assert record["address"] == f"127.0.0.1:{port}"
        assert steps(record) == [
            ("server", "entry"),
            ("server", "policy"),
            ("server", "strategy"),
            ("server", "agent"),
            ("server", "connected"),
            ("agent", "entry"),
            ("agent", "policy"),
            ("agent", "resolve"),
            ("agent", "connect"),
        ]
        by_name = {each["step"]: each["text"] for each in record["steps"]}
        assert "default: demo: fit, " in by_name["strategy"]
        await world.at_rest()


async def test_a_failed_dial_is_kept_at_both_ends_under_one_id(pki: Path, tmp_path: Path) -> None:
    async with open_world(pki, tmp_path) as world:
        peer = await open_unix(world.unix_frontend)
        await connect(peer, "127.0.0.1:1")
        await trio.aclose_forcefully(peer.stream)
        [at_server] = (await ask(world.server, "trace.last"))["dials"]
        [at_agent] = (await ask(world.agent, "trace.last"))["dials"]
        assert at_server["dial"] == at_agent["dial"]
        assert (at_server["code"], at_agent["code"]) == ("refused", "refused")
        assert ("agent", "connect") in steps(at_server)
        assert steps(at_agent)[-1] == ("agent", "failed")
        assert "HTTP/1.1 CONNECT" in at_server["steps"][0]["text"]


async def test_the_id_of_a_failed_dial_is_in_the_reply(pki: Path, tmp_path: Path) -> None:
    async with open_world(pki, tmp_path) as world:
        peer = await open_unix(world.unix_frontend)
        await peer.send_all(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n")
        reply = await receive_all(peer)
        await trio.aclose_forcefully(peer.stream)
        [dial] = (await ask(world.server, "trace.last"))["dials"]
        assert f'; dial="{dial["dial"]}"'.encode() in reply


async def test_a_trace_without_an_agent_says_what_was_looked_for(pki: Path, tmp_path: Path) -> None:
    async with open_world(pki, tmp_path, agent=False) as world:
        record = await ask(world.server, "trace", host="a.example", port=80)
        assert record["code"] == "no_agent"
        strategy = next(each for each in record["steps"] if each["step"] == "strategy")
        assert "no agent is connected" in strategy["text"]


async def test_a_trace_through_an_agent_of_konnectivity(pki: Path, tmp_path: Path) -> None:
    async with (
        open_world(pki, tmp_path, agent=False) as world,
        open_agents(world) as agents,
        trio.open_nursery() as nursery,
    ):
        agent = await agents.connect_agent()
        await greeted(agent)
        answers: list[dict[str, Any]] = []

        async def trace() -> None:
            answers.append(await ask(world.server, "trace", host="a.example", port=80))

        nursery.start_soon(trace)
        with trio.fail_after(10):
            request = await agent.next()
            await agent.send(dial_rsp(request.random, error="dial tcp: lookup a: no such host"))
        await world.until(lambda: answers)
        assert answers[0]["code"] == "dns"
        assert answers[0]["agent_steps"] == []


async def test_an_agent_traces_without_its_server(pki: Path, tmp_path: Path) -> None:
    only = DestinationPolicy(rules=(DestinationRule(action="allow", cidr=("10.0.0.0/8",)),))
    async with open_world(pki, tmp_path, agent_options={"policy": only}) as world:
        record = await ask(world.agent, "trace", host="127.0.0.1", port=1)
        assert record["code"] == "denied"
        assert steps(record)[-2:] == [("agent", "policy"), ("agent", "failed")]


@pytest.mark.parametrize(
    ("client", "host", "port", "address", "decision", "rule"),
    [
        ("cert:alice", "127.0.0.1", 80, "", "allow", "rule 2"),
        ("cert:alice", "127.0.0.1", 25, "", "deny", "no mail"),
        ("cert:bob", "127.0.0.1", 80, "", "deny", "no rule allows it"),
        ("cert:alice", "db.example", 80, "", "depends", "rule 2 or no rule allows it"),
        ("cert:alice", "db.example", 80, "127.0.0.9", "allow", "rule 2"),
        ("cert:alice", "db.example", 80, "10.0.0.1", "deny", "no rule allows it"),
    ],
)
async def test_a_rule_can_be_tried(
    pki: Path,
    tmp_path: Path,
    client: str,
    host: str,
    port: int,
    address: str,
    decision: str,
    rule: str,
) -> None:
    async with open_world(pki, tmp_path, server_options={"policy": RULES}) as world:
        told = await ask(
            world.server, "policy.test", client=client, host=host, port=port, address=address
        )
        assert (told["decision"], told["rule"]) == (decision, rule)
        assert told["mode"] == "enforce"
        assert world.server.conns() == []


async def test_a_trace_as_another_client_is_judged_as_that_client(
    pki: Path, tmp_path: Path
) -> None:
    async with open_world(pki, tmp_path, server_options={"policy": RULES}) as world:
        port = await world.endpoint(silent)
        denied = await ask(world.server, "trace", host="127.0.0.1", port=port, client="cert:bob")
        assert (denied["code"], denied["rule"]) == ("denied", "no rule allows it")
        allowed = await ask(world.server, "trace", host="localhost", port=port, client="cert:alice")
        assert (allowed["code"], allowed["rule"]) == ("", "rule 2")
        shown = await ask(world.server, "policy.show")
        counts = {each["rule"]: (each["allowed"], each["denied"]) for each in shown["rules"]}
        assert counts["rule 2"] == (1, 0)
        assert counts["no rule allows it"] == (0, 1)
        await world.at_rest()


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("policy.test", {"host": "a"}, "bad_request"),
        ("policy.test", {"host": "a", "port": 1, "client": "x", "more": 1}, "bad_request"),
        ("trace", {"host": 5, "port": 1}, "bad_request"),
        ("trace.last", {"limit": 0}, "bad_request"),
        ("nonsense", {}, "unknown_method"),
    ],
)
async def test_a_bad_question_is_refused(
    pki: Path, tmp_path: Path, method: str, params: dict[str, Any], code: str
) -> None:
    async with open_world(pki, tmp_path) as world:
        for role in (world.server, world.agent):
            if role is world.agent and "client" in params and "more" not in params:
                continue
            with pytest.raises(ControlError) as caught:
                await ask(role, method, **params)
            assert caught.value.code == code


# -- leaving ----------------------------------------------------------------------------------


async def echo(stream: trio.SocketStream) -> None:
    async for octets in stream:
        await stream.send_all(octets)


async def is_connected(world: World, port: int) -> bool:
    peer = await open_unix(world.unix_frontend)
    try:
        return await connect(peer, f"127.0.0.1:{port}") == ESTABLISHED
    finally:
        await trio.aclose_forcefully(peer.stream)


async def test_a_server_that_leaves_goes_on_until_it_is_gone(pki: Path, tmp_path: Path) -> None:
    async with open_world(pki, tmp_path) as world:
        port = await world.endpoint(echo)
        assert await ask(world.server, "leave") == {"agents": ["demo"]}
        await world.until(lambda: world.agent.connected == 0)
        assert await is_connected(world, port), "through the tunnel that there is"
        assert len(world.server.agents()) == 1
        await ask(world.server, "stay")
        await world.until(lambda: world.agent.connected == 1)
        await world.until(lambda: len(world.server.agents()) == 2)
        assert await is_connected(world, port)


async def test_a_dial_waits_for_an_agent_where_it_shall(pki: Path, tmp_path: Path) -> None:
    options = {"agent_wait": 10.0}
    async with (
        open_world(pki, tmp_path, agent=False, server_options=options) as world,
        trio.open_nursery() as nursery,
    ):
        port = await world.endpoint(echo)
        connected: list[bool] = []

        async def dial() -> None:
            connected.append(await is_connected(world, port))

        nursery.start_soon(dial)
        await world.until(world.server.conns)
        await world.start_agent()
        await world.until(lambda: connected)
        assert connected == [True]


async def test_a_dial_waits_no_longer_than_it_shall(pki: Path, tmp_path: Path) -> None:
    options = {"agent_wait": 0.05}
    async with open_world(pki, tmp_path, agent=False, server_options=options) as world:
        peer = await open_unix(world.unix_frontend)
        assert b"503 Service Unavailable" in await connect(peer, "127.0.0.1:1")
        await trio.aclose_forcefully(peer.stream)


async def test_a_patient_drain_serves_who_has_just_connected(pki: Path, tmp_path: Path) -> None:
    async with open_world(pki, tmp_path) as world:
        port = await world.endpoint(echo)
        peer = await open_unix(world.unix_frontend)
        await peer.send_all(b"CONNECT ")
        await world.until(lambda: len(world.server._frontends._handshakes))
        world.server_host.patient = True
        world.server_host.drain.set()
        await trio.testing.wait_all_tasks_blocked()
        await peer.send_all(f"127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
        assert await peer.receive_some() == ESTABLISHED
        await peer.send_all(b"late, but served")
        assert await peer.receive_some() == b"late, but served"
        await peer.send_eof()
        assert await receive_all(peer) == b""
        with trio.fail_after(10):
            await world.server_done.wait()
        await trio.aclose_forcefully(peer.stream)
