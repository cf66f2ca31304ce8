"""What servers and agents show of themselves and let be ended, with real connections."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from tests.tunneld.peers import ESTABLISHED, connect, open_tls, open_unix, receive_all
from tests.tunneld.tunnelworld import World, open_world
from tunneld import log
from tunneld.logbook import LogRecord


@pytest.fixture
def logged() -> Iterator[list[LogRecord]]:
    lines: list[LogRecord] = []
    log.configure([lambda _, line: lines.append(line)], log.number_of("debug"))
    yield lines
    structlog.reset_defaults()


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)


async def connected(world: World) -> Any:
    """A client that has had an answer from an endpoint."""
    port = await world.endpoint(echo)
    peer = await open_tls(world.frontend, world.pki)
    assert await connect(peer, f"127.0.0.1:{port}") == ESTABLISHED
    await peer.send_all(b"hello")
    assert await peer.receive_some() == b"hello"
    return peer


async def assert_reset(peer: Any) -> None:
    with pytest.raises(ConnectionError):
        await receive_all(peer)
    await trio.aclose_forcefully(peer.stream)


async def test_both_ends_show_a_connection_by_one_id(world: World) -> None:
    peer = await connected(world)
    (row,), (other,) = world.server.conns(), world.agent.conns()
    assert row["id"] == other["id"]
    assert row["identity"] == "cert:client"
    assert row["client"].startswith("127.0.0.1:")
    assert row["dialled"] == row["destination"] == other["dialled"]
    assert (row["agent"], row["state"], row["queue"]) == ("demo", "open", 0)
    assert row["rate_sent"] > 0
    assert row["rate_received"] > 0
    await peer.stream.aclose()


async def test_an_agent_shows_who_it_is_and_how_it_fares(world: World) -> None:
    peer = await connected(world)
    (row,) = world.server.agents()
    assert (row["id"], row["identity"], row["protocol"]) == ("demo", "cert:demo", "rh2")
    assert (row["conns"], row["pending"], row["dials"]) == (1, 0, 1)
    assert row["rate_sent"] > 0
    assert not row["draining"]
    await peer.stream.aclose()


@pytest.mark.parametrize("side", ["server", "agent"])
async def test_a_killed_connection_is_reset_both_ways(
    world: World, side: str, logged: list[LogRecord]
) -> None:
    endpoint_broke = trio.Event()

    async def endpoint(stream: trio.SocketStream) -> None:
        try:
            await echo(stream)
        except trio.BrokenResourceError:
            endpoint_broke.set()

    port = await world.endpoint(endpoint)
    peer = await open_tls(world.frontend, world.pki)
    assert await connect(peer, f"127.0.0.1:{port}") == ESTABLISHED
    (row,) = world.server.conns()
    role = world.server if side == "server" else world.agent
    assert role.kill("conn", row["id"], "enough") == [row["id"]]
    await assert_reset(peer)
    with trio.fail_after(5):
        await endpoint_broke.wait()
    await world.at_rest()
    (event,) = [line for line in logged if line.name == "connection.killed"]
    assert (event.fields["dial"], event.fields["reason"]) == (row["id"], "enough")


@pytest.mark.parametrize("name", ["cert:client", "client", "127.0.0.1"])
async def test_all_connections_of_a_client_are_killed(world: World, name: str) -> None:
    peers = [await connected(world), await connected(world)]
    other = await open_unix(world.unix_frontend)
    port = await world.endpoint(echo)
    assert await connect(other, f"127.0.0.1:{port}") == ESTABLISHED
    assert len(world.server.kill("client", name, "")) == 2
    for peer in peers:
        await assert_reset(peer)
    (row,) = world.server.conns()
    assert row["identity"].startswith("user:")
    await other.stream.aclose()


async def test_a_killed_agent_loses_its_connections_and_comes_back(
    world: World, logged: list[LogRecord]
) -> None:
    peer = await connected(world)
    (before,) = world.server.agents()
    assert world.server.kill("agent", "nobody", "") == []
    assert world.server.kill("agent", "demo", "new rules") == [before["peer"]]
    await assert_reset(peer)
    await world.until(
        lambda: [r["peer"] for r in world.server.agents()] not in ([], [before["peer"]])
    )
    lost = [line for line in logged if line.name == "tunnel.lost"]
    assert "killed: new rules" in str(lost[0].fields["error"])


async def test_a_server_is_ready_when_its_listeners_shake_hands(
    world: World, logged: list[LogRecord]
) -> None:
    logged.clear()
    checks = await world.server.readiness()
    assert dict(checks) == {
        "agents: 1 of 1 answer": "",
        **{f"listener {address}": "" for address in world.addresses},
    }
    await world.at_rest()
    assert not [line for line in logged if line.level in ("info", "warning", "error")]
    assert not world.server.telemetry.tunneld_handshake_failures


async def test_a_listener_that_nobody_serves_is_told(world: World, tmp_path: Path) -> None:
    silent = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = silent[0].socket.getsockname()[1]
    check = world.server._selfcheck
    check.listeners = [(f"127.0.0.1:{port}", check.listeners[0][1]), ("127.0.0.1:1", echo_socket)]
    with trio.fail_after(10):
        checks = dict(await world.server.readiness())
    assert checks[f"listener 127.0.0.1:{port}"] == "no answer in 2 s"
    assert "refused" in checks["listener 127.0.0.1:1"]
    await silent[0].aclose()


async def echo_socket(sock: object) -> None:
    """Never called."""


async def test_an_agent_is_ready_when_its_servers_answer(world: World) -> None:
    ((name, problem),) = await world.agent.readiness()
    assert name.startswith("tunnel to ")
    assert problem == ""
    world.server_scope.cancel()
    await world.server_done.wait()
    await world.until(lambda: not world.agent.connected)
    ((name, problem),) = await world.agent.readiness()
    assert (name, problem) == (f"tunnel to {world.tunnel_address}", "there is none")


async def test_what_both_tell_prometheus_adds_up(world: World) -> None:
    peer = await connected(world)
    found = {each["name"]: each["samples"] for each in world.server.metrics()}
    assert ("tunneld_connections", {"state": "open"}, 1) in found["tunneld_connections"]
    assert ("tunneld_bytes_total", {"direction": "to_agent"}, 5) in found["tunneld_bytes_total"]
    assert found["tunneld_agents"] == [("tunneld_agents", {"protocol": "rh2", "state": "ready"}, 1)]
    name = "konnectivity_network_proxy_server_established_connections"
    assert found[name] == [(name, {}, 1)]
    of_agent = {each["name"]: each["samples"] for each in world.agent.metrics()}
    count = [s for s in of_agent["tunneld_dial_seconds"] if s[0] == "tunneld_dial_seconds_count"]
    assert count == [("tunneld_dial_seconds_count", {}, 1)]
    await peer.stream.aclose()


async def test_failed_dials_and_handshakes_are_counted_by_why(world: World) -> None:
    peer = await open_unix(world.unix_frontend)
    await connect(peer, "127.0.0.1:1")
    await peer.stream.aclose()
    stranger = await trio.open_tcp_stream(*world.frontend)
    await stranger.send_all(b"GET / HTTP/1.1\r\n\r\n")
    await trio.aclose_forcefully(stranger)
    failures = world.server.telemetry.tunneld_handshake_failures
    await world.until(lambda: failures)
    assert world.server.telemetry.tunneld_dial_failures == {"refused": 1}
    assert world.agent.telemetry.tunneld_dial_failures == {"refused": 1}
    assert failures == {("clients", "http_request"): 1}


async def test_audits_of_both_ends_have_the_same_dial(pki: Path, tmp_path: Path) -> None:
    options = {"audit": str(tmp_path / "server.audit")}
    agent_options = {"audit": str(tmp_path / "agent.audit")}
    async with open_world(
        pki, tmp_path, server_options=options, agent_options=agent_options
    ) as world:
        peer = await connected(world)
        (row,) = world.server.conns()
        await peer.stream.aclose()
        await world.at_rest()
    for side in ("server", "agent"):
        (line,) = (tmp_path / f"{side}.audit").read_text().splitlines()
        assert f'"dial":"{row["id"]}"' in line
        assert '"sent":5,"received":5' in line
