"""How many servers there are, as an agent tells by the leases that they hold."""

import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import structlog
import trio

from tunneld.backoff import Backoff
from tunneld.kube.calls import count, observe
from tunneld.kube.errors import KubeError
from tunneld.kube.lease import (
    Clock,
    Lease,
    collection_path,
    listed,
    parse_lease,
    parse_leases,
    utc_now,
)
from tunneld.telemetry import AgentTelemetry

if TYPE_CHECKING:
    from tunneld.kube.body import Event, Watch
    from tunneld.kube.client import KubeClient

log = structlog.get_logger(__name__)

SILENCE = 20.0
"""Seconds without an event after which a watch is taken for dead while any lease is valid: each of
those is renewed every 15 to 15.6 seconds."""

IDLE_SILENCE = 300.0
"""The same while none is valid: only bookmarks come then, about one a minute."""

WATCH_MINIMUM, WATCH_MAXIMUM = 300, 600
"""Seconds after which the API shall end a watch, drawn anew for each so that not all agents list at
once; as client-go does."""

RETRY_MINIMUM, RETRY_MAXIMUM = 1.0, 30.0
STEADY = 10.0
"""Seconds between rounds, growing; and how long a round must have lasted to start over."""


class LeaseCounter:
    """Lists and watches the leases of servers.

    Args:
      selector: a label selector, passed on to the API as it is.
      uniform: draws a number between two.
    """

    def __init__(
        self,
        client: "KubeClient",
        namespace: str,
        selector: str,
        telemetry: AgentTelemetry,
        clock: Clock = utc_now,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._client = client
        self._path = collection_path(namespace)
        self._selector = selector
        self._telemetry = telemetry
        self._clock = clock
        self._uniform = uniform
        self._leases: dict[str, Lease] = {}
        self._watching = False
        self._last_good = 1

    @property
    def count(self) -> int:
        """Servers there are now, at least 1.

        While the API cannot be asked, what the last news from it told; 1 before any.
        """
        return self._count_valid() if self._watching else self._last_good

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Count until cancelled; no answer of the API ends it.

        Started once the first list has come or failed, so within the client's time limit.
        """
        backoff = Backoff(RETRY_MINIMUM, RETRY_MAXIMUM, self._uniform)
        started = False
        while True:
            began = trio.current_time()
            version = await self._list()
            if not started:
                started = True
                task_status.started()
            if version is not None:
                await self._watch(version)
            if trio.current_time() - began >= STEADY:
                backoff.reset()
            await trio.sleep(backoff.next_delay())

    async def _list(self) -> str | None:
        """Take stock; the version to watch from, or None if that failed."""
        began = trio.current_time()
        error = None
        version = None
        try:
            answer = await self._client.get(self._path, labelSelector=self._selector)
        except KubeError as exc:
            error = exc
            log.warning("leases not listed", error=str(exc), servers=self.count)
        else:
            version = _version(answer)
            self._take(parse_leases(listed(answer)))
        count(self._telemetry.lease_lists_total, error)
        observe(self._telemetry.lease_list_latency_seconds, error, trio.current_time() - began)
        return version

    async def _watch(self, version: str) -> None:
        """Follow what becomes of the leases, until that breaks off or falls silent."""
        seconds = round(self._uniform(WATCH_MINIMUM, WATCH_MAXIMUM))
        self._watching = True
        opened = False
        try:
            async with self._client.watch(
                self._path,
                labelSelector=self._selector,
                resourceVersion=version,
                allowWatchBookmarks="true",
                timeoutSeconds=str(seconds),
            ) as watch:
                opened = True
                count(self._telemetry.lease_watches_total, None)
                await self._follow(watch)
        except KubeError as exc:
            if not opened:
                count(self._telemetry.lease_watches_total, exc)
            log.info("watch of leases ended", error=str(exc))
        finally:
            self._watching = False

    async def _follow(self, watch: "Watch") -> None:
        while True:
            silence = SILENCE if self._any_valid() else IDLE_SILENCE
            with trio.move_on_after(silence) as scope:
                event = await watch.receive()
            if scope.cancelled_caught:
                log.info("watch of leases is silent", seconds=silence)
                return
            if event is None:
                return
            self._apply(event)

    def _apply(self, event: "Event") -> None:
        if event.type == "BOOKMARK" or (lease := parse_lease(event.object)) is None:
            return
        if event.type == "DELETED":
            self._leases.pop(lease.metadata.name, None)
        else:
            self._leases[lease.metadata.name] = lease
        self._note()

    def _take(self, leases: Iterable[Lease]) -> None:
        self._leases = {lease.metadata.name: lease for lease in leases}
        self._note()

    def _note(self) -> None:
        """News has come from the API: what it tells is good."""
        now = self._count_valid()
        if now != self._last_good:
            log.info("servers counted by their leases", servers=now, before=self._last_good)
        self._last_good = now

    def _any_valid(self) -> bool:
        now = self._clock()
        return any(lease.is_valid(now) for lease in self._leases.values())

    def _count_valid(self) -> int:
        now = self._clock()
        return max(1, sum(lease.is_valid(now) for lease in self._leases.values()))


def _version(answer: dict[str, Any]) -> str:
    """The version of a whole list; "" watches from any, which is no worse than what follows."""
    metadata = answer.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return version if isinstance(version, str) else ""
