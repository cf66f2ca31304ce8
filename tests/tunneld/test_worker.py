"""The worker's side of the line, in this process."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from ctl.messages import MAX_FRAME, ControlError, FrameError
from tests.tunneld.fake_worker import FACTORIES
from tunneld.framestream import FrameStream
from tunneld.worker import serve
from tunneld.workerlink import WorkerLink

ECHO = {"kind": "echo", "name": "a", "listen": "ready:1"}


class Line:
    """The supervisor's end, and what came unasked."""

    def __init__(self, frames: FrameStream) -> None:
        self.items: list[Any] = []
        self.link = WorkerLink(frames, lambda message: self.items.append(message["item"]))


@pytest.fixture
async def line(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Line]:
    ours, its = socket.socketpair()
    its.setblocking(False)
    nursery.start_soon(serve, its, tmp_path, FACTORIES)
    async with FrameStream(trio.socket.from_stdlib_socket(ours)) as frames:
        line = Line(frames)
        nursery.start_soon(line.link.run)
        yield line
        nursery.cancel_scope.cancel()
    structlog.reset_defaults()


async def refusal(line: Line, method: str, params: dict[str, Any]) -> str:
    with pytest.raises(ControlError) as caught:
        await line.link.call(method, params)
    return caught.value.code


async def test_roles_start_and_stop_by_request(line: Line) -> None:
    assert await line.link.call("start", {"config": ECHO}) == {}
    question = {"name": "a", "method": "agents", "params": {}}
    assert (await line.link.call("ask", question))["rows"] == [{"id": "demo", "server": "a"}]
    assert await line.link.call("stop", {"name": "a"}) == {}
    assert await line.link.call("stop", {"name": "a"}) == {}
    assert await refusal(line, "ask", question) == "failed"


async def test_a_worker_says_that_it_is_alive(line: Line) -> None:
    assert await line.link.call("alive", {}) == {}


async def test_a_second_start_changes_nothing(line: Line) -> None:
    await line.link.call("start", {"config": ECHO})
    await line.link.call("start", {"config": ECHO})
    question = {"name": "a", "method": "agents", "params": {}}
    assert (await line.link.call("ask", question))["total"] == 1


async def test_what_cannot_be_understood_is_refused(line: Line) -> None:
    assert await refusal(line, "nonsense", {}) == "unknown_method"
    assert await refusal(line, "start", {"config": {"kind": "nonsense"}}) == "bad_request"
    assert await refusal(line, "rows", {"kind": "nonsense"}) == "bad_request"
    dial = {"name": "a", "host": "h", "port": 1, "reply": {}}
    assert await refusal(line, "dial", dial) == "bad_request"  # without a socket
    assert await line.link.call("stop", {"name": "a"}) == {}


async def test_a_dial_of_a_role_that_is_not_there_fails(line: Line) -> None:
    near, far = socket.socketpair()
    params = {"name": "nobody", "host": "h", "port": 1, "reply": {}}
    with near, far:
        with pytest.raises(ControlError, match="does not run"):
            await line.link.call("dial", params, far)
        far.send(b"still open")
        assert near.recv(100) == b"still open"


async def test_a_request_that_is_too_large_is_not_sent(line: Line) -> None:
    assert await refusal(line, "stop", {"name": "x" * MAX_FRAME}) == "bad_request"
    assert await line.link.call("stop", {"name": "a"}) == {}


async def test_a_worker_without_supervisor_ends(tmp_path: Path) -> None:
    ours, its = socket.socketpair()
    its.setblocking(False)
    ours.close()
    with trio.fail_after(20):
        await serve(its, tmp_path, FACTORIES)
    structlog.reset_defaults()


async def test_calls_fail_when_the_worker_is_gone() -> None:
    ours, its = trio.socket.socketpair()
    link = WorkerLink(FrameStream(ours), lambda message: None)
    failed: list[str] = []

    async def call() -> None:
        with pytest.raises(ControlError) as caught:
            await link.call("stop", {"name": "a"})
        failed.append(caught.value.message)

    async with FrameStream(ours), trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await trio.testing.wait_all_tasks_blocked()
        its.close()
        await link.run()
        nursery.start_soon(call)
    assert failed == ["the worker has ended", "the worker has ended"]


async def test_an_answer_that_nobody_waits_for_is_dropped() -> None:
    ours, its = trio.socket.socketpair()
    async with FrameStream(ours) as near, FrameStream(its) as far:
        link = WorkerLink(near, lambda message: None)
        with trio.move_on_after(0.01):
            await link.call("stop", {"name": "a"})
        assert await far.receive() == {"id": 1, "method": "stop", "params": {"name": "a"}}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run)
            await far.send({"id": 1, "result": {}})
            nursery.start_soon(_answer, far)
            assert await link.call("rows", {"kind": "certificates"}) == {"rows": []}
            nursery.cancel_scope.cancel()


async def _answer(far: FrameStream) -> None:
    request = await far.receive()
    assert request is not None
    await far.send({"id": request["id"], "result": {"rows": []}})


async def test_a_worker_that_ends_in_mid_frame_is_an_error() -> None:
    ours, its = trio.socket.socketpair()
    async with FrameStream(ours) as near:
        await its.send(b"\0\0")
        its.close()
        with pytest.raises(FrameError):
            await WorkerLink(near, lambda message: None).run()
