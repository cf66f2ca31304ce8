"""Leases (``coordination.k8s.io/v1``) as proxy servers hold them: where, what they say, how long.

Each server keeps one alive; agents count those that are valid to know how many servers there are.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeAlias
from urllib.parse import quote

import msgspec
import structlog
from msgspec import Meta, Struct

log = structlog.get_logger(__name__)

API_VERSION = "coordination.k8s.io/v1"
NAME_PREFIX = "konnectivity-proxy-server-"
"""What a server's id follows in the name of its lease."""

Clock: TypeAlias = Callable[[], datetime]
"""Gives the time in UTC; a parameter, so that tests can set it."""

Moment: TypeAlias = Annotated[datetime, Meta(tz=True)]
Seconds: TypeAlias = Annotated[int, Meta(ge=-(2**31), lt=2**31)]


def utc_now() -> datetime:
    return datetime.now(UTC)


class Metadata(Struct, frozen=True, rename="camel"):
    """What is needed of an object's metadata."""

    name: str
    resource_version: str


class LeaseSpec(Struct, frozen=True, rename="camel"):
    """What is needed of a lease's specification."""

    lease_duration_seconds: Seconds | None = None
    acquire_time: Moment | None = None
    renew_time: Moment | None = None


class Lease(Struct, frozen=True):
    """A lease as far as it is needed to tell whether its server lives."""

    metadata: Metadata
    spec: LeaseSpec = LeaseSpec()

    def is_valid(self, now: datetime) -> bool:
        """Whether its holder has renewed it, or at least acquired it, less than its duration ago.

        False if it does not say when, or for how long.
        """
        since = self.spec.renew_time or self.spec.acquire_time
        if since is None or self.spec.lease_duration_seconds is None:
            return False
        return now - since < timedelta(seconds=self.spec.lease_duration_seconds)


def parse_lease(value: object) -> Lease | None:
    """A lease from its JSON object; None, and a warning in the log, if it is none."""
    try:
        return msgspec.convert(value, Lease)
    except msgspec.ValidationError as exc:
        log.warning("lease not understood", error=str(exc))
        return None


def parse_leases(values: Iterable[object]) -> Iterator[Lease]:
    """Those of the JSON objects that are leases."""
    for value in values:
        if (lease := parse_lease(value)) is not None:
            yield lease


def listed(answer: Mapping[str, Any]) -> list[object]:
    """The objects of a list; of an empty one some APIs say null."""
    items = answer.get("items")
    return items if isinstance(items, list) else []


def micro_time(moment: datetime) -> str:
    """A ``MicroTime``, as in ``2006-01-02T15:04:05.000000Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def collection_path(namespace: str) -> str:
    """Where the leases of ``namespace`` are."""
    return f"/apis/{API_VERSION}/namespaces/{quote(namespace, safe='')}/leases"


def object_path(namespace: str, name: str) -> str:
    """Where one lease is."""
    return f"{collection_path(namespace)}/{quote(name, safe='')}"


def parse_labels(text: str) -> dict[str, str]:
    """Labels from ``k=v,k=v``, the value of ``--lease-label``.

    Raises:
      ValueError: it is empty, or a part of it is something else; the text is upstream's.
    """
    if not text:
        raise ValueError("empty string provided")
    labels = {}
    for pair in text.split(","):
        key, equals, value = pair.partition("=")
        if not equals or "=" in value:
            raise ValueError(f"invalid label format: {pair}")
        labels[key.strip()] = value.strip()
    return labels


def selector_of(labels: Mapping[str, str]) -> str:
    """The label selector that finds objects with all of ``labels``."""
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels))
