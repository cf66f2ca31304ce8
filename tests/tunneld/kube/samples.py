"""Leases as they are in an API, and the time that the tests go by."""

from datetime import UTC, datetime, timedelta
from typing import Any

import trio

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
LABELS = {"k8s-app": "konnectivity-server"}


def clock() -> datetime:
    """`EPOCH` and as many seconds as trio's clock shows: with ``autojump_clock``, from 0 on."""
    return EPOCH + timedelta(seconds=trio.current_time())


def lease_object(
    server: str,
    renewed: float | None = 0,
    *,
    acquired: float | None = None,
    duration: int | None = 30,
    labels: dict[str, str] = LABELS,
) -> dict[str, Any]:
    """A lease of ``server``, renewed so many seconds after `EPOCH`."""
    spec: dict[str, Any] = {"holderIdentity": server, "leaseDurationSeconds": duration}
    for key, seconds in (("renewTime", renewed), ("acquireTime", acquired)):
        if seconds is not None:
            moment = EPOCH + timedelta(seconds=seconds)
            spec[key] = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    metadata = {
        "name": f"konnectivity-proxy-server-{server}",
        "namespace": "kube-system",
        "labels": labels,
        "resourceVersion": "1",
    }
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": spec,
    }
