"""Deleting the leases of servers that are gone, and counting what the API said."""

import pytest
import trio

from tests.tunneld.kube.apidouble import ApiDouble, Ask, Reply, status
from tests.tunneld.kube.samples import clock, lease_object
from tunneld.kube.client import KubeClient
from tunneld.kube.leasecollector import LeaseCollector
from tunneld.telemetry import ServerTelemetry

PREFIX = "konnectivity-proxy-server-"


@pytest.fixture
def telemetry() -> ServerTelemetry:
    return ServerTelemetry()


@pytest.fixture
def collector(client: KubeClient, telemetry: ServerTelemetry) -> LeaseCollector:
    return LeaseCollector(
        client, "kube-system", "k8s-app=konnectivity-server", f"{PREFIX}own", telemetry, clock
    )


async def test_expired_leases_with_our_labels_are_deleted(
    autojump_clock: object,
    api: ApiDouble,
    collector: LeaseCollector,
    telemetry: ServerTelemetry,
) -> None:
    for lease in (
        lease_object("lives", -29),
        lease_object("dead", -30),
        lease_object("timeless", None),
        lease_object("own", -1000),
        lease_object("foreign", -1000, labels={"k8s-app": "other"}),
    ):
        api.put(lease)
    await collector.collect()
    left = {name.removeprefix(PREFIX) for name in api.leases}
    assert left == {"lives", "own", "foreign"}
    assert api.asks[0].query == {"labelSelector": "k8s-app=konnectivity-server"}
    assert telemetry.culled_leases_count == 2
    assert telemetry.lease_list_total == {("200", ""): 1}
    assert telemetry.lease_delete_total == {("200", ""): 2}


async def test_the_search_is_repeated_each_15_seconds(
    autojump_clock: object, api: ApiDouble, collector: LeaseCollector
) -> None:
    api.fail("LIST", status(500, "InternalError"))
    api.put(lease_object("dead", -5))
    with trio.move_on_after(40):
        await collector.run()
    assert api.times_of("LIST") == pytest.approx([0, 15, 30])
    assert api.times_of("DELETE") == pytest.approx([30])


async def test_a_lease_that_was_renewed_meanwhile_stays(
    autojump_clock: object,
    api: ApiDouble,
    collector: LeaseCollector,
    telemetry: ServerTelemetry,
) -> None:
    def renewed_just_before(ask: Ask) -> Reply | None:
        if ask.kind == "DELETE":
            api.put(lease_object("slow", 0))
        return None

    api.put(lease_object("slow", -40))
    api.trouble.append(renewed_just_before)
    await collector.collect()
    assert f"{PREFIX}slow" in api.leases
    assert telemetry.culled_leases_count == 0
    assert telemetry.lease_delete_total == {("409", "Conflict"): 1}


async def test_a_lease_that_another_server_deleted_first_is_fine(
    autojump_clock: object,
    api: ApiDouble,
    collector: LeaseCollector,
    telemetry: ServerTelemetry,
) -> None:
    api.put(lease_object("dead", -40))
    api.put(lease_object("dead-too", -40))
    api.fail("DELETE", status(404, "NotFound"))
    await collector.collect()
    assert telemetry.culled_leases_count == 1
    assert telemetry.lease_delete_total == {("404", "NotFound"): 1, ("200", ""): 1}


async def test_what_the_api_says_is_counted_by_code_and_reason_with_its_time(
    autojump_clock: object,
    api: ApiDouble,
    collector: LeaseCollector,
    telemetry: ServerTelemetry,
) -> None:
    api.delay = 2
    api.put(lease_object("dead", -40))
    api.fail("LIST", status(403, "Forbidden"))
    api.fail("DELETE", status(500, "InternalError"))
    await collector.collect()
    await collector.collect()
    assert telemetry.lease_list_total == {("403", "Forbidden"): 1, ("200", ""): 1}
    assert telemetry.lease_list_latency_seconds["403"].sum == pytest.approx(2)
    assert telemetry.lease_list_latency_seconds["200"].sum == pytest.approx(2)
    assert telemetry.lease_delete_total == {("500", "InternalError"): 1}
    assert telemetry.lease_delete_latency_seconds["500"].sum == pytest.approx(2)


async def test_an_api_that_does_not_answer_has_no_code_to_count(
    autojump_clock: object,
    api: ApiDouble,
    collector: LeaseCollector,
    telemetry: ServerTelemetry,
) -> None:
    api.down = True
    await collector.collect()
    assert not telemetry.lease_list_total
    assert not telemetry.lease_list_latency_seconds
