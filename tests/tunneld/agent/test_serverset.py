"""One tunnel to every server: how many, when the agent looks again, and what it says of it."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tunneld.agent.link import Holder, Link
from tunneld.agent.serverset import ServerSet
from tunneld.config import AgentConfig
from tunneld.reactor import Reactor
from tunneld.role import Host, RoleState
from tunneld.session import SessionError
from tunneld.telemetry import AgentTelemetry
from tunneld.transport.base import Transport

REFUSED = ConnectionRefusedError(111, "Connection refused")


class FakeLink:
    """A link that ends when told to."""

    def __init__(self, server_id: str, server_count: int = 1, *, silent: bool = False) -> None:
        self.transport = cast("Transport", None)
        self.server_id = server_id
        self.server_count = server_count
        self.holder: Holder
        self.wanted: bool | None = None
        self.drained = False
        self._silent = silent
        self._error = ""
        self._over = trio.Event()

    async def run(self, holder: Holder) -> None:
        if self._silent:
            await self._over.wait()
        else:
            self.holder = holder
            self.wanted = holder.offer()
            if self.wanted:
                await self._over.wait()
        if self._error:
            raise SessionError(self._error)

    def drain(self) -> None:
        self.drained = True

    def end(self, error: str = "") -> None:
        self._error = error
        self._over.set()


class Servers:
    """A set, and what its connections lead to, in turn."""

    def __init__(self, outcomes: Iterable[FakeLink | Exception], **config: Any) -> None:
        self.outcomes = iter(outcomes)
        self.times: list[float] = []
        self.states: list[tuple[RoleState, str]] = []
        self.telemetry = AgentTelemetry()
        self.count: int | None = None
        self.done = trio.Event()
        self.host = Host("agent", Reactor(), Path(), lambda *state: self.states.append(state))
        self.config = AgentConfig(name="agent", server="all:1", ca="ca", **config)

    async def connect(self) -> Link:
        self.times.append(trio.current_time())
        outcome = next(self.outcomes, REFUSED)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in itertools.pairwise(self.times)]

    async def run(self, servers: ServerSet) -> None:
        await servers.run()
        self.done.set()


@asynccontextmanager
async def serving(
    servers: Servers, count: Callable[[], int | None] | None = None
) -> AsyncIterator[ServerSet]:
    held = ServerSet(servers.config, servers.host, servers.telemetry, servers.connect, count)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(servers.run, held)
            await wait_all_tasks_blocked()
            yield held
            nursery.cancel_scope.cancel()
    finally:
        servers.host.reactor.close()


async def test_missing_servers_are_connected_in_a_row(autojump_clock: MockClock) -> None:
    servers = Servers([FakeLink("a", 3), FakeLink("b", 3), FakeLink("c", 3)])
    async with serving(servers) as held:
        await trio.sleep(100)
        assert list(held.held) == ["a", "b", "c"]
    assert servers.gaps == [0, 0]
    assert servers.states == [
        (RoleState.STARTING, "connecting to all:1"),
        (RoleState.READY, "connected to 1 of 3 servers"),
        (RoleState.READY, "connected to 2 of 3 servers"),
        (RoleState.READY, "connected to 3 of 3 servers"),
    ]


async def test_a_second_tunnel_to_one_server_is_not_kept(autojump_clock: MockClock) -> None:
    twice = FakeLink("a", 2)
    servers = Servers([FakeLink("a", 2), twice, FakeLink("a", 2), FakeLink("b", 2)])
    async with serving(servers) as held:
        await trio.sleep(100)
        assert list(held.held) == ["a", "b"]
        assert servers.telemetry.open_server_connections == 2
    assert twice.wanted is False
    immediate, *later = servers.gaps
    assert immediate == 0
    # Chance decides which server answers, so it is asked again soon, then ever less often.
    assert [round(gap, 2) for gap in later] == [
        pytest.approx(0.0525, abs=0.003),
        pytest.approx(0.07875, abs=0.005),
    ]


async def test_looks_for_a_server_that_is_not_there_become_rare(autojump_clock: MockClock) -> None:
    servers = Servers([FakeLink("a", 2) for _ in range(40)])
    async with serving(servers):
        await trio.sleep(20)
    later = servers.gaps[1:]
    assert later[0] < 0.06
    assert all(1 <= gap <= 1.1 for gap in later[8:])
    assert 20 < len(later) < 30


async def test_a_lost_tunnel_is_replaced_without_waiting_for_the_interval(
    autojump_clock: MockClock,
) -> None:
    first = FakeLink("a", 2)
    outcomes = [first, FakeLink("b", 2), FakeLink("a", 2)]
    servers = Servers(outcomes, backoff_min=0.5, sync_interval=5.0)
    async with serving(servers) as held:
        await trio.sleep(100)
        first.end("cut off")
        await trio.sleep(0.6)
        assert set(held.held) == {"a", "b"}
    assert servers.states[-2:] == [
        (RoleState.READY, "connected to 1 of 2 servers"),
        (RoleState.READY, "connected to 2 of 2 servers"),
    ]


async def test_a_loss_amid_a_wait_shortens_it(autojump_clock: MockClock) -> None:
    first, second = FakeLink("a", 3), FakeLink("b", 3)
    servers = Servers([first, second], backoff_min=0.5, sync_interval=50.0, sync_interval_cap=50.0)
    async with serving(servers):
        await trio.sleep(10)
        assert len(servers.times) == 3
        second.end()
        await trio.sleep(0.6)
        assert len(servers.times) == 4


async def test_the_reason_is_said_once_no_tunnel_is_left(autojump_clock: MockClock) -> None:
    only = FakeLink("a")
    servers = Servers([only])
    async with serving(servers) as held:
        only.end("cut off")
        await wait_all_tasks_blocked()
        assert servers.states[-2:] == [
            (RoleState.READY, "connected to all:1"),
            (RoleState.BACKOFF, "no tunnel to all:1: cut off"),
        ]
        assert held.held == {}
        await trio.sleep(5)
    assert servers.states[-1] == (RoleState.BACKOFF, "no tunnel to all:1: Connection refused")
    assert servers.telemetry.open_server_connections == 0


async def test_a_clean_end_is_a_loss_too(autojump_clock: MockClock) -> None:
    only = FakeLink("a")
    servers = Servers([only])
    async with serving(servers):
        only.end()
        await wait_all_tasks_blocked()
        assert servers.states[-1][1] == "no tunnel to all:1: the server ended the tunnel"


async def test_failing_looks_for_more_servers_become_rarer(autojump_clock: MockClock) -> None:
    servers = Servers([FakeLink("a", 2)], sync_interval=1.0, sync_interval_cap=3.0)
    async with serving(servers):
        await trio.sleep(30)
    assert servers.states[-1] == (RoleState.READY, "connected to 1 of 2 servers")
    immediate, *gaps = servers.gaps
    assert immediate == 0
    for gap, least in zip(gaps, [1, 1.5, 2.25, 3, 3, 3], strict=False):
        assert least <= gap <= least * 1.1


async def test_a_silent_server_is_given_up(autojump_clock: MockClock) -> None:
    servers = Servers([FakeLink("a", silent=True)], backoff_min=20.0)
    async with serving(servers):
        await trio.sleep(10.1)
        assert servers.states[-1] == (RoleState.BACKOFF, "no tunnel to all:1: no answer in 10 s")


@pytest.mark.parametrize("error", ["", "it broke the protocol"])
async def test_a_tunnel_that_ends_before_the_server_spoke_is_no_tunnel(
    error: str, autojump_clock: MockClock
) -> None:
    mute = FakeLink("a", silent=True)
    servers = Servers([mute], backoff_min=20.0)
    async with serving(servers):
        mute.end(error)
        await wait_all_tasks_blocked()
        reason = error or "the server ended the tunnel"
        assert servers.states[-1] == (RoleState.BACKOFF, f"no tunnel to all:1: {reason}")


async def test_the_latest_new_server_says_how_many_there_are(autojump_clock: MockClock) -> None:
    servers = Servers([FakeLink("a", 3), FakeLink("b", 2), FakeLink("c", 3)])
    async with serving(servers) as held:
        await trio.sleep(10)
        assert list(held.held) == ["a", "b"]
    assert servers.telemetry.known_server_count == 2


async def test_somebody_else_may_know_how_many_there_are(autojump_clock: MockClock) -> None:
    servers = Servers([FakeLink("a", 9), FakeLink("b", 9), FakeLink("c", 9)])
    known: list[int | None] = [1]
    async with serving(servers, lambda: known[0]) as held:
        await trio.sleep(10)
        assert list(held.held) == ["a"]
        known[0] = 2
        await trio.sleep(1.2)
        assert list(held.held) == ["a", "b"]
        known[0] = None
        await trio.sleep(1.2)
        assert list(held.held) == ["a", "b", "c"]
        known[0] = 0
        await trio.sleep(5)
    assert servers.states[-1] == (RoleState.READY, "connected to 3 of 3 servers")
    assert servers.telemetry.known_server_count == 1


async def test_it_can_be_made_to_look_for_ever(autojump_clock: MockClock) -> None:
    servers = Servers([FakeLink("a") for _ in range(50)], sync_forever=True)
    async with serving(servers) as held:
        await trio.sleep(20)
        assert list(held.held) == ["a"]
    assert all(1 <= gap <= 1.1 for gap in servers.gaps)
    assert len(servers.gaps) >= 17


async def test_a_server_that_ends_each_tunnel_at_once_is_tried_ever_less(
    autojump_clock: MockClock,
) -> None:
    class Ending(FakeLink):
        async def run(self, holder: Holder) -> None:
            holder.offer()

    servers = Servers([Ending("a") for _ in range(5000)], backoff_min=1.0, backoff_max=8.0)
    async with serving(servers):
        await trio.sleep(1000)
    assert 125 < len(servers.times) < 500


async def test_a_server_that_is_about_to_go_is_replaced_but_served_on(
    autojump_clock: MockClock,
) -> None:
    going = FakeLink("a")
    servers = Servers([going, FakeLink("b")])
    async with serving(servers) as held:
        going.holder.leaving()
        await wait_all_tasks_blocked()
        reason = "no tunnel to all:1: the server is about to go"
        assert servers.states[-1] == (RoleState.BACKOFF, reason)
        await trio.sleep(1)
        assert list(held.held) == ["b"]
        assert held.links[0] is going
        assert servers.telemetry.open_server_connections == 2
        going.end()
        await trio.sleep(1)
        assert list(held.held) == ["b"]
        assert len(held.links) == servers.telemetry.open_server_connections == 1
    assert servers.states[-1] == (RoleState.READY, "connected to all:1")


# -- draining ---------------------------------------------------------------------------------


async def test_a_drain_drains_all_and_waits_for_them(autojump_clock: MockClock) -> None:
    links = [FakeLink("a", 2), FakeLink("b", 2)]
    servers = Servers(links)
    async with serving(servers) as held:
        servers.host.drain.set()
        await wait_all_tasks_blocked()
        links[0].holder.leaving()
        assert len(held.held) == 2
        assert [link.drained for link in links] == [True, True]
        links[0].end()
        await wait_all_tasks_blocked()
        assert not servers.done.is_set()
        links[1].end("cut off")
        await servers.done.wait()
        assert held.held == {}
    assert servers.states[-1][0] is RoleState.READY
    assert len(servers.times) == 2


async def test_a_drained_set_looks_for_no_more(autojump_clock: MockClock) -> None:
    servers = Servers([FakeLink("a", 2), FakeLink("b", 2, silent=True)])
    async with serving(servers) as held:
        servers.host.drain.set()
        await trio.sleep(100)
        assert list(held.held) == ["a"]
    assert len(servers.times) == 2


async def test_a_server_that_is_always_about_to_go_gets_few_tunnels(
    autojump_clock: MockClock,
) -> None:
    links = [FakeLink("a") for _ in range(20)]
    async with serving(Servers(links)) as held:
        for link in links[:-1]:
            link.holder.leaving()
            await trio.sleep(40)
        assert list(held.held.values()) == [links[-1]]
    assert [link.drained for link in links] == [True] * 3 + [False] * 17


async def test_no_server_has_an_agent_look_for_millions(autojump_clock: MockClock) -> None:
    """Each that it finds costs a descriptor, and a hostile server can be as many as it says."""
    servers = Servers(FakeLink(f"{number}", 999_999_999) for number in range(1000))
    async with serving(servers) as held:
        await trio.sleep(100)
        assert len(held.held) == 256
