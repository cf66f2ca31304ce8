"""What a server does about leases, as konnectivity's proxy-server: its own, and those left over."""

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import trio

from tunneld.kube.lease import Clock, selector_of, utc_now
from tunneld.kube.leasecollector import LeaseCollector
from tunneld.kube.ownlease import OwnLease
from tunneld.telemetry import ServerTelemetry

if TYPE_CHECKING:
    from tunneld.kube.client import KubeClient


class LeaseController:
    """Tells by a lease that server ``server_id`` lives, and deletes those of servers that do not.

    Args:
      namespace: where the leases are.
      labels: of all servers' leases; agents find them by these.
      uniform: draws a number between two, for the jitter.
    """

    def __init__(
        self,
        client: "KubeClient",
        server_id: str,
        namespace: str,
        labels: Mapping[str, str],
        telemetry: ServerTelemetry,
        clock: Clock = utc_now,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._own = OwnLease(client, server_id, namespace, labels, clock, uniform)
        self._collector = LeaseCollector(
            client, namespace, selector_of(labels), self._own.name, telemetry, clock
        )

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do so until cancelled, and then delete the own lease. No answer of the API ends it."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._own.keep)
                nursery.start_soon(self._collector.run)
                task_status.started()
        finally:
            await self._own.delete()
