"""Both halves of what a server does about leases, from its start to its end."""

from functools import partial

import pytest
import trio

from tests.tunneld.kube.apidouble import ApiDouble
from tests.tunneld.kube.samples import LABELS, clock, lease_object
from tunneld.kube.client import KubeClient
from tunneld.kube.leasecontroller import LeaseController
from tunneld.telemetry import ServerTelemetry

PREFIX = "konnectivity-proxy-server-"


@pytest.fixture
def controller(client: KubeClient) -> LeaseController:
    return LeaseController(client, "a", "kube-system", LABELS, ServerTelemetry(), clock)


async def test_the_own_lease_lives_as_long_as_the_controller_and_the_dead_are_buried(
    autojump_clock: object, api: ApiDouble, controller: LeaseController
) -> None:
    api.put(lease_object("dead", -100))
    async with trio.open_nursery() as nursery:
        await nursery.start(controller.run)
        await trio.sleep(100)
        assert list(api.leases) == [f"{PREFIX}a"]
        nursery.cancel_scope.cancel()
    assert api.leases == {}


async def test_it_starts_without_waiting_for_the_api(
    autojump_clock: object, api: ApiDouble, controller: LeaseController
) -> None:
    api.hanging = {"GET", "LIST"}
    async with trio.open_nursery() as nursery:
        await nursery.start(controller.run)
        assert trio.current_time() == 0
        nursery.cancel_scope.cancel()


async def test_two_servers_leave_each_other_s_lease_alone(
    autojump_clock: object, api: ApiDouble, client: KubeClient
) -> None:
    make = partial(LeaseController, client)
    async with trio.open_nursery() as nursery:
        for server in ("a", "b"):
            controller = make(server, "kube-system", LABELS, ServerTelemetry(), clock)
            nursery.start_soon(controller.run)
        await trio.sleep(300)
        assert set(api.leases) == {f"{PREFIX}a", f"{PREFIX}b"}
        assert "DELETE" not in api.kinds()
        nursery.cancel_scope.cancel()
