"""A server's own lease: got or created, renewed, and deleted in the end."""

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import structlog
import trio

from tunneld.kube.errors import KubeError
from tunneld.kube.lease import (
    API_VERSION,
    NAME_PREFIX,
    Clock,
    collection_path,
    micro_time,
    object_path,
    utc_now,
)

if TYPE_CHECKING:
    from tunneld.kube.client import KubeClient

log = structlog.get_logger(__name__)

DURATION = 30
"""Seconds that a lease is valid after it was renewed."""

RENEW_INTERVAL = 15.0
RENEW_JITTER = 0.04
"""Seconds between renewals, and by what part they may be longer."""

UPDATE_ATTEMPTS = 5
RETRY_MINIMUM, RETRY_MAXIMUM = 0.2, 7.0
"""Seconds between attempts to get or create the lease; they double."""

GOODBYE = 5.0
"""Seconds that deleting the lease may take."""


class OwnLease:
    """See the module; the parameters are those of `LeaseController`."""

    def __init__(
        self,
        client: "KubeClient",
        server_id: str,
        namespace: str,
        labels: Mapping[str, str],
        clock: Clock = utc_now,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.name = f"{NAME_PREFIX}{server_id}"
        self._client = client
        self._server_id = server_id
        self._namespace = namespace
        self._labels = dict(labels)
        self._clock = clock
        self._uniform = uniform
        self._path = object_path(namespace, self.name)
        self._latest: dict[str, Any] | None = None
        self._written = False

    async def keep(self) -> None:
        """Get or create it, and renew it, until cancelled."""
        while True:
            await self._renew()
            await trio.sleep(RENEW_INTERVAL * (1 + self._uniform(0, RENEW_JITTER)))

    async def _renew(self) -> None:
        # Nobody else writes this lease, so it is likely still as we know it: one request, no two.
        if self._latest is not None and await self._update(self._latest):
            return
        lease, created = await self._ensure()
        self._latest = lease
        if not created:
            await self._update(lease)

    async def _update(self, base: dict[str, Any]) -> bool:
        """Renew the lease ``base``, trying several times; whether one of them succeeded."""
        self._written = True
        for attempt in range(1, UPDATE_ATTEMPTS + 1):
            try:
                self._latest = await self._client.update(self._path, self._renewed(base))
                return True
            except KubeError as exc:
                log.warning("lease not renewed", lease=self.name, attempt=attempt, error=str(exc))
                status = exc.status
            if status == 404:
                return False
            if status == 409:
                base, created = await self._ensure()
                self._latest = base
                if created:
                    return True
        return False

    async def _ensure(self) -> tuple[dict[str, Any], bool]:
        """The lease as the API has it, created if it was not there; and whether it was created."""
        delay = RETRY_MINIMUM
        while True:
            try:
                return await self._get_or_create()
            except KubeError as exc:
                log.warning(
                    "lease neither read nor created",
                    lease=self.name,
                    error=str(exc),
                    retry_in=delay,
                )
            await trio.sleep(delay)
            delay = min(2 * delay, RETRY_MAXIMUM)

    async def _get_or_create(self) -> tuple[dict[str, Any], bool]:
        try:
            return await self._client.get(self._path), False
        except KubeError as exc:
            if exc.status != 404:
                raise
        metadata = {"name": self.name, "namespace": self._namespace}
        lease = {"apiVersion": API_VERSION, "kind": "Lease", "metadata": metadata}
        self._written = True
        created = await self._client.create(collection_path(self._namespace), self._renewed(lease))
        log.info("lease created", lease=self.name, namespace=self._namespace)
        return created, True

    def _renewed(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """``base`` as this server wants it, renewed now; what else it holds stays."""
        spec = {
            **_table(base, "spec"),
            "holderIdentity": self._server_id,
            "leaseDurationSeconds": DURATION,
            "renewTime": micro_time(self._clock()),
        }
        return {
            **base,
            "metadata": {**_table(base, "metadata"), "labels": self._labels},
            "spec": spec,
        }

    async def delete(self) -> None:
        """Delete it, if it was ever written. Shielded; takes `GOODBYE` at most."""
        if not self._written:
            return
        with trio.move_on_after(GOODBYE, shield=True) as scope:
            try:
                await self._client.delete(self._path)
                log.info("lease deleted", lease=self.name)
            except KubeError as exc:
                if exc.status != 404:
                    log.warning("own lease not deleted", lease=self.name, error=str(exc))
        if scope.cancelled_caught:
            log.warning("own lease not deleted", lease=self.name, error="the API is too slow")


def _table(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}
