"""Whether a process's data plane turns, which its watchdogs ask."""

from pathlib import Path

import trio
from trio.testing import MockClock

from tunneld.reactor import Reactor
from tunneld.rolegroup import RoleGroup, open_role_group
from tunneld.rolerunner import Surroundings
from tunneld.rolestatus import RoleStatus


def report(name: str, status: RoleStatus) -> None:
    raise AssertionError((name, status))


async def test_a_group_is_alive_while_its_data_plane_turns(tmp_path: Path) -> None:
    with trio.fail_after(20):
        async with open_role_group({}, tmp_path, report) as group:
            await group.alive()
            await group.alive()


async def test_a_group_whose_data_plane_stands_still_is_not(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    reactor = Reactor()  # which nobody runs
    group = RoleGroup({}, Surroundings(reactor, tmp_path, report), nursery)
    with trio.move_on_after(1000) as waiting:
        await group.alive()
    assert waiting.cancelled_caught
    reactor.close()
