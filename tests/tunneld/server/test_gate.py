"""Who may use a frontend: by HTTP/1.1, HTTP/2 and gRPC, over TLS, UNIX sockets and plain TCP."""

import base64
import getpass
import os
import pwd
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from tests.tunneld.peers import (
    ESTABLISHED,
    PlainPeer,
    TlsPeer,
    client_context,
    open_h2,
    open_tls,
    open_unix,
    receive_all,
)
from tests.tunneld.server.konnectivitypeers import open_grpc
from tests.tunneld.server.test_frontend import echo, reply_to
from tests.tunneld.tunnelworld import World, open_world
from tunneld import secretsfile
from tunneld.attempts import BURST
from tunneld.config import Frontend
from tunneld.secret import PasswordHash, Secret, of_token

SESAME = PasswordHash.of("open sesame", (16, 1, 1))
TLS = {"cert": "frontend/server.crt", "key": "frontend/server.key"}
CA = {"client_ca": "frontend/ca.crt"}


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


ALICE = basic("alice", "open sesame")
TOKEN = "Bearer tnl_web"
SOMEBODY_ELSE = next(each.pw_name for each in pwd.getpwall() if each.pw_uid != os.getuid())


@pytest.fixture
def secrets(tmp_path: Path) -> str:
    path = tmp_path / "secrets"
    secretsfile.add(path, Secret("alice", SESAME))
    secretsfile.add(path, of_token("web", "tnl_web"))
    return str(path)


@asynccontextmanager
async def world_of(pki: Path, tmp_path: Path, **frontend: Any) -> AsyncIterator[World]:
    """A server with one frontend."""
    table = Frontend(**({"listen": "127.0.0.1:0"} | frontend))
    async with open_world(pki, tmp_path, server_options={"frontends": (table,)}) as world:
        yield world


def stranger(pki: Path, *alpn: str) -> ssl.SSLContext:
    """Of a client without a certificate."""
    context = ssl.create_default_context(cafile=str(pki / "frontend/ca.crt"))
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


@asynccontextmanager
async def client_of(
    world: World, context: ssl.SSLContext | None = None
) -> AsyncIterator[PlainPeer | TlsPeer]:
    """A connection to the frontend: with TLS if there is a context."""
    peer: PlainPeer | TlsPeer
    if world.addresses[0].startswith("unix:"):
        peer = await open_unix(world.addresses[0].removeprefix("unix:"))
    elif context is None:
        peer = PlainPeer(await trio.open_tcp_stream(*world.frontend))
    else:
        peer = await open_tls(world.frontend, world.pki, context=context)
    try:
        yield peer
    finally:
        await trio.aclose_forcefully(peer.stream)


async def answer_to(world: World, context: ssl.SSLContext, octets: bytes) -> bytes:
    async with client_of(world, context) as peer:
        await peer.send_all(octets)
        return await peer.receive_some()


def request(port: int, authorization: str | None, *headers: str) -> bytes:
    lines = [f"CONNECT 127.0.0.1:{port} HTTP/1.1", *headers]
    if authorization is not None:
        lines.append(f"Proxy-Authorization: {authorization}")
    return "\r\n".join([*lines, "", ""]).encode()


def callers(world: World) -> list[str]:
    return [row["identity"] for row in world.server.conns()]


@pytest.mark.parametrize(
    ("authorization", "name"),
    [(ALICE, "alice"), (TOKEN, "web"), (basic("web", "tnl_web"), "web")],
)
@pytest.mark.parametrize("tls", [TLS, TLS | CA, {"plain": True}])
async def test_a_secret_opens_a_frontend(
    pki: Path, tmp_path: Path, secrets: str, tls: dict[str, Any], authorization: str, name: str
) -> None:
    async with world_of(pki, tmp_path, secrets=secrets, **tls) as world:
        port = await world.endpoint(echo)
        context = None if "plain" in tls else stranger(pki)
        async with client_of(world, context) as peer:
            await peer.send_all(request(port, authorization))
            assert await peer.receive_some() == ESTABLISHED
            assert await reply_to(peer, b"hello", 5) == b"hello"
            assert callers(world) == [f"secret:{name}"]


WRONG = [None, basic("alice", "x"), basic("nobody", "open sesame"), "Bearer x", "Digest x", "Basic"]


