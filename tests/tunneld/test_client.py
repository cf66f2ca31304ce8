"""The public client: streams through a frontend or the local daemon, and why there are none."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpcore
import pytest
import trio
from httpcore._backends.trio import TrioStream

from ctl.messages import Decoder, encode
from tests.tunneld.tunnelworld import World, open_world
from tunneld import secretsfile
from tunneld.client import Client, DialError, connect
from tunneld.config import Frontend
from tunneld.secret import of_token


@pytest.fixture
async def world(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(pki, tmp_path) as opened:
        yield opened


@asynccontextmanager
async def client_of(world: World, **change: Any) -> AsyncIterator[Client]:
    path = world.pki / "frontend"
    options = {"cert": path / "client.crt", "key": path / "client.key", "ca": path / "ca.crt"}
    async with connect(world.addresses[0], **(options | change)) as client:
        yield client


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)
    await stream.send_eof()


async def test_a_stream_carries_both_ways_and_half_closes(world: World) -> None:
    port = await world.endpoint(echo)
    octets = bytes(range(256)) * 10_000
    async with client_of(world) as client:
        stream = await client.dial("127.0.0.1", port)
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                await stream.send_all(octets)
                await stream.send_eof()

            nursery.start_soon(send)
            got = b""
            async for data in stream:
                got += data
        assert got == octets
        await stream.aclose()
    await world.at_rest()


@pytest.mark.parametrize("secret", ["tnl_web", "web:tnl_web"])
async def test_a_secret_stands_in_for_a_certificate(pki: Path, tmp_path: Path, secret: str) -> None:
    secretsfile.add(tmp_path / "secrets", of_token("web", "tnl_web"))
    listener = Frontend(
        listen="127.0.0.1:0",
        cert="frontend/server.crt",
        key="frontend/server.key",
        secrets=str(tmp_path / "secrets"),
    )
    options = {"frontends": (listener,)}
    bare: dict[str, Any] = {"cert": None, "key": None}
    async with open_world(pki, tmp_path, server_options=options) as world:
        port = await world.endpoint(echo)
        async with client_of(world, secret=secret, **bare) as client:
            stream = await client.dial("127.0.0.1", port)
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
        for wrong in ("", "tnl_other", "web:x"):
            async with client_of(world, secret=wrong, **bare) as client:
                with pytest.raises(DialError) as caught:
                    await client.dial("127.0.0.1", port)
                assert caught.value.code == "denied"


async def test_a_secret_that_cannot_be_one_is_not_shown() -> None:
    with pytest.raises(DialError, match="no token has") as caught:
        async with connect("127.0.0.1:1", secret="tnl\n_web"):
            pass
    assert "tnl" not in str(caught.value)


async def test_the_unix_frontend_is_a_proxy_too(world: World) -> None:
    port = await world.endpoint(echo)
    async with connect(f"unix:{world.unix_frontend}") as client:
        stream = await client.dial("127.0.0.1", port)
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"


async def test_what_an_endpoint_says_first_is_not_lost(world: World) -> None:
    async def speak(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 ready")
        await stream.receive_some(1)

    port = await world.endpoint(speak)
    async with client_of(world) as client:
        stream = await client.dial("127.0.0.1", port)
        assert await stream.receive_some() == b"220 ready"


async def test_streams_left_open_are_reset_with_the_client(world: World) -> None:
    ends: list[str] = []

    async def watch(stream: trio.SocketStream) -> None:
        try:
            await stream.receive_some(1)
            ends.append("end")
        except trio.BrokenResourceError:
            ends.append("reset")

    port = await world.endpoint(watch)
    async with client_of(world) as client:
        streams = [await client.dial("127.0.0.1", port) for _ in range(3)]
        await streams[0].aclose()
        await world.until(lambda: ends)
    await world.until(lambda: len(ends) == 3)
    assert ends == ["end", "reset", "reset"]
    with pytest.raises(trio.ClosedResourceError):
        await streams[1].send_all(b"x")
    await world.at_rest()


async def test_losing_the_agent_is_no_end(world: World) -> None:
    port = await world.endpoint(echo)
    async with client_of(world) as client:
        stream = await client.dial("127.0.0.1", port)
        world.agent_scope.cancel()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


@pytest.mark.parametrize(
    ("host", "port", "code", "text"),
    [
        ("127.0.0.1", 1, "refused", "dial tcp 127.0.0.1:1: connect: connection refused"),
        ("nosuch.invalid", 80, "dns", "dial tcp: lookup nosuch.invalid: "),
        ("127.0.0.1", 0, "bad_request", "dial tcp: address 0: invalid port"),
        ("x" * 300, 80, "bad_request", "dial tcp: host 'xxx"),
        ("a b", 80, "bad_request", "cannot ask for 'a b:80'"),
        ("a\r\nb", 80, "bad_request", "cannot ask for"),
    ],
)
async def test_a_dial_that_fails_has_a_code_and_a_text(
    world: World, host: str, port: int, code: str, text: str
) -> None:
    async with client_of(world) as client:
        with pytest.raises(DialError) as caught:
            await client.dial(host, port)
    assert caught.value.code == code
    assert caught.value.message.startswith(text)


async def test_without_an_agent_there_is_a_hint(pki: Path, tmp_path: Path) -> None:
    async with open_world(pki, tmp_path, agent=False) as world, client_of(world) as client:
        with pytest.raises(DialError) as caught:
            await client.dial("a.example", 80)
    assert caught.value.code == "no_agent"
    assert caught.value.hint == "see which agents are connected with: tunnelctl agents"


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"cert": None, "key": None}, "denied", "refused us: TLS: .*CERTIFICATE_REQUIRED"),
        ({"ca": None}, "unreachable", "its certificate is not accepted: "),
        ({"server_name": "elsewhere"}, "unreachable", "its certificate is not accepted: Hostname"),
    ],
)
async def test_tls_that_fails_says_why(
    world: World, change: dict[str, Any], code: str, text: str
) -> None:
    async with client_of(world, **change) as client:
        with pytest.raises(DialError, match=text) as caught:
            await client.dial("127.0.0.1", 1)
    assert caught.value.code == code


async def test_a_certificate_of_the_wrong_ca_is_denied(world: World) -> None:
    path = world.pki / "agent"
    async with client_of(world, cert=path / "agent.crt", key=path / "agent.key") as client:
        with pytest.raises(DialError, match="UNKNOWN_CA") as caught:
            await client.dial("127.0.0.1", 1)
    assert caught.value.code == "denied"


@pytest.mark.parametrize(
    ("proxy", "change"),
    [("nonsense", {}), ("a:70000", {}), ("a:1", {"ca": "/missing"}), ("a:1", {"cert": "/missing"})],
)
async def test_what_cannot_be_used_is_said_before_any_dial(
    proxy: str, change: dict[str, str]
) -> None:
    with pytest.raises(DialError) as caught:
        async with connect(proxy, **change):
            pytest.fail("it was used")
    assert caught.value.code == "bad_request"


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    async with connect("127.0.0.1:1") as client:
        with pytest.raises(DialError, match=r"cannot reach the server 127\.0\.0\.1:1") as caught:
            await client.dial("a", 80)
    assert caught.value.code == "unreachable"


async def test_a_server_that_says_nothing_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with serving(silent) as port, connect(f"127.0.0.1:{port}") as client:
        with pytest.raises(DialError, match="no answer in 10 s"):
            await client.dial("a", 80)


@asynccontextmanager
async def serving(handler: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handler, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def test_a_cancelled_dial_leaves_nothing(world: World) -> None:
    async with client_of(world) as client:
        with trio.move_on_after(0):
            await client.dial("127.0.0.1", 1)
    await world.at_rest()


# -- what proxies may answer ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "code", "text"),
    [
        (b"", "failed", "the server closed the connection without an answer"),
        (b"HTTP/1.1 200 O", "failed", "the server closed the connection without an answer"),
        (b"SSH-2.0-nonsense\r\n\r\n", "failed", ""),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\nthe text\n", "failed", "the text"),
        (b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n", "timeout", "status 504"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "denied", "no"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\n\r\n", "no_agent", "status 503"),
    ],
)
async def test_any_answer_is_understood(tmp_path: Path, reply: bytes, code: str, text: str) -> None:
    async with unix_server(tmp_path, reply) as proxy, connect(proxy) as client:
        with pytest.raises(DialError) as caught:
            await client.dial("a", 80)
    assert caught.value.code == code
    assert text in caught.value.message


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.0 201 x\r\n\r\nhello",
    ],
)
async def test_any_2xx_is_a_connection(tmp_path: Path, reply: bytes) -> None:
    async with unix_server(tmp_path, reply) as proxy, connect(proxy) as client:
        stream = await client.dial("a", 80)
        assert await stream.receive_some() == b"hello"


@asynccontextmanager
async def unix_server(tmp_path: Path, reply: bytes) -> AsyncIterator[str]:
    """Answers the first octets that come, and closes."""

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(10_000)
            await stream.send_all(reply)

    async with serving_unix(tmp_path / "proxy.sock", answer):
        yield f"unix:{tmp_path}/proxy.sock"


@asynccontextmanager
async def serving_unix(
    path: Path, handler: Callable[[trio.SocketStream], Awaitable[None]]
) -> AsyncIterator[None]:
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(str(path))
    sock.listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handler, [trio.SocketListener(sock)])
        yield
        nursery.cancel_scope.cancel()


# -- the local daemon -------------------------------------------------------------------------


class Daemon:
    """Answers requests as it is told, then echoes."""

    def __init__(self, **answers: dict[str, Any]) -> None:
        self.answers = {"hello": {"result": {"version": 1}}, **answers}
        self.requests: list[dict[str, Any]] = []

    async def serve(self, stream: trio.SocketStream) -> None:
        decoder = Decoder()
        async with stream:
            async for data in stream:
                decoder.feed(bytes(data))
                while (request := decoder.next_message()) is not None:
                    self.requests.append(request)
                    answer = self.answers[request["method"]]
                    await stream.send_all(encode({"id": request["id"], **answer}))
                    if request["method"] == "dial" and "result" in answer:
                        await stream.send_all(b"banner ")
                        await echo(stream)
                        return


async def test_the_daemon_dials_where_no_proxy_is_named(tmp_path: Path) -> None:
    daemon = Daemon(dial={"result": {"peer": "a"}})
    path = tmp_path / "control.sock"
    async with serving_unix(path, daemon.serve), connect(control=path) as client:
        stream = await client.dial("192.168.1.2", 4001)
        assert await stream.receive_some() == b"banner "
        await stream.send_all(b"hello")
        await stream.send_eof()
        got = b""
        async for data in stream:
            got += data
        assert got == b"hello"
    assert [request["method"] for request in daemon.requests] == ["hello", "dial"]
    assert daemon.requests[1]["params"] == {"host": "192.168.1.2", "port": 4001}


async def test_what_the_daemon_refuses_is_passed_on(tmp_path: Path) -> None:
    daemon = Daemon(dial={"error": {"code": "no_agent", "message": "none", "hint": "start one"}})
    path = tmp_path / "control.sock"
    async with serving_unix(path, daemon.serve), connect(control=path) as client:
        with pytest.raises(DialError) as caught:
            await client.dial("a", 80)
    error = caught.value
    assert (error.code, error.message, error.hint) == ("no_agent", "none", "start one")


async def test_without_a_daemon_it_is_said_how_to_start_one(tmp_path: Path) -> None:
    async with connect(control=tmp_path / "none.sock") as client:
        with pytest.raises(DialError, match=r"no daemon at .*none\.sock") as caught:
            await client.dial("a", 80)
    assert (caught.value.code, caught.value.hint) == ("no_daemon", "start it with: tunneld start")


async def test_a_daemon_that_vanishes_is_no_answer(tmp_path: Path) -> None:
    async def vanish(stream: trio.SocketStream) -> None:
        await stream.aclose()

    path = tmp_path / "control.sock"
    async with serving_unix(path, vanish), connect(control=path) as client:
        with pytest.raises(DialError) as caught:
            await client.dial("a", 80)
    assert caught.value.code == "failed"


# -- in the hands of others -------------------------------------------------------------------


async def test_a_stream_is_fit_for_http_libraries(world: World) -> None:
    """httpcore's trio backend takes any trio stream."""

    async def hello(stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some(1000)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    port = await world.endpoint(hello)
    async with client_of(world) as client:
        stream = await client.dial("127.0.0.1", port)
        connection = httpcore.AsyncHTTP11Connection(
            origin=httpcore.Origin(b"http", b"a", 80), stream=TrioStream(stream)
        )
        response = await connection.request("GET", "http://a/ok")
        assert response.content == b"hello"
        await connection.aclose()
