"""A role in the foreground: how it stops, and how its failures show."""

import math
import os
import signal
from collections.abc import Iterator
from http import HTTPStatus

import pytest
import structlog
import trio
from structlog.testing import capture_logs
from structlog.typing import EventDict

from tunneld.adminhttp import text
from tunneld.dropin.foreground import (
    GOODBYE,
    Signals,
    cancel_at,
    open_host,
    run_role,
    serve_operators,
)
from tunneld.dropin.program import StartError
from tunneld.role import Host, Role, RoleError


@pytest.fixture
def logged() -> Iterator[list[EventDict]]:
    structlog.reset_defaults()
    with capture_logs() as events:
        yield events


class Server(Role):
    """Drains for some seconds."""

    def __init__(self, host: Host, seconds: float) -> None:
        self.host = host
        self.seconds = seconds

    async def run(self, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started(["here"])
        await self.host.drain.wait()
        await trio.sleep(self.seconds)


class Broken(Role):
    async def run(self, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery():
            raise RoleError("there is no certificate")


async def test_signals_are_counted() -> None:
    signals = Signals()
    async with trio.open_nursery() as nursery:
        await nursery.start(signals.run)
        os.kill(os.getpid(), signal.SIGTERM)
        with trio.fail_after(5):
            await signals.first.wait()
        assert not signals.second.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        with trio.fail_after(5):
            await signals.second.wait()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("drains", "limit", "takes"),
    [(3, 10, 3), (30, 10, 10), (30, math.inf, 30), (0, 0, 0), (30, 0, GOODBYE)],
)
async def test_a_role_drains_within_its_time(
    drains: float, limit: float, takes: float, autojump_clock: trio.testing.MockClock
) -> None:
    stop = trio.Event()
    async with open_host("test") as host, trio.open_nursery() as nursery:
        role = Server(host, drains)
        assert await nursery.start(run_role, role, host, stop, limit, "") == ["here"]
        await trio.sleep(100)
        begun = trio.current_time()
        stop.set()
    assert trio.current_time() - begun == pytest.approx(takes)


async def test_a_role_that_ends_by_itself_is_over() -> None:
    async with open_host("test") as host:
        host.drain.set()
        with trio.fail_after(5):
            await run_role(Server(host, 0), host, trio.Event(), math.inf, "")


async def test_a_role_that_cannot_run_is_a_failure_to_start() -> None:
    async with open_host("test") as host:
        with pytest.raises(StartError, match=r"^failed to run: there is no certificate$"):
            await run_role(Broken(), host, trio.Event(), math.inf, "failed to run:")


async def test_an_event_cancels(autojump_clock: trio.testing.MockClock) -> None:
    event = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_at, event, nursery.cancel_scope)
        nursery.start_soon(trio.sleep_forever)
        await trio.sleep(1)
        event.set()
    assert trio.current_time() == pytest.approx(1)


async def test_operators_are_served(logged: list[EventDict]) -> None:
    routes = {"/": lambda _: text(HTTPStatus.OK, "ok")}
    async with trio.open_nursery() as nursery:
        await serve_operators("health", "127.0.0.1", 0, routes, nursery)
        (event,) = logged
        assert event["event"] == "health server listens"
        host, port = event["addresses"].split(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            with trio.fail_after(5):
                answer = b"".join([part async for part in stream])
        assert answer.endswith(b"\r\n\r\nok")
        nursery.cancel_scope.cancel()


async def test_a_port_that_is_taken_is_logged_and_no_more(logged: list[EventDict]) -> None:
    async with trio.open_nursery() as nursery:
        (taken,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with taken:
            port = taken.socket.getsockname()[1]
            await serve_operators("admin", "127.0.0.1", port, {}, nursery)
    (event,) = logged
    assert event["event"] == "admin server could not listen"
    assert event["log_level"] == "error"
    assert "in use" in event["error"]
