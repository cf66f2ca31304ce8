"""Everything over real sockets, with TLS: what httpx and trio do to each other."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml

from tests.tunneld.kube.apidouble import COLLECTION, ApiDouble, Reply, event, status
from tests.tunneld.kube.apiwire import serving
from tests.tunneld.kube.samples import EPOCH, LABELS, lease_object
from tunneld.kube import (
    LeaseController,
    LeaseCounter,
    TokenRefusedError,
    TokenReviewer,
    load_access,
    open_client,
)
from tunneld.kube.client import KubeClient
from tunneld.kube.errors import KubeError
from tunneld.kube.lease import utc_now
from tunneld.telemetry import AgentTelemetry, ServerTelemetry
from tunneld.tlscontext import server_context

LIMIT = 20
"""Seconds after which a test has hung."""

WATCH = {"allowWatchBookmarks": "true", "timeoutSeconds": "300", "resourceVersion": "100"}


@pytest.fixture
def tls(pki: Path) -> ssl.SSLContext:
    """The API's: it asks for certificates."""
    cert, key, ca = (str(pki / "frontend" / f) for f in ("server.crt", "server.key", "ca.crt"))
    return server_context(cert, key, ca, ["http/1.1"])


@pytest.fixture
def kubeconfig(pki: Path, tmp_path: Path) -> Callable[..., str]:
    """Writes a kubeconfig file for an API on a port; ``cluster`` and ``user`` add to its tables."""

    def write(
        port: int, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None
    ) -> str:
        directory = pki / "frontend"
        clusters = {
            "server": f"https://127.0.0.1:{port}",
            "certificate-authority": str(directory / "ca.crt"),
        }
        users = {
            "client-certificate": str(directory / "client.crt"),
            "client-key": str(directory / "client.key"),
        }
        config = {
            "current-context": "a",
            "clusters": [{"name": "a", "cluster": clusters | (cluster or {})}],
            "users": [{"name": "a", "user": users | (user or {})}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return str(path)

    return write


@asynccontextmanager
async def opened(
    api: ApiDouble, tls: ssl.SSLContext, kubeconfig: Callable[..., str]
) -> AsyncIterator[KubeClient]:
    with trio.fail_after(LIMIT):
        async with serving(api, tls) as port, open_client(load_access(kubeconfig(port))) as client:
            yield client


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - nothing tells about things as various as these
        await trio.sleep(0.001)


async def test_a_server_s_lease_comes_and_goes(
    api: ApiDouble, tls: ssl.SSLContext, kubeconfig: Callable[..., str]
) -> None:
    async with opened(api, tls, kubeconfig) as client, trio.open_nursery() as nursery:
        controller = LeaseController(client, "a", "kube-system", LABELS, ServerTelemetry())
        await nursery.start(controller.run)
        await until(lambda: set(api.kinds()) >= {"GET", "POST", "LIST"} and bool(api.leases))
        nursery.cancel_scope.cancel()
    assert api.leases == {}
    assert api.kinds()[-1] == "DELETE"


async def test_an_agent_counts_servers_over_a_watch(
    api: ApiDouble, tls: ssl.SSLContext, kubeconfig: Callable[..., str]
) -> None:
    now = (utc_now() - EPOCH).total_seconds()
    api.put(lease_object("a", now))
    async with opened(api, tls, kubeconfig) as client, trio.open_nursery() as nursery:
        telemetry = AgentTelemetry()
        counter = LeaseCounter(client, "kube-system", "k8s-app=konnectivity-server", telemetry)
        await nursery.start(counter.run)
        assert counter.count == 1
        await until(lambda: bool(api.watchers))
        api.put(lease_object("b", now))
        await until(lambda: counter.count == 2)
        api.break_watches()
        api.put(lease_object("c", now))
        await until(lambda: counter.count == 3)
        nursery.cancel_scope.cancel()


async def test_a_token_is_reviewed(
    api: ApiDouble, tls: ssl.SSLContext, kubeconfig: Callable[..., str]
) -> None:
    name = "system:serviceaccount:kube-system:agent"
    api.tokens["abc"] = {"authenticated": True, "user": {"username": name}}
    async with opened(api, tls, kubeconfig) as client:
        reviewer = TokenReviewer(client, "tunnel", "kube-system", "agent")
        await reviewer.check(["Bearer abc"])
        with pytest.raises(TokenRefusedError, match="lookup failed: no such token"):
            await reviewer.check(["Bearer other"])


async def test_a_rotated_token_is_sent_with_the_next_request(
    api: ApiDouble, tls: ssl.SSLContext, kubeconfig: Callable[..., str], tmp_path: Path
) -> None:
    token = tmp_path / "token"
    write = partial(kubeconfig, user={"tokenFile": str(token)})
    token.write_text("first")
    api.authorization = "Bearer first"
    async with opened(api, tls, write) as client:
        await client.get(COLLECTION)
        token.write_text("second")
        api.authorization = "Bearer second"
        await client.get(COLLECTION)


async def test_another_name_of_the_server_may_be_checked(
    api: ApiDouble, tls: ssl.SSLContext, kubeconfig: Callable[..., str]
) -> None:
    asked: list[str | None] = []
    tls.sni_callback = lambda _, name, __: asked.append(name)
    write = partial(kubeconfig, cluster={"tls-server-name": "kubernetes"})
    async with opened(api, tls, write) as client:
        await client.get(COLLECTION)
    assert asked == ["kubernetes"]


async def test_a_certificate_for_another_name_is_refused(
    api: ApiDouble, tls: ssl.SSLContext, kubeconfig: Callable[..., str]
) -> None:
    write = partial(kubeconfig, cluster={"tls-server-name": "other"})
    async with opened(api, tls, write) as client:
        with pytest.raises(KubeError, match="certificate verify failed: Hostname mismatch"):
            await client.get(COLLECTION)


async def test_a_certificate_of_another_authority_is_refused(
    api: ApiDouble, tls: ssl.SSLContext, kubeconfig: Callable[..., str], pki: Path
) -> None:
    write = partial(kubeconfig, cluster={"certificate-authority": str(pki / "agent" / "ca.crt")})
    async with opened(api, tls, write) as client:
        with pytest.raises(KubeError, match="certificate verify failed: ") as caught:
            await client.get(COLLECTION)
        assert caught.value.status == 0


async def test_any_certificate_is_taken_where_that_is_asked_for(
    api: ApiDouble, tls: ssl.SSLContext, kubeconfig: Callable[..., str]
) -> None:
    skip = {"certificate-authority": None, "insecure-skip-tls-verify": True}
    async with opened(api, tls, partial(kubeconfig, cluster=skip)) as client:
        await client.get(COLLECTION)


async def test_without_a_client_certificate_the_api_hangs_up(
    api: ApiDouble, tls: ssl.SSLContext, kubeconfig: Callable[..., str]
) -> None:
    nothing = {"client-certificate": None, "client-key": None}
    async with opened(api, tls, partial(kubeconfig, user=nothing)) as client:
        with pytest.raises(KubeError, match=r'^Get "https://127') as caught:
            await client.get(COLLECTION)
        assert caught.value.status == 0


async def test_plain_http_is_possible(api: ApiDouble, kubeconfig: Callable[..., str]) -> None:
    with trio.fail_after(LIMIT):
        async with serving(api) as port:
            path = kubeconfig(port, {"server": f"http://127.0.0.1:{port}"}, {"token": "abc"})
            async with open_client(load_access(path)) as client:
                assert (await client.get(COLLECTION))["items"] == []


async def test_nobody_listening_is_an_error_that_says_so(kubeconfig: Callable[..., str]) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    with trio.fail_after(LIMIT):
        async with open_client(load_access(kubeconfig(port))) as client:
            with pytest.raises(KubeError, match="Connection refused"):
                await client.get(COLLECTION)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_server_that_closes_without_an_answer_is_an_error(
    kubeconfig: Callable[..., str], scheme: str
) -> None:
    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.aclose()

    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, hang_up, 0, host="127.0.0.1"))
            port = listeners[0].socket.getsockname()[1]
            path = kubeconfig(port, {"server": f"{scheme}://127.0.0.1:{port}"})
            async with open_client(load_access(path)) as client:
                with pytest.raises(KubeError, match=r"disconnected|eof|reset") as caught:
                    await client.get(COLLECTION)
            assert caught.value.status == 0
            nursery.cancel_scope.cancel()


