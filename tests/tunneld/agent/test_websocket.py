"""The agent's end of a WebSocket: what comes of what others than a tunneld server answer."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.tunneld.httpproxy import Serve, listening, read_head, replying
from tests.tunneld.tunnelworld import World
from tests.tunneld.wsworld import failed, open_websocket_world, start_agent, why_not
from tunneld.agent.link import PATIENCE
from tunneld.transport.websocket import MAX_HEAD


@pytest.fixture
async def world(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    async with open_websocket_world(pki, tmp_path) as opened:
        yield opened


async def refusal(world: World, serve: Serve) -> str:
    async with listening(serve) as port:
        url = f"ws://127.0.0.1:{port}/tunnel?a=b"
        said = await why_not(world, server=url)
    assert said.startswith(f"no WebSocket at {url}: "), said
    return said.partition("?a=b: ")[2]


def accepting(behind: bytes = b"", fields: bytes = b"Sec-WebSocket-Protocol: tunneld-tls") -> Serve:
    """A WebSocket server that says ``behind`` and closes."""

    async def serve(stream: trio.abc.Stream) -> None:
        head = await read_head(stream)
        if not head:  # the test is through, and ends the agent amid its next attempt
            return
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", head)
        assert key
        digest = hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        await stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n" + fields + b"\r\n\r\n"
        )
        await stream.send_all(behind)

    return serve


async def test_the_request_says_what_it_is(world: World) -> None:
    heads: list[bytes] = []

    async def serve(stream: trio.abc.Stream) -> None:
        heads.append(await read_head(stream))

    await refusal(world, serve)
    head = heads[0].decode()
    assert head.startswith("GET /tunnel?a=b HTTP/1.1\r\n")
    assert re.search(r"\r\nHost: 127\.0\.0\.1:\d+\r\n", head)
    for line in ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"):
        assert f"\r\n{line}\r\n" in head
    assert "\r\nSec-WebSocket-Protocol: tunneld-tls\r\n" in head


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "it closed the connection, without a word"),
        (b"HTTP/1.1 10", "it closed the connection behind b'HTTP/1.1 10'"),
        (
            b"HTTP/1.1 404 Not Found\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n",
            "it answers 'HTTP/1.1 404 Not Found; Server: nginx', expected 101",
        ),
        (
            b"HTTP/1.1 301 Moved Permanently\r\nlocation: https://edge/\r\n\r\n" + b"x" * 10**6,
            "it answers 'HTTP/1.1 301 Moved Permanently; location: https://edge/', expected 101",
        ),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", "it answers 'HTTP/1.0 200 OK', expected 101"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "it answers 'HTTP/1.1 100 Continue', expected 101"),
        (b"\x15\x03\x01\x00\x02\x02\x16", "no HTTP: b'\\x15\\x03\\x01\\x00\\x02\\x02\\x16'"),
        (b"SSH-2.0-OpenSSH_9\r\n", "it closed the connection behind b'SSH-2.0-OpenSSH_9\\r\\n'"),
        (b"HTTP/1.1 101 \x9b\r\n\r\n", "it answers 'HTTP/1.1 101 \\x9b', expected 101"),
        (b"H" * 3 * MAX_HEAD, f"a head of more than {MAX_HEAD} octets"),
        (b"HTTP/1.1 101 Fine\r\n\r\n", "it broke the WebSocket protocol: Missing header, 'Conne"),
        (
            b"HTTP/1.1 101 Fine\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n%s\r\n\r\n"
            % b"Sec-WebSocket-Accept: wrong",
            "it broke the WebSocket protocol: Bad accept token",
        ),
        (b"HTTP/1.1 101 Fine\r\nno colon\r\n\r\n", "it broke the WebSocket protocol: "),
    ],
)
async def test_what_answers_instead_is_told(world: World, answer: bytes, said: str) -> None:
    assert (await refusal(world, replying(answer))).startswith(said)


async def test_another_service_over_websocket_is_told(world: World) -> None:
    said = await refusal(world, accepting(fields=b"X: y"))
    assert said == "a WebSocket answers there, but none of tunneld's"


@pytest.mark.parametrize(
    "frames",
    [
        b"",
        b"\x88\x00",  # a close
        b"\x88\x02\x03\xf3",  # a close that says: going away
        b"\x81\x05hello",  # text
        b"\x82\x05hello",  # binary, but no TLS
        b"\xff\xff\xff",  # no frame
        b"\x82\x85\0\0\0\0hello",  # masked, which a server must not do (RFC 6455 section 5.1)
        b"\x82\x7f" + (1 << 40).to_bytes(8, "big"),
        b"\x89\x00" * 100,  # pings
        b"\x02\x00" + b"\x00\x00" * 1000,  # a message of empty parts that never ends
    ],
)
async def test_a_server_that_says_no_tls_is_given_up(world: World, frames: bytes) -> None:
    async with listening(accepting(frames)) as port:
        said = await why_not(world, server=f"ws://127.0.0.1:{port}/tunnel")
    assert "TLS" in said or "reset" in said or "close" in said, said


async def test_a_silent_server_is_given_up_and_named(
    pki: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_websocket_world(pki, tmp_path) as world, listening(silent) as port:
        url = f"ws://127.0.0.1:{port}/tunnel"
        begun = trio.current_time()
        await start_agent(world, server=url)
        await failed(world)
        assert PATIENCE <= trio.current_time() - begun <= PATIENCE + 1
        assert world.states[-1][2] == f"no tunnel to {url}: {url}: no answer in 10 s"


async def silent(stream: trio.abc.Stream) -> None:
    await trio.sleep_forever()