@pytest.mark.parametrize("authorization", WRONG)
async def test_without_a_good_secret_it_is_407_and_the_client_may_try_again(
    pki: Path, tmp_path: Path, secrets: str, authorization: str | None
) -> None:
    async with world_of(pki, tmp_path, secrets=secrets, plain=True) as world:
        port = await world.endpoint(echo)
        async with client_of(world) as peer:
            await peer.send_all(request(port, authorization))
            reply = await peer.receive_some()
            assert reply.startswith(b"HTTP/1.1 407 Proxy Authentication Required\r\n")
            assert (
                b'\r\nProxy-Authenticate: Basic realm="tunneld", charset="UTF-8", Bearer' in reply
            )
            assert b"Connection: close" not in reply
            await peer.send_all(request(port, TOKEN))
            assert await peer.receive_some() == ESTABLISHED


async def test_a_client_that_closes_after_its_request_gets_its_407(
    pki: Path, tmp_path: Path, secrets: str
) -> None:
    async with (
        world_of(pki, tmp_path, secrets=secrets, plain=True) as world,
        client_of(world) as peer,
    ):
        await peer.send_all(request(1, None, "Connection: close"))
        reply = await receive_all(peer)
        assert reply.startswith(b"HTTP/1.1 407 Proxy Authentication Required\r\nConnection: close")


async def test_who_guesses_often_is_told_when_to_come_back(
    pki: Path, tmp_path: Path, secrets: str
) -> None:
    async with (
        world_of(pki, tmp_path, secrets=secrets, plain=True) as world,
        client_of(world) as peer,
    ):
        with capture_logs() as logs:
            for number in range(int(BURST) + 1):
                await peer.send_all(request(1, basic("alice", f"barley-{number}")))
                reply = await peer.receive_some()
        assert reply.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
        assert b"\r\nRetry-After: 10\r\n" in reply
        assert "barley" not in str(logs)


async def test_a_certificate_needs_no_secret_beside_it(
    pki: Path, tmp_path: Path, secrets: str
) -> None:
    async with world_of(pki, tmp_path, secrets=secrets, **TLS, **CA) as world:
        port = await world.endpoint(echo)
        async with client_of(world, client_context(pki)) as peer:
            await peer.send_all(request(port, "Bearer nonsense"))
            assert await peer.receive_some() == ESTABLISHED
            assert callers(world) == ["cert:client"]


async def test_a_bad_certificate_is_refused_whatever_the_secret(
    pki: Path, tmp_path: Path, secrets: str
) -> None:
    context = stranger(pki)
    context.load_cert_chain(pki / "agent/agent.crt", pki / "agent/agent.key")
    async with world_of(pki, tmp_path, secrets=secrets, **TLS, **CA) as world:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await answer_to(world, context, request(1, TOKEN))


async def test_a_secret_counts_until_the_file_is_read_without_it(
    pki: Path, tmp_path: Path, secrets: str
) -> None:
    async with world_of(pki, tmp_path, secrets=secrets, plain=True) as world:
        port = await world.endpoint(echo)
        secretsfile.remove(Path(secrets), "web")
        async with client_of(world) as peer:
            await peer.send_all(request(port, TOKEN))
            assert await peer.receive_some() == ESTABLISHED
        for known in world.server._access.files.values():
            known.reload()
        async with client_of(world) as peer:
            await peer.send_all(request(port, TOKEN))
            assert b" 407 " in await peer.receive_some()


# -- HTTP/2 and gRPC --------------------------------------------------------------------------


async def test_over_http_2_each_stream_shows_its_own_secret(
    pki: Path, tmp_path: Path, secrets: str
) -> None:
    async with world_of(pki, tmp_path, secrets=secrets, **TLS) as world:
        port = await world.endpoint(echo)
        peer = await open_tls(world.frontend, pki, context=stranger(pki, "h2"))
        async with open_h2(peer) as client:
            head = [(":method", "CONNECT"), (":authority", f"127.0.0.1:{port}")]
            refused = await client.request(head)
            reply = await refused.response()
            assert reply[":status"] == "407"
            assert reply["proxy-authenticate"].startswith("Basic realm=")
            good = await client.request([*head, ("proxy-authorization", ALICE)])
            assert (await good.response())[":status"] == "200"
            other = await client.request([*head, ("proxy-authorization", TOKEN)])
            assert (await other.response())[":status"] == "200"
            assert callers(world) == ["secret:alice", "secret:web"]
            for _ in range(int(BURST)):
                await client.request([*head, ("proxy-authorization", "Bearer x")])
            late = await client.request([*head, ("proxy-authorization", "Bearer x")])
            reply = await late.response()
            assert (reply[":status"], reply["retry-after"]) == ("429", "10")


