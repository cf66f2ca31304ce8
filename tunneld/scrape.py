"""All metrics of the daemon, gathered when asked: of its roles, wherever they run, of processes,
and its own."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from tunneld import __version__
from tunneld.config import kind_of
from tunneld.role import RoleState
from tunneld.rolemetrics import Metrics
from tunneld.roster import Entry
from tunneld.samples import labelled, metric, text_of
from tunneld.supervisor import Supervisor

TIMEOUT = 5.0
"""Seconds for a role to tell its metrics; without, the others' are shown."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Scrape:
    """See the module.

    Args:
      outdated: how many files could not be reloaded, so that older ones are in use.
    """

    def __init__(self, supervisor: Supervisor, outdated: Callable[[], int]) -> None:
        self._supervisor = supervisor
        self._outdated = outdated

    async def text(self) -> str:
        """In Prometheus' text format 0.0.4."""
        found: Metrics = []
        processes: dict[int, Metrics] = {}
        for role, answer in await self._supervisor.ask_all("metrics", {}, TIMEOUT):
            entry = self._supervisor.roster.find(role)
            if entry is None:  # struck off meanwhile
                continue
            found += labelled(answer["metrics"], _labels(entry, answer))
            where = {"process": _process(entry, answer)}
            processes[answer["in"]["pid"]] = labelled(answer["in"]["metrics"], where)
        for each in processes.values():
            found += each
        found += self._own()
        found.append(_expiry(await self._supervisor.certificates()))
        return text_of(found)

    def _own(self) -> Metrics:
        roster = list(self._supervisor.roster)
        return [
            metric("tunneld_build_info", "gauge", "1.", [({"version": __version__}, 1)]),
            metric(
                "tunneld_role_state",
                "gauge",
                "1 for the state that a role is in, 0 for the others.",
                [
                    ({"role": e.name, "state": str(state)}, int(e.status.state is state))
                    for e in roster
                    for state in RoleState
                ],
            ),
            metric(
                "tunneld_role_restarts_total",
                "counter",
                "Starts of a role after the first, by the daemon itself.",
                [({"role": entry.name}, entry.status.restarts) for entry in roster],
            ),
            metric(
                "tunneld_not_reloaded",
                "gauge",
                "Configurations and roles that go on with older files, since those now there are"
                " unusable.",
                [({}, self._outdated())],
            ),
        ]


def _labels(entry: Entry, answer: dict[str, Any]) -> dict[str, str]:
    labels = {"role": entry.name, "kind": kind_of(entry.config)}
    if entry.config.namespace is not None:
        labels["namespace"] = entry.config.namespace
    if "process" in answer:
        labels["process"] = str(answer["process"])
    return labels


def _process(entry: Entry, answer: dict[str, Any]) -> str:
    """The daemon's own process has no name; those of a namespace its, others their role's."""
    if "process" in answer:
        return f"{entry.name}/{answer['process']}"
    return entry.config.namespace or "tunneld"


def _expiry(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Of each file what expires first."""
    now, left = time.time(), dict[tuple[str, str, str], float]()
    for row in rows:
        key = (str(row["role"]), str(row["file"]), str(row["kind"]))
        seconds = float(row["not_after"]) - now
        left[key] = min(seconds, left.get(key, seconds))
    return metric(
        "tunneld_certificate_expiry_seconds",
        "gauge",
        "Seconds until a certificate or revocation list in use expires; negative once it has.",
        [
            ({"role": role, "file": file, "kind": kind}, seconds)
            for (role, file, kind), seconds in sorted(left.items())
        ],
    )
