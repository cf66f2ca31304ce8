"""Counting servers by a list and a watch, while both work and while they do not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.tunneld.kube.apidouble import ApiDouble, event, status
from tests.tunneld.kube.samples import clock, lease_object
from tunneld.kube.client import KubeClient
from tunneld.kube.leasecounter import LeaseCounter
from tunneld.telemetry import AgentTelemetry

PREFIX = "konnectivity-proxy-server-"
SELECTOR = "k8s-app=konnectivity-server"


def highest(low: float, high: float) -> float:
    return high


@pytest.fixture
def telemetry() -> AgentTelemetry:
    return AgentTelemetry()


@pytest.fixture
def counter(client: KubeClient, telemetry: AgentTelemetry) -> LeaseCounter:
    return LeaseCounter(client, "kube-system", SELECTOR, telemetry, clock, highest)


@asynccontextmanager
async def counting(counter: LeaseCounter) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(counter.run)
        yield
        nursery.cancel_scope.cancel()


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def renew(api: ApiDouble, *servers: str) -> None:
    """Have ``servers`` renew their leases each 15 seconds."""
    while True:
        for server in servers:
            api.put(lease_object(server, trio.current_time()))
        await trio.sleep(15)


async def test_the_first_list_has_been_counted_once_it_is_started(
    autojump_clock: object, api: ApiDouble, counter: LeaseCounter
) -> None:
    assert counter.count == 1
    for server in ("a", "b", "c"):
        api.put(lease_object(server, 0))
    api.put(lease_object("dead", -30))
    api.put(lease_object("foreign", 0, labels={"other": "label"}))
    async with counting(counter):
        assert counter.count == 3
    assert api.asks[0].query == {"labelSelector": SELECTOR}


async def test_the_selector_is_passed_on_in_its_full_syntax(
    autojump_clock: object, api: ApiDouble, client: KubeClient
) -> None:
    selector = "k8s-app in (a, b),!canary,tier!=x"
    counter = LeaseCounter(client, "kube-system", selector, AgentTelemetry(), clock)
    api.fail("LIST", status(500, "InternalError"))
    async with counting(counter):
        pass
    assert api.asks[0].query == {"labelSelector": selector}


async def test_no_valid_lease_counts_as_one_server(
    autojump_clock: object, api: ApiDouble, counter: LeaseCounter
) -> None:
    async with counting(counter):
        await settle()
        assert counter.count == 1


async def test_the_watch_tells_of_servers_that_come_and_go(
    autojump_clock: object, api: ApiDouble, counter: LeaseCounter
) -> None:
    api.put(lease_object("a"))
    async with counting(counter):
        await settle()
        api.put(lease_object("b"))
        await settle()
        assert counter.count == 2
        api.send(event("BOOKMARK", {"metadata": {"resourceVersion": "500"}}))
        await settle()
        assert counter.count == 2
        api.remove(f"{PREFIX}a")
        await settle()
        assert counter.count == 1
    assert api.kinds() == ["LIST", "WATCH"]
    assert api.asks[1].query == {
        "labelSelector": SELECTOR,
        "resourceVersion": "101",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": "600",
        "watch": "true",
    }


async def test_what_happens_between_list_and_watch_is_not_missed(
    autojump_clock: object, api: ApiDouble, counter: LeaseCounter
) -> None:
    api.put(lease_object("a"))
    async with counting(counter):
        api.put(lease_object("b"))  # the watch has not been asked for yet
        await settle()
        assert counter.count == 2


async def test_a_server_whose_lease_expires_is_not_counted_though_nobody_tells(
    autojump_clock: object, api: ApiDouble, counter: LeaseCounter
) -> None:
    api.put(lease_object("a", 10))
    api.put(lease_object("b", 20))
    async with counting(counter), trio.open_nursery() as nursery:
        nursery.start_soon(renew, api, "lives")
        await trio.sleep(39.9)
        assert counter.count == 3
        await trio.sleep(0.2)
        assert counter.count == 2
        await trio.sleep(10)
        assert counter.count == 1
        nursery.cancel_scope.cancel()
    assert api.kinds() == ["LIST", "WATCH"]


async def test_renewals_keep_one_watch_alive(
    autojump_clock: object, api: ApiDouble, counter: LeaseCounter
) -> None:
    async with counting(counter), trio.open_nursery() as nursery:
        nursery.start_soon(renew, api, "a", "b")
        await trio.sleep(1000)
        assert counter.count == 2
        nursery.cancel_scope.cancel()
    assert api.kinds() == ["LIST", "WATCH"]


async def test_a_watch_that_falls_silent_is_replaced_before_its_leases_expire(
    autojump_clock: object, api: ApiDouble, counter: LeaseCounter
) -> None:
    api.put(lease_object("a", 0))
    async with counting(counter):
        await settle()
        api.watchers.clear()  # it stays open, but nothing comes any more
        await trio.sleep(15)
        api.put(lease_object("a", 15))
        await trio.sleep(16)
        assert counter.count == 1
    assert api.times_of("LIST") == pytest.approx([0, 21])


async def test_a_watch_where_nothing_lives_may_be_silent_for_five_minutes(
    autojump_clock: object, api: ApiDouble, counter: LeaseCounter
) -> None:
    async with counting(counter):
        await trio.sleep(310)
    assert api.times_of("LIST") == pytest.approx([0, 301])


async def test_while_lists_fail_the_last_good_count_stands(
    autojump_clock: object,
    api: ApiDouble,
    counter: LeaseCounter,
    telemetry: AgentTelemetry,
) -> None:
    api.put(lease_object("a"))
    api.put(lease_object("b"))
    async with counting(counter):
        await settle()
        api.fail("LIST", status(500, "InternalError"), times=50)
        api.break_watches()
        await trio.sleep(200)
        assert counter.count == 2
        api.trouble.clear()
        await trio.sleep(30)
        assert counter.count == 1  # as news that both have expired
    assert telemetry.lease_lists_total["500", "InternalError"] > 5


async def test_failing_lists_are_repeated_ever_more_slowly(
    autojump_clock: object, api: ApiDouble, counter: LeaseCounter
) -> None:
    api.fail("LIST", status(500, "InternalError"), times=50)
    async with counting(counter):
        await trio.sleep(100)
    assert api.times_of("LIST") == pytest.approx([0, 1, 3, 7, 15, 31, 61, 91])


async def test_an_api_that_is_down_at_first_counts_as_one_server_until_it_is_up(
    autojump_clock: object, api: ApiDouble, counter: LeaseCounter
) -> None:
    api.down = True
    async with counting(counter):
        await trio.sleep(50)
        assert counter.count == 1
        api.down = False
        for server in ("a", "b", "c"):
            api.put(lease_object(server, 60))
        await trio.sleep(30)
        assert counter.count == 3


async def test_an_api_that_does_not_answer_holds_the_start_up_for_ten_seconds(
    autojump_clock: object, api: ApiDouble, counter: LeaseCounter
) -> None:
    api.hanging = {"LIST"}
    async with counting(counter):
        assert trio.current_time() == pytest.approx(10)
        assert counter.count == 1


async def test_a_watch_that_breaks_is_followed_by_a_list(
    autojump_clock: object, api: ApiDouble, counter: LeaseCounter
) -> None:
    api.put(lease_object("a"))
    async with counting(counter):
        await settle()
        api.break_watches()
        await settle()
        api.put(lease_object("b"))
        await trio.sleep(1.5)
        assert counter.count == 2
    assert api.kinds() == ["LIST", "WATCH", "LIST", "WATCH"]


async def test_a_watch_that_the_api_ends_is_followed_by_a_list(
    autojump_clock: object, api: ApiDouble, counter: LeaseCounter
) -> None:
    async with counting(counter):
        await trio.sleep(200)
        api.end_watches()
        await trio.sleep(2)
    assert api.times_of("LIST") == pytest.approx([0, 201])


async def test_watches_that_fail_at_once_are_tried_ever_more_slowly(
    autojump_clock: object,
    api: ApiDouble,
    counter: LeaseCounter,
    telemetry: AgentTelemetry,
) -> None:
    api.fail("WATCH", status(403, "Forbidden"), times=5)
    async with counting(counter):
        await trio.sleep(40)
    assert api.times_of("LIST") == pytest.approx([0, 1, 3, 7, 15, 31])
    assert telemetry.lease_watches_total == {("403", "Forbidden"): 5, ("200", ""): 1}


async def test_a_version_that_is_too_old_for_a_watch_is_followed_by_a_list(
    autojump_clock: object,
    api: ApiDouble,
    counter: LeaseCounter,
    telemetry: AgentTelemetry,
) -> None:
    api.oldest = 101
    async with counting(counter):
        await settle()
        api.put(lease_object("a", 1))
        await trio.sleep(1.5)
        assert counter.count == 1
    assert api.kinds() == ["LIST", "WATCH", "LIST", "WATCH"]
    assert telemetry.lease_watches_total == {("410", "Expired"): 1, ("200", ""): 1}


async def test_an_error_within_a_watch_is_followed_by_a_list(
    autojump_clock: object, api: ApiDouble, counter: LeaseCounter
) -> None:
    gone = {"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410}
    async with counting(counter):
        await settle()
        api.send(event("ERROR", gone))
        await trio.sleep(1.5)
    assert api.kinds() == ["LIST", "WATCH", "LIST", "WATCH"]


@pytest.mark.parametrize("line", [b"garbage\n", b"[]\n", b"{}\n", b'{"type": 1, "object": {}}\n'])
async def test_garbage_within_a_watch_is_followed_by_a_list(
    autojump_clock: object, api: ApiDouble, counter: LeaseCounter, line: bytes
) -> None:
    async with counting(counter):
        await settle()
        api.send(line)
        await trio.sleep(1.5)
    assert api.kinds() == ["LIST", "WATCH", "LIST", "WATCH"]


async def test_an_object_that_is_no_lease_does_not_matter(
    autojump_clock: object, api: ApiDouble, counter: LeaseCounter
) -> None:
    api.put(lease_object("a"))
    async with counting(counter):
        await settle()
        api.send(event("ADDED", {"metadata": {"name": 5}}))
        api.put(lease_object("b"))
        await settle()
        assert counter.count == 2
    assert api.kinds() == ["LIST", "WATCH"]


async def test_calls_are_counted_with_their_time(
    autojump_clock: object,
    api: ApiDouble,
    counter: LeaseCounter,
    telemetry: AgentTelemetry,
) -> None:
    api.delay = 2
    api.fail("LIST", status(503, "ServiceUnavailable"))
    async with counting(counter):
        await trio.sleep(10)
    assert telemetry.lease_lists_total == {("503", "ServiceUnavailable"): 1, ("200", ""): 1}
    assert telemetry.lease_watches_total == {("200", ""): 1}
    assert telemetry.lease_list_latency_seconds["503"].sum == pytest.approx(2)
    assert telemetry.lease_list_latency_seconds["200"].sum == pytest.approx(2)


@pytest.mark.parametrize("kind", ["LIST", "WATCH"])
async def test_it_can_be_cancelled_at_any_time(
    autojump_clock: object, api: ApiDouble, counter: LeaseCounter, kind: str
) -> None:
    api.hanging = {kind}
    with trio.move_on_after(5):
        await counter.run()
    assert trio.current_time() == pytest.approx(5)
    assert api.kinds()[-1] == kind
