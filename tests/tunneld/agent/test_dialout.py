"""Ways out: through HTTP proxies, in WebSockets, both; TLS inside is end to end in all of them."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.tunneld.httpproxy import HonestProxy, listening, replying
from tests.tunneld.tunnelworld import World
from tests.tunneld.wsworld import (
    check_echo,
    connected_agent,
    direct_address,
    failed,
    listener,
    open_websocket_world,
    start_agent,
    websocket_address,
    why_not,
)
from tunneld.agent.link import PATIENCE


@pytest.fixture
async def world(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    """With a WebSocket behind TLS."""
    websocket = listener(cert="frontend/server.crt", key="frontend/server.key")
    async with open_websocket_world(pki, tmp_path, websocket=websocket) as opened:
        yield opened


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def wss(world: World) -> dict[str, str]:
    server = f"wss://{websocket_address(world)}/tunnel"
    return {"server": server, "websocket_ca": "frontend/ca.crt"}


def proxy_context(pki: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pki / "frontend/server.crt", pki / "frontend/server.key")
    return context


async def test_through_a_proxy(world: World) -> None:
    proxy = HonestProxy()
    async with listening(proxy) as port:
        server = direct_address(world)
        await connected_agent(world, server=server, http_proxy=f"http://127.0.0.1:{port}")
        await check_echo(world)
        assert [head.split()[1].decode() for head in proxy.heads] == [server]
        await world.at_rest()
        world.agent_scope.cancel()
        await world.agent_done.wait()


async def test_through_a_proxy_with_tls(world: World) -> None:
    """TLS to the proxy, and the tunnel's inside."""
    async with listening(HonestProxy(), proxy_context(world.pki)) as port:
        await connected_agent(
            world,
            server=direct_address(world),
            http_proxy=f"https://127.0.0.1:{port}",
            http_proxy_ca="frontend/ca.crt",
        )
        await check_echo(world)
        await world.at_rest()
        world.agent_scope.cancel()
        await world.agent_done.wait()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_websocket_through_a_proxy(world: World, scheme: str) -> None:
    """With https three layers of TLS: to the proxy, to the web server, to the tunneld server."""
    context = proxy_context(world.pki) if scheme == "https" else None
    proxy = HonestProxy()
    async with listening(proxy, context) as port:
        await connected_agent(
            world,
            **wss(world),
            http_proxy=f"{scheme}://127.0.0.1:{port}",
            http_proxy_ca="frontend/ca.crt",
        )
        await check_echo(world)
        assert [head.split()[1].decode() for head in proxy.heads] == [websocket_address(world)]
        await world.at_rest()
        world.agent_scope.cancel()
        await world.agent_done.wait()


async def test_credentials_come_from_the_url_or_from_a_file_that_is_read_anew(
    world: World, tmp_path: Path
) -> None:
    file = tmp_path / "credentials"
    file.write_text("me:secret\n")
    async with listening(HonestProxy(credentials=b"bWU6c2VjcmV0")) as port:
        server, url = direct_address(world), f"http://127.0.0.1:{port}"
        said = await why_not(world, server=server, http_proxy=url)
        assert "407 Proxy Authentication Required: it wants credentials" in said
        said = await why_not(world, server=server, http_proxy=url.replace("//", "//me:no@"))
        assert "it does not take the credentials" in said
        await connected_agent(world, server=server, http_proxy=url.replace("//", "//me:secret@"))
        world.agent_scope.cancel()
        await world.agent_done.wait()
        await world.until(lambda: not world.server.agents())
        options = {"http_proxy": url, "http_proxy_credentials": str(file)}
        file.write_text("nonsense")
        said = await why_not(world, server=server, **options)
        assert said == (
            f"cannot use http-proxy-credentials in {file}:"
            " the proxy's credentials have no ':'; expected USER:PASSWORD"
        )
        file.unlink()
        assert "No such file" in await why_not(world, server=server, **options)
        file.write_text("me:secret\n")
        await connected_agent(world, server=server, **options)
        world.agent_scope.cancel()
        await world.agent_done.wait()


