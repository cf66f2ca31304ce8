"""A server's own lease: what is written to the API, and when."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.tunneld.kube.apidouble import ApiDouble, Ask, Reply, status
from tests.tunneld.kube.samples import LABELS, clock, lease_object
from tunneld.kube.client import KubeClient
from tunneld.kube.ownlease import OwnLease

NAME = "konnectivity-proxy-server-a"


def highest(low: float, high: float) -> float:
    return high


def own_lease(client: KubeClient) -> OwnLease:
    return OwnLease(client, "a", "kube-system", LABELS, clock, highest)


@asynccontextmanager
async def kept(lease: OwnLease) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lease.keep)
        yield
        nursery.cancel_scope.cancel()


async def test_a_new_lease_says_who_holds_it_and_since_when(
    autojump_clock: object, api: ApiDouble, client: KubeClient
) -> None:
    async with kept(own_lease(client)):
        await trio.sleep(1)
    assert api.kinds() == ["GET", "POST"]
    assert api.leases[NAME]["metadata"]["labels"] == LABELS
    assert api.leases[NAME]["spec"] == {
        "holderIdentity": "a",
        "leaseDurationSeconds": 30,
        "renewTime": "2026-01-01T00:00:00.000000Z",
    }


async def test_it_is_renewed_each_15_seconds_and_up_to_4_percent(
    autojump_clock: object, api: ApiDouble, client: KubeClient
) -> None:
    async with kept(own_lease(client)):
        await trio.sleep(50)
    assert api.kinds() == ["GET", "POST", "PUT", "PUT", "PUT"]
    assert api.times_of("PUT") == pytest.approx([15.6, 31.2, 46.8])
    assert api.leases[NAME]["spec"]["renewTime"] == "2026-01-01T00:00:46.800000Z"


async def test_a_lease_of_an_earlier_run_is_taken_over_with_what_others_wrote_into_it(
    autojump_clock: object, api: ApiDouble, client: KubeClient
) -> None:
    earlier = lease_object("a", -100, acquired=-500, duration=5, labels={"old": "label"})
    earlier["metadata"]["annotations"] = {"note": "kept"}
    api.put(earlier)
    async with kept(own_lease(client)):
        await trio.sleep(1)
    assert api.kinds() == ["GET", "PUT"]
    found = api.leases[NAME]
    assert found["metadata"]["labels"] == LABELS
    assert found["metadata"]["annotations"] == {"note": "kept"}
    assert found["spec"]["leaseDurationSeconds"] == 30
    assert found["spec"]["renewTime"] == "2026-01-01T00:00:00.000000Z"
    assert found["spec"]["acquireTime"] == earlier["spec"]["acquireTime"]


async def test_an_api_that_is_down_is_tried_again_ever_more_slowly(
    autojump_clock: object, api: ApiDouble, client: KubeClient
) -> None:
    api.fail("GET", status(500, "InternalError"), times=100)
    async with kept(own_lease(client)):
        await trio.sleep(28)
    times = api.times_of("GET")
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert gaps == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 7, 7])


async def test_the_lease_appears_once_the_api_comes_up(
    autojump_clock: object, api: ApiDouble, client: KubeClient
) -> None:
    api.down = True
    async with kept(own_lease(client)):
        await trio.sleep(60)
        api.down = False
        await trio.sleep(7)
        assert NAME in api.leases


async def test_a_renewal_that_fails_is_tried_five_times_at_once_and_then_anew(
    autojump_clock: object, api: ApiDouble, client: KubeClient
) -> None:
    async with kept(own_lease(client)):
        await trio.sleep(15)
        api.fail("PUT", status(500, "InternalError"), times=5)
        await trio.sleep(1)
    assert api.kinds() == ["GET", "POST", *["PUT"] * 5, "GET", "PUT"]
    assert api.times_of("PUT") == pytest.approx([15.6] * 6)
    assert api.leases[NAME]["spec"]["renewTime"] == "2026-01-01T00:00:15.600000Z"


async def test_a_conflict_has_the_lease_read_again(
    autojump_clock: object, api: ApiDouble, client: KubeClient
) -> None:
    async with kept(own_lease(client)):
        await trio.sleep(15)
        touched = api.leases[NAME]
        touched["metadata"]["annotations"] = {"by": "another"}
        api.put(touched)
        await trio.sleep(1)
        assert api.kinds() == ["GET", "POST", "PUT", "GET", "PUT"]
        assert api.leases[NAME]["metadata"]["annotations"] == {"by": "another"}
        await trio.sleep(16)
    assert api.kinds()[5:] == ["PUT"]


async def test_a_lease_that_somebody_deleted_is_created_again(
    autojump_clock: object, api: ApiDouble, client: KubeClient
) -> None:
    async with kept(own_lease(client)):
        await trio.sleep(15)
        api.remove(NAME)
        await trio.sleep(1)
    assert api.kinds() == ["GET", "POST", "PUT", "GET", "POST"]
    assert NAME in api.leases


async def test_a_lease_deleted_amid_a_conflict_is_created_and_not_renewed_at_once(
    autojump_clock: object, api: ApiDouble, client: KubeClient
) -> None:
    def conflict_and_delete(ask: Ask) -> Reply | None:
        if ask.kind != "PUT":
            return None
        api.remove(NAME)
        return status(409, "Conflict")

    async with kept(own_lease(client)):
        await trio.sleep(15)
        api.trouble.append(conflict_and_delete)
        await trio.sleep(1)
    assert api.kinds() == ["GET", "POST", "PUT", "GET", "POST"]


async def test_a_lease_that_another_created_meanwhile_is_taken_over(
    autojump_clock: object, api: ApiDouble, client: KubeClient
) -> None:
    def not_yet_there(ask: Ask) -> Reply | None:
        api.put(lease_object("a"))
        return status(404, "NotFound")

    api.trouble.append(not_yet_there)
    async with kept(own_lease(client)):
        await trio.sleep(1)
    assert api.kinds() == ["GET", "POST", "GET", "PUT"]


async def test_an_api_that_does_not_answer_a_renewal_is_asked_again_after_its_time(
    autojump_clock: object, api: ApiDouble, client: KubeClient
) -> None:
    async with kept(own_lease(client)):
        await trio.sleep(15)
        api.hanging = {"PUT"}
        await trio.sleep(6)
        api.hanging = set()
        await trio.sleep(5)
    assert api.times_of("PUT") == pytest.approx([15.6, 25.6])


async def test_the_lease_is_deleted_in_the_end(api: ApiDouble, client: KubeClient) -> None:
    lease = own_lease(client)
    async with kept(lease):
        await trio.testing.wait_all_tasks_blocked()
    await lease.delete()
    assert api.kinds() == ["GET", "POST", "DELETE"]
    assert api.leases == {}


async def test_a_lease_that_is_gone_in_the_end_is_fine(api: ApiDouble, client: KubeClient) -> None:
    lease = own_lease(client)
    async with kept(lease):
        await trio.testing.wait_all_tasks_blocked()
    api.remove(NAME)
    await lease.delete()


async def test_nothing_is_deleted_where_nothing_was_written(
    autojump_clock: object, api: ApiDouble, client: KubeClient
) -> None:
    api.fail("GET", status(403, "Forbidden"), times=100)
    lease = own_lease(client)
    async with kept(lease):
        await trio.sleep(5)
    await lease.delete()
    assert "DELETE" not in api.kinds()


async def test_a_lease_whose_creation_was_not_answered_is_deleted_all_the_same(
    autojump_clock: object, api: ApiDouble, client: KubeClient
) -> None:
    api.hanging = {"POST"}
    lease = own_lease(client)
    async with kept(lease):
        await trio.sleep(5)
    await lease.delete()
    assert api.kinds() == ["GET", "POST", "DELETE"]


@pytest.mark.parametrize("trouble", ["hangs", "refuses", "is down"])
async def test_the_goodbye_takes_five_seconds_at_most(
    autojump_clock: object, api: ApiDouble, client: KubeClient, trouble: str
) -> None:
    lease = own_lease(client)
    async with kept(lease):
        await trio.sleep(1)
    if trouble == "hangs":
        api.hanging = {"DELETE"}
    elif trouble == "refuses":
        api.fail("DELETE", status(403, "Forbidden"))
    else:
        api.down = True
    with trio.CancelScope() as scope:
        scope.cancel()
        await lease.delete()
    assert trio.current_time() == pytest.approx(6 if trouble == "hangs" else 1)
