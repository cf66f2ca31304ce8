"""The listener for agents, as konnectivity's use it: who may join, and how they are sent away."""

import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import h2.settings
import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.tunneld.peers import ESTABLISHED, open_tls, open_unix, receive_all
from tests.tunneld.server.konnectivitypeers import (
    Call,
    agent_context,
    close_req,
    close_rsp,
    data,
    dial_req,
    dial_rsp,
    greeted,
    open_agent,
    open_agents,
    open_client,
    open_server,
    tunnels,
)
from tests.tunneld.tunnelworld import World, open_world
from tunneld.server.tunnel import AgentRejectedError
from tunneld.telemetry import CONNECT


@pytest.fixture
async def world(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    with trio.fail_after(60):
        async with open_server(pki, tmp_path, server_id="srv-1", server_count=3) as opened:
            yield opened


# -- joining ----------------------------------------------------------------------------------


async def test_an_agent_is_greeted_before_it_has_said_anything(world: World) -> None:
    """Upstream's agent waits for the head, and for nothing else meanwhile."""
    async with open_agents(world) as client:
        agent = await client.connect_agent("demo", identifiers="host=a.example&ipv4=10.0.0.1")
        head = await greeted(agent)
        assert (head["serverid"], head["servercount"]) == ("srv-1", "3")
        assert list(head) == [":status", "content-type", "serverid", "servercount"]
        await world.until(world.server.agents)
        [row] = world.server.agents()
        assert (row["id"], row["version"], row["state"]) == ("demo", "grpc-go/1.83.0", "ready")
        assert row["identifiers"] == {"host": ["a.example"], "ipv4": ["10.0.0.1"]}
        assert world.server.telemetry.grpc_connections[CONNECT] == 1


async def test_without_a_server_id_one_is_drawn(pki: Path, tmp_path: Path) -> None:
    async with open_server(pki, tmp_path) as world:
        seen = set()
        for _ in range(2):
            async with open_agents(world) as client:
                seen.add((await greeted(await client.connect_agent()))["serverid"])
        [server_id] = seen
        assert len(server_id) == 36


async def test_the_settings_come_at_once_and_say_what_go_relies_on(world: World) -> None:
    async with open_agents(world) as client:
        await greeted(await client.connect_agent())
        remote = client.connection.remote_settings
        assert remote.max_frame_size == 16_384
        assert remote.initial_window_size == 1 << 20
        assert client.connection.outbound_flow_control_window == 16 << 20


@pytest.mark.parametrize("subtype", ["application/grpc+proto", "application/grpc"])
async def test_the_answer_is_of_the_kind_that_was_asked_for(world: World, subtype: str) -> None:
    async with open_agents(world) as client:
        head = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/AgentService/Connect"),
            (":authority", "whatever:1"),
            ("content-type", subtype),
            ("te", "trailers"),
            ("agentid", "demo"),
        ]
        stream = await client.request(head)
        assert (await stream.response())["content-type"] == subtype


async def test_an_agent_may_come_without_identifiers_and_with_an_empty_id(world: World) -> None:
    async with open_agents(world) as client:
        await greeted(await client.call("/AgentService/Connect", ("agentid", "")))
        await world.until(world.server.agents)
        assert world.server.agents()[0]["id"] == ""


async def test_several_agents_may_share_a_connection(world: World) -> None:
    async with open_agents(world) as client:
        calls = [await client.connect_agent(f"agent-{number}") for number in range(16)]
        for call in calls:
            await greeted(call)
        await world.until(lambda: len(world.server.agents()) == 16)
        await calls[3].end()
        assert await calls[3].status() == (0, "")
        await world.until(lambda: len(world.server.agents()) == 15)


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ([], "expected one agent ID in the context, got []"),
        (
            [("agentid", "a"), ("agentid", "b")],
            "expected one agent ID in the context, got [a b]",
        ),
        (
            [("agentid", "a"), ("agentidentifiers", "host=a"), ("agentidentifiers", "host=b")],
            "expected at most one set of agent identifiers in the context, got [host=a host=b]",
        ),
        ([("agentid", "a\x9b2J")], r"agent id 'a\x9b2J' cannot be printed"),
        (
            [("agentid", "a"), ("agentidentifiers", "host=%zz")],
            "fail to parse url encoded string: 'host=%25zz'",
        ),
        (
            [("agentid", "a"), ("agentidentifiers", "host=a;host=b")],
            "fail to parse url encoded string: 'host=a;host=b'",
        ),
    ],
)
async def test_metadata_that_make_no_agent_are_refused_in_upstream_s_words(
    world: World, metadata: list[tuple[str, str]], text: str
) -> None:
    async with open_agents(world) as client:
        call = await client.call("/AgentService/Connect", *metadata)
        assert await call.status() == (2, text)
        assert call.trailers == {}  # the head is all there is
        assert call.stream.headers[":status"] == "200"
        assert not world.server.agents()