@pytest.mark.parametrize(
    ("metadata", "status"),
    [
        ([], 16),
        ([("authorization", "Bearer x")], 16),
        ([("authorization", TOKEN)], None),
        ([("proxy-authorization", ALICE), ("authorization", "Bearer of-the-endpoint")], None),
    ],
)
async def test_a_grpc_call_shows_a_secret_in_its_metadata(
    pki: Path, tmp_path: Path, secrets: str, metadata: list[tuple[str, str]], status: int | None
) -> None:
    async with world_of(pki, tmp_path, secrets=secrets, **TLS) as world:
        peer = await open_tls(world.frontend, pki, context=stranger(pki, "h2"))
        async with open_grpc(peer) as client:
            call = await client.call("/ProxyService/Proxy", *metadata)
            if status is None:
                assert (await call.stream.response())[":status"] == "200"
            else:
                assert (await call.status())[0] == status


async def test_who_shows_nothing_over_http_2_is_closed_and_who_does_may_stay(
    pki: Path, tmp_path: Path, secrets: str
) -> None:
    cert, key = TLS["cert"], TLS["key"]
    table = Frontend(listen="127.0.0.1:0", secrets=secrets, cert=cert, key=key)
    options = {"frontends": (table,), "head_timeout": 0.5}
    async with open_world(pki, tmp_path, server_options=options) as world:
        port = await world.endpoint(echo)
        peer = await open_tls(world.frontend, pki, context=stranger(pki, "h2"))
        async with open_h2(peer) as client:
            head = [(":method", "CONNECT"), (":authority", f"127.0.0.1:{port}")]
            good = await client.request([*head, ("proxy-authorization", ALICE)])
            assert (await good.response())[":status"] == "200"
            silent = await open_tls(world.frontend, pki, context=stranger(pki, "h2"))
            async with open_h2(silent) as other:
                refused = await other.request(head)
                assert (await refused.response())[":status"] == "407"
                with trio.fail_after(10):
                    await other.closed.wait()  # which is later than the first's time
            more = await client.request([*head, ("proxy-authorization", TOKEN)])
            assert (await more.response())[":status"] == "200"


# -- UNIX sockets -----------------------------------------------------------------------------


@pytest.mark.parametrize("users", [[getpass.getuser()], [str(os.getuid()), "nobody"], []])
async def test_a_user_who_is_named_needs_nothing(
    pki: Path, tmp_path: Path, users: list[str]
) -> None:
    listen = f"unix:{tmp_path}/front.sock"
    async with world_of(pki, tmp_path, listen=listen, users=tuple(users)) as world:
        port = await world.endpoint(echo)
        async with client_of(world) as peer:
            await peer.send_all(request(port, None))
            assert await peer.receive_some() == ESTABLISHED
            assert callers(world) == [f"user:{getpass.getuser()}"]


@pytest.mark.parametrize("octets", [request(1, None), b"\x05\x01\x00", b"PRI * HTTP/2.0\r\n\r\n"])
async def test_a_user_who_is_not_is_refused(pki: Path, tmp_path: Path, octets: bytes) -> None:
    listen = f"unix:{tmp_path}/front.sock"
    async with (
        world_of(pki, tmp_path, listen=listen, users=(SOMEBODY_ELSE,)) as world,
        client_of(world) as peer,
    ):
        await peer.send_all(octets)
        reply = await receive_all(peer)
        assert reply.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert b"is not among the users of this frontend" in reply


async def test_with_secrets_a_user_who_is_not_named_shows_one(
    pki: Path, tmp_path: Path, secrets: str
) -> None:
    listen = f"unix:{tmp_path}/front.sock"
    async with world_of(
        pki, tmp_path, listen=listen, users=(SOMEBODY_ELSE,), secrets=secrets
    ) as world:
        port = await world.endpoint(echo)
        async with client_of(world) as peer:
            await peer.send_all(request(port, None))
            assert b" 407 " in await peer.receive_some()
            await peer.send_all(request(port, ALICE))
            assert await peer.receive_some() == ESTABLISHED
            assert callers(world) == ["secret:alice"]
