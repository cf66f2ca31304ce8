"""proxy-server as a process: what it serves, and how it stops."""

import signal
import subprocess
import sys
from pathlib import Path
from queue import SimpleQueue

import grpc
import pytest
import trio

from frames import packet
from tests.interop.konnectivity.processes import http_get
from tests.tunneld.dropin.world import (
    TIMEOUT,
    Program,
    World,
    echo_endpoint,
    ends,
    establish,
    exchange,
)

READY = (200, "ok")
NOT_READY = (500, "no connection to any proxy agent")

CONNECT = "--mode=http-connect"


async def both(world: World, *flags: str) -> Program:
    """A server for CONNECT with an agent; returns the server."""
    server = world.server(CONNECT, *flags)
    agent = world.agent("--agent-id=free-text")
    await server.answers("/readyz", READY)
    await agent.answers("/readyz", READY)
    return server


async def test_a_client_reaches_an_endpoint_by_connect(world: World) -> None:
    await both(world)
    async with echo_endpoint() as address, await world.connect(address) as stream:
        await exchange(stream)


async def test_it_is_ready_once_an_agent_is_there(world: World) -> None:
    server = world.server(CONNECT)
    await server.answers("/healthz", (200, "ok"))
    for path in ("/readyz", "/ready"):
        assert await http_get(server.health, path) == NOT_READY
    world.agent()
    for path in ("/readyz", "/ready"):
        await server.answers(path, READY)


async def test_metrics_are_on_both_ports_and_profiles_on_request(world: World) -> None:
    server = await both(world, "--enable-profiling")
    for port in (server.health, server.admin):
        status, text = await http_get(port, "/metrics")
        assert status == 200
        name = "konnectivity_network_proxy_server_ready_backends"
        assert f'{name}{{proxy_strategy="default"}} 1' in text.splitlines()
    assert (await http_get(server.admin, "/debug/pprof/"))[0] == 200
    assert (await http_get(server.health, "/debug/pprof/"))[0] == 404


async def test_profiles_are_not_served_by_default(world: World) -> None:
    server = world.server()
    await server.answers("/healthz", (200, "ok"))
    assert (await http_get(server.admin, "/debug/pprof/"))[0] == 404


async def test_a_unix_socket_serves_connect(world: World) -> None:
    path = world.directory / "front"
    path.write_text("left over")
    server = world.server(CONNECT, uds=path)
    world.agent()
    await server.answers("/readyz", READY)
    async with echo_endpoint() as address, await trio.open_unix_socket(path) as stream:
        await establish(stream, address)
        await exchange(stream)
    server.signal(signal.SIGTERM)
    assert await server.exit_code() == 0
    assert not path.exists()


def proxied(path: Path, address: str) -> bytes:
    """What an endpoint at ``address`` sends back to ``hello`` of a client of konnectivity's
    service."""
    requests: SimpleQueue[packet.Packet] = SimpleQueue()
    requests.put(packet.DialRequest("tcp", address, 7))
    with grpc.insecure_channel(f"unix:{path}") as channel:
        proxy = channel.stream_stream(
            "/ProxyService/Proxy",
            request_serializer=packet.serialize,
            response_deserializer=lambda octets: packet.parse(memoryview(octets)),
        )
        answers = proxy(iter(requests.get, None), timeout=TIMEOUT)
        dialled = next(answers)
        assert dialled == packet.DialResponse("", 1, 7)
        requests.put(packet.Data(dialled.connect_id, b"hello", ""))
        octets = bytes(next(answers).data)
        answers.cancel()
        return octets


async def test_a_server_speaks_grpc_by_default(world: World) -> None:
    path = world.directory / "front"
    server = world.server(uds=path)
    world.agent()
    await server.answers("/readyz", READY)
    async with echo_endpoint() as address:
        assert await trio.to_thread.run_sync(proxied, path, address) == b"hello"


async def test_a_file_in_the_place_of_the_socket_may_be_kept(world: World) -> None:
    path = world.directory / "front"
    path.write_text("precious")
    server = world.server("--delete-existing-uds-file=false", uds=path)
    assert await server.exit_code() == 1
    assert f"failed to run the frontend server: {path} exists" in server.log_text()
    assert path.read_text() == "precious"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_ends_it_at_once_by_default(
    world: World, number: signal.Signals
) -> None:
    server = await both(world)
    async with echo_endpoint() as address:
        stream = await world.connect(address)
        server.signal(number)
        await ends(stream)
        assert await server.exit_code() == 0
        await trio.aclose_forcefully(stream)


async def test_connections_may_go_on_while_it_shuts_down_gracefully(world: World) -> None:
    server = await both(world, "--graceful-shutdown-timeout=10m")
    async with echo_endpoint() as address:
        stream = await world.connect(address)
        await exchange(stream)
        server.signal(signal.SIGTERM)
        await server.answers("/readyz", NOT_READY)
        with pytest.raises(OSError, match="all attempts to connect"):
            await world.connect(address)
        await exchange(stream)
        assert server.running
        await stream.aclose()
        assert await server.exit_code() == 0


async def test_connections_are_closed_when_the_graceful_time_is_over(world: World) -> None:
    server = await both(world, "--graceful-shutdown-timeout=500ms")
    async with echo_endpoint() as address:
        stream = await world.connect(address)
        server.signal(signal.SIGTERM)
        await ends(stream)
        assert await server.exit_code() == 0
        await trio.aclose_forcefully(stream)


async def test_the_second_signal_ends_it_with_1(world: World) -> None:
    server = await both(world, "--graceful-shutdown-timeout=10m")
    async with echo_endpoint() as address:
        stream = await world.connect(address)
        server.signal(signal.SIGTERM)
        await server.answers("/readyz", NOT_READY)
        server.signal(signal.SIGINT)
        assert await server.exit_code() == 1
        await trio.aclose_forcefully(stream)


async def test_a_port_of_operators_that_is_taken_does_not_keep_it_from_running(
    world: World,
) -> None:
    async with echo_endpoint() as address:
        server = world.server(f"--admin-port={address.rpartition(':')[2]}")
        await server.says("admin server could not listen")
        await server.answers("/healthz", (200, "ok"))


async def test_a_port_of_its_own_that_is_taken_does(world: World) -> None:
    async with echo_endpoint() as address:
        server = world.server(f"--agent-port={address.rpartition(':')[2]}")
        assert await server.exit_code() == 1
        assert f"Error: failed to run the server: cannot listen on {address}" in server.log_text()


async def test_a_certificate_that_is_none_keeps_it_from_running(world: World) -> None:
    file = world.directory / "file"
    file.touch()
    server = world.server(f"--cluster-cert={file}")
    assert await server.exit_code() == 1
    assert "Error: failed to run the server: cannot use certificate" in server.log_text()


async def test_options_that_cannot_be_keep_it_from_running(world: World) -> None:
    server = world.server("--mode=x")
    assert await server.exit_code() == 1
    assert "failed to validate server options with mode must be set to" in server.log_text()


async def test_without_kubernetes_there_are_no_leases(world: World) -> None:
    server = world.server("--enable-lease-controller")
    assert await server.exit_code() == 1
    assert "Error: failed to load kubernetes client config: " in server.log_text()


def test_help_does_not_load_what_only_some_need() -> None:
    script = (
        "import sys, tunneld.dropin.proxy_server, tunneld.dropin.proxy_agent\n"
        "print([name for name in ('httpx', 'yaml', 'cryptography', 'prometheus_client', 'h11', "
        "'click', 'h2') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