async def test_the_environment_counts_if_it_shall(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    server = direct_address(world)
    said = await why_not(world, server=server, http_proxy="environment")
    assert said == "the HTTP proxy http://127.0.0.1:1: Connection refused"
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    said = await why_not(world, server=server, http_proxy="environment")
    assert said.startswith("http-proxy: HTTPS_PROXY of the environment: a proxy of kind 'socks5'")
    monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
    await connected_agent(world, server=server, http_proxy="environment")
    world.agent_scope.cancel()
    await world.agent_done.wait()
    monkeypatch.setenv("NO_PROXY", "")
    await connected_agent(world, server=server)


async def test_who_fails_is_named(world: World) -> None:
    server = direct_address(world)
    async with listening(replying(b"HTTP/1.1 403 Filtered\r\n\r\n")) as port:
        url = f"http://127.0.0.1:{port}"
        said = await why_not(world, server=server, http_proxy=url)
        assert said == f"the HTTP proxy {url} answers CONNECT {server} with 403 Filtered"
    async with listening(answering_at_once) as port:
        url = f"https://127.0.0.1:{port}"
        said = await why_not(world, server=server, http_proxy=url)
        assert said.startswith(f"the HTTP proxy {url}: TLS: ")
    async with listening(HonestProxy()) as port:
        url = f"http://127.0.0.1:{port}"
        said = await why_not(world, server="127.0.0.1:1", http_proxy=url)
        assert said == f"the HTTP proxy {url} answers CONNECT 127.0.0.1:1 with 502 Bad Gateway"
        said = await why_not(world, server="wss://127.0.0.1:1/tunnel", http_proxy=url)
        assert "answers CONNECT 127.0.0.1:1 with 502" in said
    said = await why_not(world, server="ws://127.0.0.1:1/tunnel")
    assert said == "Connection refused"


async def answering_at_once(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await stream.receive_some(1000)


async def test_tls_of_those_between_is_checked(world: World, tmp_path: Path) -> None:
    url = wss(world)["server"]
    said = await why_not(world, server=url)
    assert said.startswith(f"{url}: TLS: ")
    assert "certificate" in said
    said = await why_not(world, server=url, websocket_ca="agent/ca.crt")
    assert said.startswith(f"{url}: TLS: ")
    said = await why_not(world, server=url, websocket_ca="missing.crt")
    assert said.startswith("cannot use CA certificates ")
    async with listening(HonestProxy(), proxy_context(world.pki)) as port:
        proxy = f"https://127.0.0.1:{port}"
        said = await why_not(world, server=direct_address(world), http_proxy=proxy)
        assert said.startswith(f"the HTTP proxy {proxy}: TLS: ")


async def test_whoever_is_between_cannot_pass_for_the_server(world: World) -> None:
    """The certificate of the web server is good for the outside only."""
    said = await why_not(world, **wss(world), ca="frontend/ca.crt")
    assert said.startswith("TLS: ")
    assert "certificate" in said
    said = await why_not(world, **wss(world), server_name="elsewhere")
    assert "Hostname mismatch" in said


async def test_a_silent_proxy_is_given_up_and_named(
    pki: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async def silent(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    async with open_websocket_world(pki, tmp_path) as world, listening(silent) as port:
        for scheme in ("http", "https"):
            begun = trio.current_time()
            proxy = f"{scheme}://127.0.0.1:{port}"
            await start_agent(world, server="127.0.0.1:1", http_proxy=proxy)
            await failed(world)
            assert PATIENCE <= trio.current_time() - begun <= PATIENCE + 1
            said = f"no tunnel to 127.0.0.1:1: the HTTP proxy {proxy}: no answer in 10 s"
            assert world.states[-1][2] == said
            world.agent_scope.cancel()
            await world.agent_done.wait()
