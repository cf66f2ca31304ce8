import trio
from trio.testing import wait_all_tasks_blocked

from tunneld.gate import Gate


async def test_it_is_passed_once_all_that_have_arrived_are_through(nursery: trio.Nursery) -> None:
    passed: list[None] = []
    gate = Gate(lambda: passed.append(None))
    gate.arrive("a")
    gate.arrive("b")
    agents: list[set[str]] = []

    async def wait() -> None:
        agents.append(await gate.wait("a"))

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    assert agents == []
    gate.open({"a": {"home"}})
    await wait_all_tasks_blocked()
    assert agents == [{"home"}]
    gate.leave("a")
    gate.leave("a")
    assert not passed
    gate.leave("b")
    gate.leave("b")
    assert len(passed) == 1


async def test_without_a_server_it_is_passed_when_it_opens() -> None:
    passed: list[None] = []
    gate = Gate(lambda: passed.append(None))
    gate.open({})
    assert len(passed) == 1


async def test_a_server_that_ends_holds_nobody_up() -> None:
    passed: list[None] = []
    gate = Gate(lambda: passed.append(None))
    gate.arrive("a")
    gate.leave("a")
    assert not passed
    gate.open({})
    assert len(passed) == 1


async def test_a_role_that_nobody_comes_to_waits_for_nobody() -> None:
    gate = Gate(lambda: None)
    gate.open({"a": {"home"}})
    assert await gate.wait("b") == set()
