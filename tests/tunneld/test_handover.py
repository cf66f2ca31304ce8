import trio
from trio.testing import wait_all_tasks_blocked

from tunneld.handover import Handover


async def test_it_is_passed_once_all_that_have_arrived_are_through(nursery: trio.Nursery) -> None:
    passed: list[None] = []
    handover = Handover(lambda: passed.append(None))
    handover.arrive("a")
    handover.arrive("b")
    agents: list[set[str]] = []

    async def wait() -> None:
        agents.append(await handover.wait("a"))

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    assert agents == []
    handover.open({"a": {"home"}})
    await wait_all_tasks_blocked()
    assert agents == [{"home"}]
    handover.leave("a")
    handover.leave("a")
    assert not passed
    handover.leave("b")
    handover.leave("b")
    assert len(passed) == 1


async def test_without_a_server_it_is_passed_when_it_opens() -> None:
    passed: list[None] = []
    handover = Handover(lambda: passed.append(None))
    handover.open({})
    assert len(passed) == 1


async def test_a_server_that_ends_holds_nobody_up() -> None:
    passed: list[None] = []
    handover = Handover(lambda: passed.append(None))
    handover.arrive("a")
    handover.leave("a")
    assert not passed
    handover.open({})
    assert len(passed) == 1


async def test_a_role_that_nobody_comes_to_waits_for_nobody() -> None:
    handover = Handover(lambda: None)
    handover.open({"a": {"home"}})
    assert await handover.wait("b") == set()