async def test_identifiers_that_mean_nothing_here_are_left_out(world: World) -> None:
    text = "uid=1&host=a&ipv4=nonsense&default-route=perhaps&colour=red"
    async with open_agent(world, identifiers=text):
        assert world.server.agents()[0]["identifiers"] == {"host": ["a"]}


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/ProxyService/Proxy", 12, "unknown service ProxyService"),
        ("/AgentService/Nope", 12, "unknown method Nope for service AgentService"),
        ("/hello.Greeter/SayHello", 12, "unknown service hello.Greeter"),
        ("/nonsense", 12, 'malformed method name: "/nonsense"'),
    ],
)
async def test_other_calls_are_unimplemented(
    world: World, path: str, status: int, text: str
) -> None:
    async with open_agents(world) as client:
        assert await (await client.call(path)).status() == (status, text)
        await greeted(await client.connect_agent())


async def test_what_is_no_call_is_told_so(world: World) -> None:
    async with open_agents(world) as client:
        head = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/AgentService/Connect"),
            (":authority", "x"),
            ("content-type", "text/plain"),
        ]
        call = Call(client, await client.request(head))
        assert (await call.status())[0] == 3
        assert call.stream.headers[":status"] == "415"
        get = await client.call("/AgentService/Connect", method="GET")
        assert (await get.status())[0] == 13
        assert get.stream.headers[":status"] == "405"


async def test_an_agent_that_takes_no_head_does_not_join(world: World) -> None:
    """Its limit for header lists is none that could be kept."""
    async with open_agents(world) as client:
        codes = h2.settings.SettingCodes
        client.connection.update_settings({codes.MAX_HEADER_LIST_SIZE: 10})
        await client.flush()
        call = await client.connect_agent()
        with pytest.raises(ConnectionError, match="reset"):
            await call.stream.response()
        await world.until(lambda: not world.server.telemetry.grpc_connections[CONNECT])
        assert not world.server.agents()
        bad = await client.call("/AgentService/Nope")
        with pytest.raises(ConnectionError, match="reset"):
            await bad.stream.response()


# -- who may ----------------------------------------------------------------------------------


async def test_an_id_that_the_certificate_does_not_name_is_refused(
    pki: Path, tmp_path: Path
) -> None:
    async with (
        open_server(pki, tmp_path, any_agent_id=False) as world,
        open_agents(world) as client,
    ):
        call = await client.connect_agent("other")
        text = "agent id 'other' is not one its certificate allows: demo"
        assert await call.status() == (2, text)
        await greeted(await client.connect_agent("demo"))


