"""What clients of HTTP/1.1 are told of dials that go through konnectivity's agents."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.tunneld.peers import ESTABLISHED, open_tls, open_unix, receive_all
from tests.tunneld.server.konnectivitypeers import (
    Call,
    Packet,
    asked,
    close_req,
    close_rsp,
    data,
    dial_cls,
    dial_rsp,
    failures,
    open_agent,
    open_server,
)
from tests.tunneld.tunnelworld import World
from tunneld.telemetry import (
    ERROR_RESPONSE,
    FRONTEND_CLOSE,
)


@pytest.fixture
async def world(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    with trio.fail_after(90):
        async with open_server(pki, tmp_path, half_close_grace=0.02, dial_timeout=0) as opened:
            yield opened


async def reply_to_connect(world: World, agent: Call | None, *answers: Packet) -> bytes:
    """What a client of HTTP/1.1 gets for a dial; ``answers`` of the agent get its number."""
    raw = await open_unix(world.unix_frontend)
    try:
        await raw.send_all(b"CONNECT endpoint:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        if agent is not None:
            number = await asked(agent)
            for answer in answers:
                await agent.send(Packet(answer.kind, random=number, error=answer.error))
        return await receive_all(raw)
    finally:
        await trio.aclose_forcefully(raw.stream)


def split(reply: bytes) -> tuple[str, dict[str, str], str]:
    """Status line, headers and body."""
    head, _, body = reply.decode().partition("\r\n\r\n")
    line, *fields = head.split("\r\n")
    return line, dict(field.split(": ", 1) for field in fields), body


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("dial tcp 10.0.0.1:80: i/o timeout", "504 Gateway Timeout"),
        ("context DEADLINE exceeded", "504 Gateway Timeout"),
        ("dial tcp: lookup x on y:53: read udp: i/o Timeout", "504 Gateway Timeout"),
        ("accept: too many open files", "503 Service Unavailable"),
        ("dial tcp 127.0.0.1:1: connect: connection refused", "502 Bad Gateway"),
        ("dial tcp: lookup nosuch on 10.0.0.10:53: no such host", "502 Bad Gateway"),
        ("dial tcp 10.0.0.1:80: connect: network is unreachable", "502 Bad Gateway"),
        ("dial tcp: address 127.0.0.1: missing port in address", "502 Bad Gateway"),
        ("anything else — ünïcode", "502 Bad Gateway"),
    ],
)
@pytest.mark.parametrize("wording", [True, False])
async def test_an_agent_s_error_decides_the_status_and_is_the_body(
    pki: Path, tmp_path: Path, text: str, line: str, wording: bool
) -> None:
    async with (
        open_server(pki, tmp_path, konnectivity_wording=wording) as world,
        open_agent(world) as agent,
    ):
        reply = await reply_to_connect(world, agent, dial_rsp(0, error=text))
        status, fields, body = split(reply)
        assert status == f"HTTP/1.1 {line}"
        assert body == text
        assert fields["Connection"] == "close"
        assert fields["Content-Type"] == "text/plain; charset=utf-8"
        assert int(fields["Content-Length"]) == len(text.encode())
        assert failures(world) == {ERROR_RESPONSE: 1}


@pytest.mark.parametrize(
    ("wording", "line", "text"),
    [
        (
            True,
            "500 Internal Server Error",
            "currently no tunnels available: No agent available",
        ),
        (
            False,
            "503 Service Unavailable",
            "currently no tunnels available: No agent available (none is connected)",
        ),
    ],
)
async def test_without_an_agent_the_status_is_ours_or_upstream_s(
    pki: Path, tmp_path: Path, wording: bool, line: str, text: str
) -> None:
    async with open_server(pki, tmp_path, konnectivity_wording=wording) as world:
        status, _, body = split(await reply_to_connect(world, None))
        assert (status, body) == (f"HTTP/1.1 {line}", text)


@pytest.mark.parametrize(
    ("wording", "text"),
    [
        (True, "Backend dial timeout: timed out waiting for backend dial\r\n"),
        (False, "timed out waiting for backend dial: no answer of agent demo in 3 s"),
    ],
)
async def test_an_agent_that_does_not_answer_is_a_gateway_timeout(
    pki: Path, tmp_path: Path, autojump_clock: MockClock, wording: bool, text: str
) -> None:
    options = {"konnectivity_wording": wording, "dial_timeout": 3.0}
    async with open_server(pki, tmp_path, **options) as world, open_agent(world) as agent:
        status, _, body = split(await reply_to_connect(world, agent))
        assert (status, body) == ("HTTP/1.1 504 Gateway Timeout", text)


async def test_without_a_limit_the_client_decides_how_long_a_dial_takes(
    pki: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_server(pki, tmp_path, dial_timeout=0) as world, open_agent(world) as agent:
        raw = await open_unix(world.unix_frontend)
        await raw.send_all(b"CONNECT endpoint:80 HTTP/1.1\r\n\r\n")
        number = await asked(agent)
        await trio.sleep(3_000)
        await agent.send(dial_rsp(number, 1))
        assert await raw.receive_some() == ESTABLISHED
        await trio.aclose_forcefully(raw.stream)


async def test_a_client_that_is_lost_amid_the_dial_gives_it_up(world: World, agent: Call) -> None:
    raw = await open_tls(world.frontend, world.pki)
    await raw.send_all(b"CONNECT endpoint:80 HTTP/1.1\r\n\r\n")
    number = await asked(agent)
    raw.reset()
    assert await agent.next() == dial_cls(number)
    assert failures(world) == {FRONTEND_CLOSE: 1}


async def test_a_client_that_half_closes_gets_the_answer_within_the_grace(
    pki: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with (
        open_server(pki, tmp_path, half_close_grace=5.0) as world,
        open_agent(world) as agent,
    ):
        raw = await open_unix(world.unix_frontend)
        await raw.send_all(b"CONNECT endpoint:80 HTTP/1.1\r\n\r\nquestion")
        await agent.send(dial_rsp(await asked(agent), 1))
        assert await raw.receive_some() == ESTABLISHED
        await raw.send_eof()
        assert await agent.next() == data(1, b"question")
        await trio.sleep(4)
        await agent.send(data(1, b"answer"))
        assert await raw.receive_some() == b"answer"
        begun = trio.current_time()
        assert await agent.next() == close_req(1)
        assert 5 <= trio.current_time() - begun <= 7
        await agent.send(close_rsp(1))
        assert await raw.receive_some() == b""
        await trio.aclose_forcefully(raw.stream)