async def test_errors_leave_the_connection_usable(
    api: ApiDouble, tls: ssl.SSLContext, kubeconfig: Callable[..., str]
) -> None:
    handshakes: list[object] = []
    tls.sni_callback = lambda *_: handshakes.append(None)
    write = partial(kubeconfig, cluster={"tls-server-name": "kubernetes"})
    api.fail("LIST", status(500, "InternalError"), times=3)
    async with opened(api, tls, write) as client:
        for _ in range(3):
            with pytest.raises(KubeError):
                await client.get(COLLECTION)
        await client.get(COLLECTION)
    assert len(handshakes) == 1


async def test_a_huge_answer_is_cut_off_and_the_next_request_goes_through(
    api: ApiDouble, tls: ssl.SSLContext, kubeconfig: Callable[..., str]
) -> None:
    api.fail("LIST", Reply(200, bytes((16 << 20) + 1)))
    async with opened(api, tls, kubeconfig) as client:
        with pytest.raises(KubeError, match="more than 16777216 octets"):
            await client.get(COLLECTION)
        await client.get(COLLECTION)


async def test_watches_may_be_left_and_cancelled_at_any_point(
    api: ApiDouble, tls: ssl.SSLContext, kubeconfig: Callable[..., str]
) -> None:
    async with opened(api, tls, kubeconfig) as client:
        async with client.watch(COLLECTION, **WATCH):
            pass
        async with client.watch(COLLECTION, **WATCH) as watch:
            api.send(event("BOOKMARK", {}) * 3 + b'{"type')
            assert await watch.receive()
        async with client.watch(COLLECTION, **WATCH) as watch:
            with trio.move_on_after(0.01):
                await watch.receive()
        with trio.move_on_after(0.01):
            async with client.watch(COLLECTION, **WATCH) as watch:
                await watch.receive()
        await client.get(COLLECTION)


