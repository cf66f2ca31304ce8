"""Connections that last, or are silent, for too long."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tests.tunneld.policies import OPEN_SERVER
from tunneld.caller import Caller
from tunneld.config import Frontend, ServerConfig, TunnelListener
from tunneld.conns import OPEN, Conn, Conns
from tunneld.lifetimes import Lifetimes
from tunneld.relay import Relay, RelayError


class Looks:
    """A relay, as far as one looks at it."""

    half_closed = False
    ends = ()


class World:
    """Connections without ends; each is told by its destination."""

    def __init__(self, nursery: trio.Nursery, **times: float) -> None:
        self.nursery = nursery
        self.conns = Conns()
        self.config = ServerConfig(
            name="server",
            policy=OPEN_SERVER,
            frontends=(Frontend(listen="unix:/x"),),
            tunnel=TunnelListener(listen=":0", cert="", key=""),
        )
        self.idle_clients: list[float] = []
        self.lifetimes = Lifetimes(self.changed(**times), self.conns, self.idle_clients.append)
        self.ended: dict[str, tuple[str, str, float]] = {}

    def changed(self, **times: float) -> ServerConfig:
        return msgspec.structs.replace(self.config, **{"half_closed_timeout": 0.0, **times})

    async def open(self, name: str) -> Conn:
        conn: Conn = await self.nursery.start(self._carry, name)
        return conn

    async def _carry(self, name: str, task_status: trio.TaskStatus[Conn]) -> None:
        try:
            with self.conns.listed(Caller("user:a"), name) as conn:
                conn.state = OPEN
                conn.relay = cast(Relay, Looks())
                task_status.started(conn)
                await trio.sleep_forever()
        except RelayError as exc:
            self.ended[name] = (conn.ended, str(exc), trio.current_time() - conn.opened)


@asynccontextmanager
async def open_world(**times: float) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        world = World(nursery, **times)
        nursery.start_soon(world.lifetimes.run)
        yield world
        nursery.cancel_scope.cancel()


async def talk(conn: Conn, every: float) -> None:
    """Carry an octet now and then."""
    octets = 0
    while True:
        await trio.sleep(every)
        octets += 1
        conn.octets = lambda now=octets: (0, now)  # type: ignore[misc]


async def test_a_silent_connection_ends_and_one_that_talks_does_not(
    autojump_clock: MockClock,
) -> None:
    async with open_world(idle_timeout=100.0) as world:
        await world.open("silent")
        world.nursery.start_soon(talk, await world.open("talks"), 60)
        await trio.sleep(1000)
    how, text, seconds = world.ended["silent"]
    assert how == "expired"
    assert text == "expired: silent for 100 s, idle-timeout"
    assert seconds == pytest.approx(100, abs=11)
    assert list(world.ended) == ["silent"]
    assert world.idle_clients == [100.0] * len(world.idle_clients) != []


async def test_a_half_closed_connection_ends_when_the_other_way_is_silent_too(
    autojump_clock: MockClock,
) -> None:
    async with open_world(half_closed_timeout=100.0) as world:
        await world.open("open")
        for name in ("half-closed", "half-closed, talks"):
            conn = await world.open(name)
            await trio.sleep(500)
            cast(Any, conn.relay).half_closed = True
            if "talks" in name:
                world.nursery.start_soon(talk, conn, 60)
        await trio.sleep(1000)
    assert list(world.ended) == ["half-closed"]
    _, text, seconds = world.ended["half-closed"]
    assert text == "expired: half-closed and silent for 100 s, half-closed-timeout"
    assert seconds == pytest.approx(600, abs=11)


async def test_an_old_connection_ends_whatever_it_does(autojump_clock: MockClock) -> None:
    async with open_world(max_connection_age=1000.0) as world:
        world.nursery.start_soon(talk, await world.open("busy"), 1)
        await trio.sleep(2000)
    assert world.ended["busy"][1] == "expired: older than 1000 s, max-connection-age"
    assert world.ended["busy"][2] == pytest.approx(1000, abs=51)


async def test_a_dial_is_not_its_business(autojump_clock: MockClock) -> None:
    async with open_world(max_connection_age=10.0, idle_timeout=10.0) as world:
        conn = await world.open("dialling")
        conn.state = "dialling"
        await trio.sleep(1000)
    assert not world.ended


async def test_times_that_change_count_for_what_there_is(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await world.open("silent")
        await trio.sleep(80_000)
        assert not world.ended
        world.lifetimes.reconfigure(world.changed(idle_timeout=20.0))
        await trio.sleep(30)
        assert list(world.ended) == ["silent"]
        await world.open("another")
        world.lifetimes.reconfigure(world.changed())
        await trio.sleep(80_000)
        assert list(world.ended) == ["silent"]
