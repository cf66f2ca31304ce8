"""Which tunnel takes a dial."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tunneld.agentinfo import AgentInfo
from tunneld.dialing import NO_AGENT, DialError
from tunneld.identifiers import parse_identifiers
from tunneld.server.claims import Claims
from tunneld.server.registry import Registry, Tunnel
from tunneld.telemetry import ServerTelemetry


class FakeTunnel:
    """As much of one as the choice looks at."""

    def __init__(
        self,
        identifiers: str = "",
        conns: int = 0,
        *,
        usable: bool = True,
        draining: bool = False,
        agent_id: str = "a",
        can_leave: bool = True,
    ) -> None:
        self.info = AgentInfo(agent_id)
        self.claims = Claims(parse_identifiers(identifiers))
        self.conns = conns
        self.dials = 0
        self.usable = usable
        self.draining = draining
        self.drained = 0
        self.left = 0
        self.can_leave = can_leave
        self.peer = "1.2.3.4:5"

    def leave(self) -> None:
        self.left += 1

    def drain(self) -> None:
        self.drained += 1


ALL = ("destHost", "defaultRoute", "default")


def choose(host: str, *tunnels: FakeTunnel, strategies: Sequence[str] = ALL) -> FakeTunnel:
    registry = Registry(strategies, ServerTelemetry())
    with ExitStack() as stack:
        for tunnel in tunnels:
            stack.enter_context(registry.joined(cast(Tunnel, tunnel)))
        return cast(FakeTunnel, registry.choose(host))


def test_the_more_exact_claim_goes_first() -> None:
    anything, route = FakeTunnel(), FakeTunnel("default-route=true")
    wide, narrow = FakeTunnel("cidr=10.0.0.0/8"), FakeTunnel("cidr=10.1.0.0/16", conns=9)
    exact = FakeTunnel("ipv4=10.1.1.1", conns=9)
    all_of_them = (anything, route, wide, narrow, exact)
    assert choose("10.1.1.1", *all_of_them) is exact
    assert choose("10.1.1.2", *all_of_them) is narrow
    assert choose("10.2.1.1", *all_of_them) is wide
    assert choose("11.0.0.1", *all_of_them) is route
    assert choose("11.0.0.1", anything, wide) is anything


def test_of_equals_the_least_loaded_is_taken_then_the_oldest() -> None:
    busy, first, second = FakeTunnel(conns=3), FakeTunnel(conns=1), FakeTunnel(conns=1)
    assert choose("a", busy, first, second) is first


def test_one_that_takes_no_dials_is_passed_over() -> None:
    unusable, other = FakeTunnel("host=a", usable=False), FakeTunnel()
    assert choose("a", unusable, other) is other
    idle, busy = FakeTunnel(usable=False), FakeTunnel(conns=5)
    assert choose("a", idle, busy) is busy
    narrow, wide = FakeTunnel("cidr=10.1.0.0/16", usable=False), FakeTunnel("cidr=10.0.0.0/8")
    assert choose("10.1.0.1", narrow, wide) is wide


def test_one_that_has_left_is_not_chosen() -> None:
    registry = Registry(ALL, ServerTelemetry())
    stays, leaves = FakeTunnel(), FakeTunnel("host=a")
    with registry.joined(cast(Tunnel, stays)):
        with registry.joined(cast(Tunnel, leaves)):
            assert registry.choose("a") is cast(Tunnel, leaves)
        assert registry.choose("a") is cast(Tunnel, stays)


def test_one_that_drains_is_the_last_resort_of_its_strategy() -> None:
    draining, busy = FakeTunnel(draining=True), FakeTunnel(conns=9)
    assert choose("a", draining, busy) is busy
    assert choose("a", draining) is draining
    claiming = FakeTunnel("host=a", draining=True)
    assert choose("a", claiming, busy) is claiming


def test_only_the_strategies_that_are_configured_count() -> None:
    anything, route, exact = FakeTunnel(), FakeTunnel("default-route=true"), FakeTunnel("host=a")
    agents = (anything, route, exact)
    assert choose("a", *agents, strategies=["default"]) is anything
    assert choose("a", *agents, strategies=["defaultRoute", "destHost"]) is route
    assert choose("a", *agents, strategies=["destHost"]) is exact
    with pytest.raises(DialError, match="none of those connected takes it: destHost"):
        choose("b", *agents, strategies=["destHost"])


def test_equally_loaded_agents_take_turns() -> None:
    first, second = FakeTunnel(), FakeTunnel()
    first.dials = 1
    assert choose("a", first, second) is second


def test_only_permitted_agents_are_chosen() -> None:
    registry = Registry(ALL, ServerTelemetry())
    exact, other = FakeTunnel("host=a", agent_id="x"), FakeTunnel(agent_id="y", conns=9)
    with registry.joined(cast(Tunnel, exact)), registry.joined(cast(Tunnel, other)):
        chosen = registry.choose("a", lambda tunnel: tunnel.info.agent_id == "y")
        assert chosen is cast(Tunnel, other)
        with pytest.raises(DialError, match="none of those connected takes it"):
            registry.choose("a", lambda tunnel: False)


def test_one_that_may_not_take_the_unclaimed_is_not_asked_for_it() -> None:
    bound = FakeTunnel("host=a")
    bound.claims.takes_unclaimed = False
    assert choose("a", bound) is bound
    with pytest.raises(DialError):
        choose("b", bound)


def test_a_review_says_what_became_of_each() -> None:
    registry = Registry(ALL, ServerTelemetry())
    tunnels = [
        FakeTunnel("host=a", agent_id="exact", conns=2),
        FakeTunnel("host=b", agent_id="else"),
        FakeTunnel(agent_id="stuck", usable=False),
        FakeTunnel(agent_id="going", draining=True),
        FakeTunnel(agent_id="denied"),
    ]
    with ExitStack() as stack:
        for tunnel in tunnels:
            stack.enter_context(registry.joined(cast(Tunnel, tunnel)))
        why_not = {"denied": "by the policy"}
        told = dict(registry.review("a", lambda each: why_not.get(each.info.agent_id, "")))
    assert told == {
        "destHost": "exact: fit, 2 connections; else: claims something else",
        "defaultRoute": "no agent has a default route",
        "default": "exact: fit, 2 connections; else: fit, 0 connections;"
        " stuck: its tunnel takes no dials now; going: fit, draining, 0 connections;"
        " denied: by the policy",
    }


async def test_agents_are_sent_away_as_far_as_they_understand_it() -> None:
    registry = Registry(ALL, ServerTelemetry())
    able, unable = FakeTunnel(agent_id="x"), FakeTunnel(agent_id="y", can_leave=False)
    with registry.joined(cast(Tunnel, able)), registry.joined(cast(Tunnel, unable)):
        assert registry.leave() == {"x"}
    assert (able.left, unable.left) == (1, 0)


async def test_agents_can_be_waited_for(nursery: trio.Nursery) -> None:
    registry = Registry(ALL, ServerTelemetry())
    there = trio.Event()

    async def wait() -> None:
        await registry.wait_for({"x", "y"})
        there.set()

    nursery.start_soon(wait)
    with registry.joined(cast(Tunnel, FakeTunnel(agent_id="x"))):
        await wait_all_tasks_blocked()
        assert not there.is_set()
        with registry.joined(cast(Tunnel, FakeTunnel(agent_id="y"))):
            await wait_all_tasks_blocked()
            assert there.is_set()


def test_readiness_is_told_by_strategy() -> None:
    registry = Registry(("destHost", "default"), ServerTelemetry())
    assert registry.ready_backends() == {"destHost": 0, "default": 0}
    with registry.joined(cast(Tunnel, FakeTunnel(agent_id="x"))):
        assert registry.ready_backends() == {"destHost": 0, "default": 1}
        assert not registry.ready
        with registry.joined(cast(Tunnel, FakeTunnel("host=a&ipv4=1.2.3.4", agent_id="x"))):
            assert registry.ready_backends() == {"destHost": 2, "default": 1}
            assert registry.ready


def test_without_a_tunnel_it_is_said_why() -> None:
    with pytest.raises(DialError, match=r"No agent available \(none is connected\)") as caught:
        choose("a")
    assert caught.value.kind is NO_AGENT
    with pytest.raises(DialError, match="those connected are draining"):
        choose("a", FakeTunnel(usable=False))


async def test_draining_waits_for_the_last_to_go() -> None:
    await Registry(ALL, ServerTelemetry()).drain()
    registry = Registry(ALL, ServerTelemetry())
    tunnels = [FakeTunnel(), FakeTunnel()]
    done = trio.Event()

    async def drain() -> None:
        await registry.drain()
        done.set()

    async with trio.open_nursery() as nursery:
        with registry.joined(cast(Tunnel, tunnels[0])):
            with registry.joined(cast(Tunnel, tunnels[1])):
                nursery.start_soon(drain)
                await wait_all_tasks_blocked()
            await wait_all_tasks_blocked()
            assert not done.is_set()
        await done.wait()
    assert [tunnel.drained for tunnel in tunnels] == [1, 1]


async def test_one_that_joins_amid_a_drain_is_drained_at_once(nursery: trio.Nursery) -> None:
    """It was being looked at when the drain began."""
    registry = Registry(ALL, ServerTelemetry())
    old, late = FakeTunnel(), FakeTunnel()
    drained = trio.Event()

    async def drain() -> None:
        await registry.drain()
        drained.set()

    with registry.joined(cast(Tunnel, old)):
        nursery.start_soon(drain)
        await wait_all_tasks_blocked()
        with registry.joined(cast(Tunnel, late)):
            assert (old.drained, late.drained) == (1, 1)
            await wait_all_tasks_blocked()
            assert not drained.is_set()
    await drained.wait()