async def test_a_request_may_be_cancelled_while_it_is_answered(
    api: ApiDouble, tls: ssl.SSLContext, kubeconfig: Callable[..., str]
) -> None:
    api.hanging = {"LIST"}
    async with opened(api, tls, kubeconfig) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.get, COLLECTION)
            await until(lambda: api.kinds() == ["LIST"])
            nursery.cancel_scope.cancel()
        api.hanging = set()
        await client.get(COLLECTION)


async def test_a_proxy_is_asked_to_connect(
    api: ApiDouble, tls: ssl.SSLContext, kubeconfig: Callable[..., str]
) -> None:
    asked: list[bytes] = []

    async def proxy(stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some()
        asked.append(head.split(b"\r\n", 1)[0])
        host, _, port = asked[0].split()[1].decode().rpartition(":")
        async with await trio.open_tcp_stream(host, int(port)) as target:
            await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(copy, stream, target)
                nursery.start_soon(copy, target, stream)

    async def copy(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        try:
            async for octets in source:
                await sink.send_all(octets)
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, proxy, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        write = partial(kubeconfig, cluster={"proxy-url": f"http://127.0.0.1:{port}"})
        async with opened(api, tls, write) as client:
            await client.get(COLLECTION)
        nursery.cancel_scope.cancel()
    assert asked[0].startswith(b"CONNECT 127.0.0.1:")
