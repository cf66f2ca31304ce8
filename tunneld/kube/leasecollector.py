"""Deletes the leases of servers that are gone."""

from typing import TYPE_CHECKING

import structlog
import trio

from tunneld.kube.calls import count, observe
from tunneld.kube.errors import KubeError
from tunneld.kube.lease import Clock, collection_path, listed, object_path, parse_leases, utc_now
from tunneld.telemetry import ServerTelemetry

if TYPE_CHECKING:
    from tunneld.kube.client import KubeClient

log = structlog.get_logger(__name__)

INTERVAL = 15.0
"""Seconds between searches."""


class LeaseCollector:
    """See the module.

    Args:
      selector: finds the leases in question by their labels.
      spared: name of the lease that is never deleted, however old: our own.
    """

    def __init__(
        self,
        client: "KubeClient",
        namespace: str,
        selector: str,
        spared: str,
        telemetry: ServerTelemetry,
        clock: Clock = utc_now,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._collection = collection_path(namespace)
        self._selector = selector
        self._spared = spared
        self._telemetry = telemetry
        self._clock = clock

    async def run(self) -> None:
        """Search at once and each `INTERVAL` from then on, until cancelled."""
        while True:
            await self.collect()
            await trio.sleep(INTERVAL)

    async def collect(self) -> None:
        """Delete the leases of servers that are gone, with our labels."""
        began = trio.current_time()
        try:
            answer = await self._client.get(self._collection, labelSelector=self._selector)
        except KubeError as exc:
            log.warning("leases not listed", error=str(exc))
            self._observe_list(exc, began)
            return
        self._observe_list(None, began)
        for lease in parse_leases(listed(answer)):
            name = lease.metadata.name
            if name != self._spared and not lease.is_valid(self._clock()):
                await self._cull(name, lease.metadata.resource_version)

    async def _cull(self, name: str, version: str) -> None:
        began = trio.current_time()
        try:
            # Of that version only: if it was renewed since, its server lives.
            await self._client.delete(object_path(self._namespace, name), version)
        except KubeError as exc:
            if exc.status not in (404, 409):  # another server was faster, or the lease's own
                log.warning("expired lease not deleted", lease=name, error=str(exc))
            self._observe_delete(exc, began)
            return
        self._telemetry.culled_leases_count += 1
        self._observe_delete(None, began)
        log.info("expired lease deleted", lease=name)

    def _observe_list(self, error: KubeError | None, began: float) -> None:
        count(self._telemetry.lease_list_total, error)
        seconds = trio.current_time() - began
        observe(self._telemetry.lease_list_latency_seconds, error, seconds)

    def _observe_delete(self, error: KubeError | None, began: float) -> None:
        count(self._telemetry.lease_delete_total, error)
        seconds = trio.current_time() - began
        observe(self._telemetry.lease_delete_latency_seconds, error, seconds)