class Tokens:
    """Knows one token; takes as long as it is told to."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.answer = trio.Event()
        self.answer.set()

    async def __call__(self, tokens: Sequence[str]) -> None:
        self.asked.append(list(tokens))
        await self.answer.wait()
        if list(tokens) != ["Bearer good"]:
            raise AgentRejectedError("Failed to validate authentication token, err:unknown")


async def test_an_agent_without_a_good_token_is_refused(world: World) -> None:
    tokens = world.server.agent_server.authenticate = Tokens()
    text = "Failed to validate authentication token, err:unknown"
    async with open_agents(world) as client:
        bare = await client.connect_agent()
        assert await bare.status() == (2, text)
        bad = await client.connect_agent("demo", ("authorization", "Bearer bad"))
        assert await bad.status() == (2, text)
        two = [("authorization", "Bearer good"), ("authorization", "Bearer good")]
        assert await (await client.connect_agent("demo", *two)).status() == (2, text)
        assert not world.server.agents()
        await greeted(await client.connect_agent("demo", ("authorization", "Bearer good")))
    assert tokens.asked == [[], ["Bearer bad"], ["Bearer good"] * 2, ["Bearer good"]]


@pytest.mark.parametrize("how", ["reset", "end", "close"])
async def test_an_agent_that_goes_while_its_token_is_checked_does_not_join(
    world: World, how: str
) -> None:
    tokens = world.server.agent_server.authenticate = Tokens()
    tokens.answer = trio.Event()
    async with open_agents(world) as client:
        call = await client.connect_agent("demo", ("authorization", "Bearer good"))
        await world.until(lambda: tokens.asked)
        match how:
            case "reset":
                call.reset()
            case "end":
                await call.end()
            case "close":
                await client.cut_off()
        await wait_all_tasks_blocked()
        tokens.answer.set()
        await world.until(lambda: not world.server.telemetry.grpc_connections[CONNECT])
        assert not world.server.agents()


async def test_without_a_client_ca_an_agent_needs_no_certificate(pki: Path, tmp_path: Path) -> None:
    async with open_world(pki, tmp_path, agent=False) as world:
        listener = msgspec.structs.replace(world.server_config.tunnel, client_ca="")
        world.server_config = msgspec.structs.replace(
            world.server_config, tunnel=listener, any_agent_id=True
        )
        world.server_scope.cancel()
        await world.server_done.wait()
        await world.start_server()
        tokens = world.server.agent_server.authenticate = Tokens()
        async with open_agents(world, certificate=False) as client:
            await greeted(await client.connect_agent("any", ("authorization", "Bearer good")))
            await world.until(world.server.agents)
        assert tokens.asked


async def test_with_a_client_ca_it_does(world: World) -> None:
    host, port = world.tunnel_address.rsplit(":", 1)
    context = agent_context(world.pki, certificate=False)
    peer = await open_tls((host, int(port)), world.pki, context=context)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await peer.receive_some()
    await trio.aclose_forcefully(peer.stream)


async def test_a_connection_that_never_becomes_an_agent_is_closed(
    pki: Path, tmp_path: Path
) -> None:
    async with open_server(pki, tmp_path, head_timeout=0.1) as world:
        host, port = world.tunnel_address.rsplit(":", 1)
        peer = await open_tls((host, int(port)), world.pki, context=agent_context(world.pki))
        await peer.send_all(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
        )
        with trio.fail_after(10), contextlib.suppress(ConnectionError):
            await receive_all(peer)
        await trio.aclose_forcefully(peer.stream)


async def test_an_agent_stays_longer_than_it_may_take_to_come(pki: Path, tmp_path: Path) -> None:
    async with (
        open_server(pki, tmp_path, head_timeout=0.2) as world,
        open_agents(world) as client,
    ):
        await greeted(await client.connect_agent("demo"))
        await world.until(world.server.agents)
        host, port = world.tunnel_address.rsplit(":", 1)
        second = await open_tls((host, int(port)), world.pki, context=agent_context(world.pki))
        with trio.fail_after(10), contextlib.suppress(ConnectionError):
            await receive_all(second)  # closed for being late; the first is as late by now
        assert world.server.agents()
        await trio.aclose_forcefully(second.stream)


async def test_of_too_many_that_are_no_agents_yet_the_oldest_goes(
    pki: Path, tmp_path: Path
) -> None:
    async with open_server(pki, tmp_path, max_handshakes=2) as world:
        host, port = world.tunnel_address.rsplit(":", 1)
        peers = [await trio.open_tcp_stream(host, int(port)) for _ in range(2)]
        async with open_agents(world) as client:
            with trio.fail_after(10):
                assert await peers[0].receive_some(100) == b""
            await greeted(await client.connect_agent("demo"))
        for peer in peers:
            await peer.aclose()


# -- which agent ------------------------------------------------------------------------------


async def test_agents_of_both_kinds_share_the_dials(pki: Path, tmp_path: Path) -> None:
    async with open_world(pki, tmp_path, server_options={"any_agent_id": True}) as world:
        native = await world.endpoint(say("native"))
        async with open_agent(world, "go", identifiers="host=endpoint") as agent:
            assert [row["id"] for row in world.server.agents()] == ["demo", "go"]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(expect, world, "endpoint:80", b"konnectivity")
                request = await agent.next()
                assert request == dial_req("endpoint:80", request.random)
                await agent.send(dial_rsp(request.random, 1), data(1, b"konnectivity"))
                await agent.send(close_rsp(1))
            assert await ask(world, f"127.0.0.1:{native}") == ESTABLISHED + b"native"


def say(text: str) -> Callable[[trio.SocketStream], Awaitable[None]]:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(text.encode())

    return serve


async def ask(world: World, address: str) -> bytes:
    peer = await open_unix(world.unix_frontend)
    try:
        await peer.send_all(f"CONNECT {address} HTTP/1.1\r\n\r\n".encode())
        return await receive_all(peer)
    finally:
        await trio.aclose_forcefully(peer.stream)


async def expect(world: World, address: str, octets: bytes) -> None:
    assert await ask(world, address) == ESTABLISHED + octets


async def test_strategies_decide_as_configured(pki: Path, tmp_path: Path) -> None:
    options = {"strategies": ("destHost", "defaultRoute"), "dial_timeout": 0.05}
    async with open_server(pki, tmp_path, **options) as world:
        async with open_agent(world, "by-host", identifiers="host=b.example&ipv4=10.0.0.1"):
            assert world.server.ready
            reply = await ask(world, "c.example:80")
            assert b"none of those connected takes it: destHost, defaultRoute" in reply
            async with open_agent(world, "route", identifiers="default-route=1"):
                for address, agent in (
                    ("b.example:80", "by-host"),
                    ("10.0.0.1:80", "by-host"),
                    ("c.example:80", "route"),
                ):
                    reply = await ask(world, address)
                    assert f"no answer of agent {agent} in".encode() in reply
        await world.until(lambda: not world.server.ready)


# -- draining ---------------------------------------------------------------------------------


async def test_a_drain_keeps_an_agent_until_its_last_connection_has_ended(
    pki: Path, tmp_path: Path
) -> None:
    """A GOAWAY before that would make a Go agent drop them all."""
    async with open_world(pki, tmp_path, agent=False) as world:
        async with open_agent(world) as agent, open_client(world) as client:
            front = await client.proxy()
            await front.send(dial_req("endpoint:80"))
            asked = await agent.next()
            await agent.send(dial_rsp(asked.random, 1))
            cid = (await front.next()).cid
            world.server_host.drain.set()
            await world.until(lambda: client.goaway)
            assert not world.server.ready
            await agent.send(data(1, b"still served"))
            assert await front.next() == data(cid, b"still served")
            await front.send(data(cid, b"both ways"))
            assert await agent.next() == data(1, b"both ways")
            assert agent.client.events == []
            await agent.send(close_rsp(1))
            assert await front.next() == close_rsp(cid)
            assert agent.client.events == []
            await front.end()
            assert await front.status() == (0, "")
            assert await agent.status() == (14, "the server is shutting down")
            await world.until(lambda: "GOAWAY" in agent.client.events)
            await world.server_done.wait()
        assert not world.reactor.served


async def test_a_server_that_is_stopped_says_so_to_agents_and_clients(
    pki: Path, tmp_path: Path
) -> None:
    async with open_world(pki, tmp_path, agent=False) as world:
        async with open_agent(world) as agent, open_client(world) as client:
            front = await client.proxy()
            await front.send(dial_req("endpoint:80"))
            asked = await agent.next()
            await agent.send(dial_rsp(asked.random, 1))
            cid = (await front.next()).cid
            world.server_scope.cancel()
            await world.server_done.wait()
            assert await agent.status() == (14, "the server is shutting down")
            last = await front.next()
            assert last == close_rsp(cid, last.error)
            assert last.error
            assert await front.status() == (14, "the server is shutting down")
        assert not world.reactor.served
        telemetry = world.server.telemetry
        assert not any(telemetry.grpc_connections.values())
        assert telemetry.established_connections == 0


async def test_a_silent_agent_is_pinged_and_then_lost(
    pki: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_server(pki, tmp_path, keepalive=30.0) as world, open_agents(world) as client:
        agent = await client.connect_agent()
        await greeted(agent)
        await trio.sleep(100)  # it answers
        assert tunnels(world)[0].rtt is not None
        client.connection.deaf = True
        await trio.sleep(60)
        assert not world.server.agents()


async def test_late_events_of_a_connection_find_nothing(world: World) -> None:
    async with open_agent(world) as agent:
        await agent.send(data(1, b"x"))
        assert await agent.next() == close_req(1)
        agent.reset()
        await world.until(lambda: not world.server.agents())
