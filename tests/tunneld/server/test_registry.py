"""Which tunnel takes a dial."""

from contextlib import ExitStack
from typing import cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tunneld.dialing import NO_AGENT, DialError
from tunneld.server.claims import Claims
from tunneld.server.registry import Registry
from tunneld.server.tunnel import Tunnel


class FakeTunnel:
    """As much of one as the choice looks at."""

    def __init__(self, identifiers: str = "", conns: int = 0, *, usable: bool = True) -> None:
        self.claims = Claims(identifiers)
        self.conns = conns
        self.usable = usable
        self.session = self
        self.drained = 0

    def drain(self) -> None:
        self.drained += 1


def choose(host: str, *tunnels: FakeTunnel) -> FakeTunnel:
    registry = Registry()
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


def test_one_that_drains_is_passed_over() -> None:
    draining, other = FakeTunnel("host=a", usable=False), FakeTunnel()
    assert choose("a", draining, other) is other


def test_without_a_tunnel_it_is_said_why() -> None:
    with pytest.raises(DialError, match=r"No agent available \(none is connected\)") as caught:
        choose("a")
    assert caught.value.kind is NO_AGENT
    with pytest.raises(DialError, match="those connected are draining"):
        choose("a", FakeTunnel(usable=False))


async def test_draining_waits_for_the_last_to_go() -> None:
    registry = Registry()
    await registry.drain()
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
