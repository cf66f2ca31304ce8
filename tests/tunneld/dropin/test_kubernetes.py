"""Both programs with a Kubernetes API: agents' tokens, and leases."""

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.interop.konnectivity.processes import http_get
from tests.tunneld.dropin.world import World, until
from tests.tunneld.kube.apidouble import ApiDouble
from tests.tunneld.kube.apiwire import serving
from tests.tunneld.kube.samples import EPOCH, lease_object
from tunneld.dropin.kubernetes import open_kubernetes
from tunneld.dropin.program import StartError

READY = (200, "ok")
TOKEN_FLAGS = [
    "--agent-namespace=kube-system",
    "--agent-service-account=konnectivity-agent",
    "--authentication-audience=tunnel",
]
GOOD = {
    "authenticated": True,
    "user": {"username": "system:serviceaccount:kube-system:konnectivity-agent"},
    "audiences": ["tunnel"],
}


@asynccontextmanager
async def an_api(api: ApiDouble, directory: Path) -> AsyncIterator[str]:
    """Serves ``api``; the flag for programs to find it."""
    async with serving(api) as port:
        path = directory / "kubeconfig"
        path.write_text(
            json.dumps(
                {
                    "current-context": "x",
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                    "users": [{"name": "u", "user": {}}],
                }
            )
        )
        yield f"--kubeconfig={path}"


async def test_agents_are_known_by_their_tokens(world: World) -> None:
    api = ApiDouble(tokens={"good": GOOD})
    token = world.directory / "token"
    token.write_text("bad\n")
    async with an_api(api, world.directory) as kubeconfig:
        server = world.server(kubeconfig, *TOKEN_FLAGS, tokens=True)
        agent = world.agent(
            f"--service-account-token-path={token}", "--sync-interval=50ms", tokens=True
        )
        await server.says("agent refused")
        assert "Failed to validate authentication token" in server.log_text()
        token.write_text("good\n")
        await server.answers("/readyz", READY)
        await agent.answers("/readyz", READY)


async def test_an_agent_without_a_token_is_refused(world: World) -> None:
    async with an_api(ApiDouble(), world.directory) as kubeconfig:
        server = world.server(kubeconfig, *TOKEN_FLAGS, tokens=True)
        world.agent(tokens=True)
        await server.says("Authentication context was not found in metadata")


async def test_a_server_holds_a_lease_for_as_long_as_it_takes_clients(world: World) -> None:
    api = ApiDouble()
    async with an_api(api, world.directory) as kubeconfig:
        server = world.server(
            kubeconfig, "--enable-lease-controller", "--lease-label=a=b,c=d", "--server-id=one"
        )
        await until(lambda: api.leases)
        (lease,) = api.leases.values()
        assert lease["metadata"]["name"] == "konnectivity-proxy-server-one"
        assert lease["metadata"]["labels"] == {"a": "b", "c": "d"}
        server.signal(signal.SIGTERM)
        assert await server.exit_code() == 0
        assert api.leases == {}


@pytest.mark.parametrize(("source", "count"), [("default", 1), ("max", 3)])
async def test_an_agent_counts_servers_by_their_leases(
    world: World, source: str, count: int
) -> None:
    api = ApiDouble()
    api.put(lease_object("one", (datetime.now(UTC) - EPOCH).total_seconds()))
    async with an_api(api, world.directory) as kubeconfig:
        world.server("--server-count=3")
        agent = world.agent(kubeconfig, "--count-server-leases", f"--server-count-source={source}")
        await agent.answers("/readyz", READY)
        name = "konnectivity_network_proxy_agent_known_server_count"
        _, metrics = await http_get(agent.health, "/metrics")
        assert f"{name} {count}" in metrics.splitlines()


async def test_a_kubeconfig_that_is_none_is_a_failure_to_start(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text("[]")
    with pytest.raises(StartError, match="failed to load kubernetes client config: "):
        async with open_kubernetes(str(path)):
            pass
