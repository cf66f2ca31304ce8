"""proxy-agent as a process: how it finds its server, what it shows, and how it stops."""

import signal

import pytest
import trio

from tests.interop.konnectivity.processes import http_get
from tests.tunneld.dropin.world import Program, World, echo_endpoint, exchange

READY = (200, "ok")
VERBOSE = (200, "[+]ping ok\n[+]server-connected ok\ncheck passed\n")
NOT_READY = (503, "[+]ping ok\n[-]server-connected failed: no servers connected\n")

CONNECT = "--mode=http-connect"


async def both(world: World) -> Program:
    """An agent with its server, which takes CONNECT; returns the agent."""
    server = world.server(CONNECT)
    agent = world.agent()
    await agent.answers("/readyz", READY)
    await server.answers("/readyz", READY)
    return agent


async def test_it_is_ready_once_it_has_found_its_server(world: World) -> None:
    agent = world.agent("--sync-interval=100ms", "--sync-interval-cap=100ms")
    await agent.says("no tunnel to")
    assert await http_get(agent.health, "/readyz") == NOT_READY
    assert await http_get(agent.health, "/healthz") == (200, "ok")
    server = world.server()
    await agent.answers("/readyz", READY)
    assert await http_get(agent.health, "/readyz?verbose") == VERBOSE
    server.kill()
    await agent.answers("/readyz", NOT_READY)


async def test_the_admin_port_sends_to_the_metrics(world: World) -> None:
    agent = await both(world)
    assert (await http_get(agent.admin, "/metrics"))[0] == 301
    status, text = await http_get(agent.health, "/metrics")
    assert status == 200
    name = "konnectivity_network_proxy_agent_open_server_connections"
    assert f"{name} 1" in text.splitlines()


async def test_its_id_may_come_from_the_environment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROXY_AGENT_ID", "of-the-environment")
    agent = world.agent()
    await agent.says("agent started server=127.0.0.1")
    assert "id=of-the-environment" in agent.log_text()


async def test_it_goes_on_after_the_first_signal_and_ends_with_the_second(world: World) -> None:
    agent = await both(world)
    async with echo_endpoint() as address, await world.connect(address) as stream:
        agent.signal(signal.SIGTERM)
        await agent.says("signal received")
        await exchange(stream)
        assert await http_get(agent.health, "/readyz") == READY
        assert agent.running
        agent.signal(signal.SIGINT)
        assert await agent.exit_code() == 0
        await trio.aclose_forcefully(stream)


async def test_a_certificate_that_is_none_keeps_it_from_running(world: World) -> None:
    file = world.directory / "file"
    file.touch()
    agent = world.agent(f"--ca-cert={file}")
    assert await agent.exit_code() == 1
    assert "Error: failed to run proxy connection with cannot use CA" in agent.log_text()


async def test_options_that_cannot_be_keep_it_from_running(world: World) -> None:
    agent = world.agent("--agent-identifiers=colour=red")
    assert await agent.exit_code() == 1
    assert "agent address is invalid: unknown address type: colour" in agent.log_text()


async def test_without_kubernetes_leases_cannot_be_counted(world: World) -> None:
    agent = world.agent("--count-server-leases")
    assert await agent.exit_code() == 1
    assert "Error: failed to load kubernetes client config: " in agent.log_text()
