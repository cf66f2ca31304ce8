import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from msgspec import Struct
from trio.testing import MockClock, wait_all_tasks_blocked

from ctl.messages import MAX_FRAME, ControlError, Message, encode
from tests.tunneld.control_client import HELLO, ControlClient
from tunneld.control import (
    MAX_CONNECTIONS,
    MAX_REFUSALS,
    MAX_REQUESTS,
    ControlServer,
    Peer,
    peer_credentials,
)
from tunneld.request import Method, Nothing, Reply, Request
from tunneld.socketfile import control_socket


class Count(Struct, forbid_unknown_fields=True):
    upto: int


class World:
    """Methods to ask for, and what became of the requests."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.waiting = 0
        self.stopped = trio.Event()
        self.given: list[socket.socket] = []
        self.methods = {
            "echo": Method(Count, self.echo),
            "count": Method(Count, self.count, Reply.STREAM),
            "wait": Method(Nothing, self.wait),
            "flood": Method(Nothing, self.flood, Reply.STREAM),
            "refuse": Method(Nothing, self.refuse),
            "bug": Method(Nothing, self.bug),
            "huge": Method(Nothing, self.huge),
            "stop": Method(Nothing, self.stop),
            "give": Method(Count, self.give, Reply.HANDOVER),
        }

    async def echo(self, params: Count, _: Request) -> Message:
        return {"upto": params.upto}

    async def count(self, params: Count, request: Request) -> Message:
        for number in range(params.upto):
            await request.item({"number": number})
        return {"total": params.upto}

    async def wait(self, _: Nothing, request: Request) -> Message:
        self.waiting += 1
        try:
            await trio.sleep_forever()
        finally:
            self.waiting -= 1
            self.cancelled += 1
        return {}

    async def flood(self, _: Nothing, request: Request) -> Message:
        self.waiting += 1
        try:
            while True:
                await request.item({"text": "x" * 100_000})
        finally:
            self.waiting -= 1
            self.cancelled += 1

    async def refuse(self, _: Nothing, request: Request) -> Message:
        raise ControlError("not_found", "no such thing", "look elsewhere")

    async def bug(self, _: Nothing, request: Request) -> Message:
        raise ZeroDivisionError("division by zero")

    async def huge(self, _: Nothing, request: Request) -> Message:
        return {"text": "x" * MAX_FRAME}

    async def stop(self, _: Nothing, request: Request) -> Message:
        request.after_reply.append(self.stopped.set)
        return {}

    async def give(self, params: Count, request: Request) -> Message:
        if params.upto == 0:
            raise ControlError("refused", "nobody takes it")
        self.given.append(socket.fromfd(request.socket.fileno(), socket.AF_UNIX, 1))
        return {}


@asynccontextmanager
async def serving(
    world: World,
    path: Path,
    credentials: Callable[[trio.socket.SocketType], Peer] = peer_credentials,
) -> AsyncIterator[Path]:
    server = ControlServer(world.methods, "tunneld test", credentials)
    with control_socket(path) as sock:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, listener)
            yield path
            nursery.cancel_scope.cancel()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def path(world: World, tmp_path: Path) -> AsyncIterator[Path]:
    """The socket of a running server."""
    async with serving(world, tmp_path / "control.sock") as path:
        yield path


@pytest.fixture
async def client(path: Path) -> AsyncIterator[ControlClient]:
    async with await ControlClient.greeted(path) as client:
        yield client


async def still_serves(path: Path) -> bool:
    """Whether a new client gets its answer."""
    async with await ControlClient.greeted(path) as client:
        return await client.ask("echo", {"upto": 3}) == {"result": {"upto": 3}}


async def error_code(client: ControlClient, method: str, params: Any = None) -> str:
    reply = await client.ask(method, params)
    assert reply["error"]["message"]
    return str(reply["error"]["code"])


async def test_the_greeting_says_who_answers(path: Path) -> None:
    async with await ControlClient.connect(path) as client:
        reply = await client.ask("hello", HELLO)
    assert reply == {"result": {"version": 1, "server": "tunneld test", "pid": os.getpid()}}


async def test_another_version_is_refused_and_ends_the_connection(path: Path) -> None:
    async with await ControlClient.connect(path) as client:
        assert await error_code(client, "hello", {"version": 2, "client": "x"}) == "bad_version"
        assert await client.receive() is None


@pytest.mark.parametrize("params", [{}, {"version": "1"}, {"version": None}])
async def test_a_greeting_of_the_wrong_shape_is_refused(path: Path, params: Any) -> None:
    async with await ControlClient.connect(path) as client:
        assert await error_code(client, "hello", params) == "bad_request"
        assert await client.receive() is None


async def test_nothing_comes_before_the_greeting(path: Path, world: World) -> None:
    async with await ControlClient.connect(path) as client:
        assert await error_code(client, "stop") == "bad_request"
        assert await client.receive() is None
    assert not world.stopped.is_set()


async def test_who_does_not_greet_is_let_go(path: Path, autojump_clock: MockClock) -> None:
    async with await ControlClient.connect(path) as client:
        started = trio.current_time()
        assert await client.receive() is None
        assert trio.current_time() - started == pytest.approx(10)


async def test_another_user_is_denied(world: World, tmp_path: Path) -> None:
    def stranger(_: trio.socket.SocketType) -> Peer:
        return Peer(1, 54321, 54321)

    async with (
        serving(world, tmp_path / "control.sock", stranger) as path,
        await ControlClient.connect(path) as client,
    ):
        assert await error_code(client, "hello", HELLO) == "denied"
        assert await client.receive() is None


async def test_root_may_always(world: World, tmp_path: Path) -> None:
    def root(_: trio.socket.SocketType) -> Peer:
        return Peer(1, 0, 0)

    async with serving(world, tmp_path / "control.sock", root) as path:
        assert await still_serves(path)


async def test_the_kernel_names_the_peer() -> None:
    left, right = trio.socket.socketpair()
    with left, right:
        assert peer_credentials(left) == (os.getpid(), os.getuid(), os.getgid())


async def test_a_stream_has_items_and_an_end(client: ControlClient) -> None:
    await client.request(7, "count", {"upto": 2})
    assert [await client.reply() for _ in range(3)] == [
        {"id": 7, "item": {"number": 0}},
        {"id": 7, "item": {"number": 1}},
        {"id": 7, "end": {"total": 2}},
    ]


async def test_requests_of_one_connection_run_side_by_side(client: ControlClient) -> None:
    await client.request(1, "wait")
    await client.request(2, "echo", {"upto": 2})
    assert await client.reply() == {"id": 2, "result": {"upto": 2}}


async def test_a_refusal_reaches_the_client(client: ControlClient) -> None:
    expected = {"code": "not_found", "message": "no such thing", "hint": "look elsewhere"}
    assert await client.ask("refuse") == {"error": expected}


async def test_an_unknown_method_gets_a_suggestion(client: ControlClient) -> None:
    error = (await client.ask("ecco"))["error"]
    assert (error["code"], error["hint"]) == ("unknown_method", "did you mean echo?")
    assert await client.ask("echo", {"upto": 1}) == {"result": {"upto": 1}}


@pytest.mark.parametrize("params", [{}, {"upto": "3"}, {"upto": 3, "more": 1}])
async def test_parameters_of_the_wrong_shape_are_refused(
    client: ControlClient, params: Any
) -> None:
    assert await error_code(client, "echo", params) == "bad_request"
    assert await client.ask("echo", {"upto": 1}) == {"result": {"upto": 1}}


@pytest.mark.parametrize(
    ("message", "answered"),
    [
        ({}, 0),
        ({"id": 5}, 5),
        ({"id": "5", "method": "echo"}, 0),
        ({"id": 0, "method": "echo"}, 0),
        ({"id": -1, "method": "echo"}, 0),
        ({"id": True, "method": "echo"}, 0),
        ({"id": (1 << 64) - 1, "method": "echo"}, (1 << 64) - 1),
        ({"id": 5, "method": 5}, 5),
        ({"id": 5, "method": "echo", "params": [1]}, 5),
        ({"id": 5, "method": "x" * 100_000}, 5),
    ],
)
async def test_a_request_of_the_wrong_shape_is_answered(
    client: ControlClient, message: Message, answered: int
) -> None:
    await client.put(encode(message))
    reply = await client.reply()
    assert reply["id"] == answered
    assert reply["error"]["code"] in ("bad_request", "unknown_method")
    assert await client.ask("echo", {"upto": 1}) == {"result": {"upto": 1}}


@pytest.mark.parametrize(
    "octets",
    [
        struct.pack(">I", MAX_FRAME + 1),
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", 1) + b"\xc1",
        struct.pack(">I", 1) + b"\x01",
        struct.pack(">I", 3) + b"\x81\x01\x01",
        struct.pack(">I", 0),
        struct.pack(">I", 100_000) + b"\x91" * 100_000,
    ],
)
async def test_garbage_ends_its_connection_with_an_error(
    client: ControlClient, path: Path, octets: bytes
) -> None:
    await client.put(octets)
    reply = await client.reply()
    assert reply["id"] == 0
    assert reply["error"]["code"] == "bad_request"
    assert await client.receive() is None
    assert await still_serves(path)


async def test_half_a_frame_is_not_waited_for_without_end(
    client: ControlClient, path: Path, autojump_clock: MockClock
) -> None:
    await client.put(encode({"id": 1, "method": "echo"})[:-1])
    reply = await client.reply()
    assert "not complete after 10 s" in reply["error"]["message"]
    assert await client.receive() is None


async def test_a_client_that_vanishes_cancels_its_requests(path: Path, world: World) -> None:
    client = await ControlClient.greeted(path)
    for number in range(3):
        await client.request(number + 1, "wait")
    await wait_all_tasks_blocked()
    assert world.waiting == 3
    client.close()
    await wait_all_tasks_blocked()
    assert (world.waiting, world.cancelled) == (0, 3)


async def test_a_client_that_does_not_read_holds_up_nobody(path: Path, world: World) -> None:
    client = await ControlClient.greeted(path)
    await client.request(1, "flood")
    await wait_all_tasks_blocked()
    assert world.waiting == 1
    assert await still_serves(path)
    client.close()
    await wait_all_tasks_blocked()
    assert world.cancelled == 1


async def test_a_bug_in_a_method_harms_that_request_alone(client: ControlClient) -> None:
    with structlog.testing.capture_logs() as logs:
        assert await error_code(client, "bug") == "internal"
    assert [(line["event"], line["method"]) for line in logs] == [("control request failed", "bug")]
    assert await client.ask("echo", {"upto": 1}) == {"result": {"upto": 1}}


async def test_an_answer_that_is_too_large_becomes_an_error(client: ControlClient) -> None:
    assert await error_code(client, "huge") == "internal"
    assert await client.ask("echo", {"upto": 1}) == {"result": {"upto": 1}}


async def test_what_comes_after_the_reply_comes_after_the_reply(
    client: ControlClient, world: World
) -> None:
    assert await client.ask("stop") == {"result": {}}
    await wait_all_tasks_blocked()
    assert world.stopped.is_set()


async def test_requests_of_a_connection_are_bounded(client: ControlClient, world: World) -> None:
    for number in range(MAX_REQUESTS):
        await client.request(number + 1, "wait")
    await client.request(99, "echo", {"upto": 1})
    reply = await client.reply()
    assert (reply["id"], reply["error"]["code"]) == (99, "busy")
    assert world.waiting == MAX_REQUESTS


async def test_connections_are_bounded(path: Path) -> None:
    clients = [await ControlClient.greeted(path) for _ in range(MAX_CONNECTIONS)]
    late = [await ControlClient.connect(path) for _ in range(MAX_REFUSALS)]
    assert await error_code(late[0], "hello", HELLO) == "busy"
    late.append(await ControlClient.connect(path))
    later = await ControlClient.connect(path)
    assert await later.receive() is None
    for client in [*clients, *late, later]:
        client.close()
    await wait_all_tasks_blocked()
    assert await still_serves(path)


async def test_a_socket_that_was_given_away_is_not_touched_again(
    client: ControlClient, world: World
) -> None:
    await client.request(1, "give", {"upto": 1})
    await client.put(b"raw bytes")
    await wait_all_tasks_blocked()
    (given,) = world.given
    with given:
        assert given.recv(100) == b"raw bytes"
        given.send(encode({"id": 1, "result": {"from": "the taker"}}) + b"more")
        assert await client.reply() == {"id": 1, "result": {"from": "the taker"}}
        assert await client.socket.recv(100) == b"more"
    assert await client.receive() is None  # ours was closed before


async def test_a_socket_that_nobody_takes_goes_on_as_before(client: ControlClient) -> None:
    assert await error_code(client, "give", {"upto": 0}) == "refused"
    assert await client.ask("echo", {"upto": 1}) == {"result": {"upto": 1}}


async def test_giving_away_wants_a_connection_of_its_own(client: ControlClient) -> None:
    await client.request(7, "wait")
    assert await error_code(client, "give", {"upto": 1}) == "bad_request"
