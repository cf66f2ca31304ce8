"""Tunnels to konnectivity servers: how they begin, drain and end."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from frames.packet import Data, DialResponse, Drain
from tests.tunneld.agent.packetserver import (
    GREETING,
    SERVER,
    Fields,
    PacketWorld,
    open_packet_world,
)
from tunneld import __version__
from tunneld.role import RoleState
from tunneld.telemetry import FROM_SERVER, NO_PACKET, TO_AGENT


@pytest.fixture
async def world(pki: Path) -> AsyncIterator[PacketWorld]:
    with trio.fail_after(20):
        async with open_packet_world(pki) as opened:
            yield opened


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)


# -- the beginning ----------------------------------------------------------------------------


async def test_it_asks_as_go_s_agent_does(world: PacketWorld) -> None:
    agent = await world.ready()
    assert agent.fields == [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/AgentService/Connect"),
        (":authority", "127.0.0.1"),
        ("content-type", "application/grpc"),
        ("user-agent", f"tunneld/{__version__}"),
        ("te", "trailers"),
        ("agentid", "demo"),
        ("agentidentifiers", ""),
    ]
    assert world.states[-1] == (RoleState.READY, f"connected to {world.role._config.server}")


async def test_without_a_certificate_it_goes_by_a_token(pki: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    options: dict[str, Any] = {
        "cert": "",
        "key": "",
        "agent_id": "free text",
        "token_path": str(token),
    }
    async with open_packet_world(pki, identifiers="host=a&ipv4=1.2.3.4", **options) as world:
        agent = await world.ready()
        fields = dict(agent.fields)
        assert fields[":authority"] == world.role._config.server
        assert fields["agentid"] == "free text"
        assert fields["agentidentifiers"] == "host=a&ipv4=1.2.3.4"
        assert fields["authorization"] == "Bearer first"
        token.write_text("second")
        await agent.end(14, "going")
        again = await world.agent()
        assert dict(again.fields)["authorization"] == "Bearer second"


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "cannot read the token"), ("\n", "no token in ")]
)
async def test_a_token_that_is_not_there_is_the_reason(
    content: str | None, reason: str, pki: Path, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content)
    async with open_packet_world(pki, token_path=str(token)) as world:
        await world.until(lambda: reason in world.states[-1][1])
        assert world.states[-1][0] is RoleState.BACKOFF


@pytest.mark.parametrize("count", ["0", "-1", "+1"])
async def test_a_count_of_servers_is_one_at_least(count: str, world: PacketWorld) -> None:
    world.greetings = [[*GREETING, ("serverid", "a"), ("servercount", count)]]
    await world.ready()
    assert world.states[-1][1].startswith("connected to 127.0.0.1:")


REFUSAL: Fields = [("grpc-status", "2"), ("grpc-message", "expected one agent ID%21")]


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (GREETING, "expected one serverid of the server, got 0"),
        ([*GREETING, ("serverid", "a")], "expected one servercount of the server, got 0"),
        (
            [*GREETING, *SERVER, ("serverid", "b")],
            "expected one serverid of the server, got 2",
        ),
        (
            [*GREETING, ("serverid", "a"), ("servercount", "many")],
            "the server's count of servers is no number: 'many'",
        ),
        ([*GREETING, *REFUSAL], r"the server says: expected one agent ID! \(Unknown\)"),
        ([(":status", "404")], r"unexpected HTTP status code .* 404 .*: is that a tunnel listener"),
        ([(":status", "503")], r"unexpected HTTP status code .* 503"),
    ],
)
async def test_another_greeting_is_refused(
    greeting: Fields, reason: str, world: PacketWorld
) -> None:
    world.greetings = [greeting]
    agent = await world.agent()
    await world.until(lambda: world.states[-1][0] is RoleState.BACKOFF)
    assert re.search(f": {reason}", world.states[-1][1]), world.states[-1]
    await agent.until(lambda: agent.over)
    await world.ready()


async def test_a_server_that_does_not_answer_is_given_up(
    pki: Path, autojump_clock: MockClock
) -> None:
    async with open_packet_world(pki) as world:
        world.silent = True
        agent = await world.agent()
        await agent.until(lambda: agent.over)
        assert world.states[-1][1].endswith(": no answer in 10 s")


async def test_a_second_tunnel_to_one_server_ends_at_once(world: PacketWorld) -> None:
    world.greetings = [[*GREETING, ("serverid", "a"), ("servercount", "2")]] * 2
    first = await world.agent()
    twice = await world.agent()
    await twice.until(lambda: twice.over)
    assert not first.over
    assert world.role.connected == 1
    assert world.states[-1] == (RoleState.READY, "connected to 1 of 2 servers")


async def test_pings_keep_the_pace_that_go_s_server_allows(
    pki: Path, autojump_clock: MockClock
) -> None:
    async with open_packet_world(pki, keepalive=1.0) as world:
        agent = await world.ready()
        await trio.sleep(100)
        assert agent.pings == 3


# -- the end ----------------------------------------------------------------------------------


async def test_a_lost_server_takes_its_connections_along(world: PacketWorld) -> None:
    broken = trio.Event()

    async def endpoint(stream: trio.SocketStream) -> None:
        try:
            await stream.receive_some()
        except trio.BrokenResourceError:
            broken.set()

    agent = await world.ready()
    await agent.dial(f"127.0.0.1:{await world.endpoint(endpoint)}")
    agent.peer.reset()
    await broken.wait()
    await world.until(lambda: not world.role.conns())
    assert world.role.telemetry.open_endpoint_connections == 0
    assert world.role.telemetry.stream_errors_total[TO_AGENT, "Unavailable", NO_PACKET] == 1
    assert world.role.telemetry.server_connection_failure_count[FROM_SERVER] == 1


async def test_connect_ids_start_over_with_each_tunnel(world: PacketWorld) -> None:
    agent = await world.ready()
    address = f"127.0.0.1:{await world.endpoint(echo)}"
    assert await agent.dial(address, 5) == DialResponse("", 1, 5)
    assert await agent.dial(address, 6) == DialResponse("", 2, 6)
    await agent.end(0)
    await world.until(lambda: "the server ended the tunnel" in world.states[-1][1])
    again = await world.agent()
    assert await again.dial(address, 5) == DialResponse("", 1, 5)


async def test_the_server_s_reason_is_told(world: PacketWorld) -> None:
    agent = await world.ready()
    await agent.end(14, "shutting down")
    await world.until(lambda: world.states[-1][0] is RoleState.BACKOFF)
    text = ": the server says: shutting down (Unavailable)"
    assert world.states[-1][1].endswith(text)
    await agent.until(lambda: agent.over)


async def test_what_is_no_packet_ends_the_tunnel(world: PacketWorld) -> None:
    agent = await world.ready()
    await agent.send_octets(b"\0\0\0\0\2\xff\xff")
    await world.until(lambda: "failed to unmarshal" in world.states[-1][1])
    await world.ready()


async def test_a_server_that_is_about_to_go_keeps_its_connections(
    pki: Path, autojump_clock: MockClock
) -> None:
    """Go's server announces a graceful stop by GOAWAY and waits for its streams."""
    async with open_packet_world(pki) as world:
        agent = await world.ready()
        await agent.dial(f"127.0.0.1:{await world.endpoint(echo)}")
        await agent.peer.send_all(bytes.fromhex("000008 07 00 00000000 7fffffff 00000000"))
        world.greetings = [[*GREETING, ("serverid", "srv-2"), ("servercount", "1")]]
        await world.agent()
        await world.until(lambda: world.role.connected == 1)
        await agent.send(Data(1, b"still served", ""))
        assert await agent.data(1, 12) == b"still served"
        await agent.close(1)
        await agent.until(lambda: agent.half_closed)
        assert len(world.role.links) == 2
        await agent.end(0)
        await agent.until(lambda: agent.over)


# -- draining ---------------------------------------------------------------------------------


async def test_a_drained_agent_says_so_and_leaves_when_nothing_runs(
    pki: Path, autojump_clock: MockClock
) -> None:
    async with open_packet_world(pki) as world:
        agent = await world.ready()
        address = f"127.0.0.1:{await world.endpoint(echo)}"
        await agent.dial(address)
        world.host.drain.set()
        assert await agent.next() == Drain()
        assert await agent.dial(address, 8) == DialResponse("", 2, 8)
        await agent.send(Data(1, b"still served", ""))
        assert await agent.data(1, 12) == b"still served"
        await agent.close(1)
        await agent.close(2)
        await agent.until(lambda: agent.half_closed)
        await agent.end(0)
        await world.done.wait()
        await agent.until(lambda: agent.over)


async def test_a_dial_that_crosses_the_drain_is_served(
    pki: Path, autojump_clock: MockClock
) -> None:
    async with open_packet_world(pki) as world:
        agent = await world.ready()
        address = f"127.0.0.1:{await world.endpoint(echo)}"
        world.host.drain.set()
        assert await agent.next() == Drain()
        await trio.sleep(0.9)
        assert await agent.dial(address) == DialResponse("", 1, 7)
        await trio.sleep(100)
        assert not agent.half_closed
        assert not world.done.is_set()


async def test_it_may_outlast_the_drain_as_konnectivity_s_agent_does(
    pki: Path, autojump_clock: MockClock
) -> None:
    def outlasting(role: object) -> None:
        role.outlasts_drain = True  # type: ignore[attr-defined]

    async with open_packet_world(pki, outlasting) as world:
        agent = await world.ready()
        world.host.drain.set()
        assert await agent.next() == Drain()
        await trio.sleep(1000)
        address = f"127.0.0.1:{await world.endpoint(echo)}"
        assert await agent.dial(address) == DialResponse("", 1, 7)
        await agent.end(14)
        await world.done.wait()
