"""Warns before certificates and revocation lists expire that roles use."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias

import structlog
import trio

from tunneld.events import Event, emit

log = structlog.get_logger(__name__)

WARNING_DAYS = 30
ERROR_DAYS = 7
_LIST_DAYS = 7
"""Of a revocation list, which lasts for 30."""
_DAY = 86400.0
_INTERVAL = 600.0
"""Seconds between two looks; each warning comes once a day."""
_START = 5.0
"""Seconds for roles to start before the first look."""

Row: TypeAlias = Mapping[str, Any]
"""Of a file in use: ``role``, ``key``, ``file``, ``kind``, ``subject``, ``not_after``
(`tunneld.rolerunner.RoleRunner.certificates`)."""


def expiring(rows: Iterable[Row], now: float | None = None) -> list[Row]:
    """Those that expire soon or have, the most urgent first."""
    now = time.time() if now is None else now
    soon = [row for row in rows if _days_left(row, now) < _notice(row)]
    return sorted(soon, key=lambda row: float(row["not_after"]))


async def watch_expiry(certificates: Callable[[], Awaitable[Iterable[Row]]]) -> None:
    """Log what expires soon, at the start and then once a day; until cancelled."""
    told: dict[tuple[str, str, float], float] = {}
    await trio.sleep(_START)
    while True:
        now = time.time()
        for row in expiring(await certificates(), now):
            key = (str(row["role"]), str(row["file"]), float(row["not_after"]))
            if now - told.get(key, 0.0) >= _DAY:
                told[key] = now
                _warn(row, now)
        await trio.sleep(_INTERVAL)


def _warn(row: Row, now: float) -> None:
    days = _days_left(row, now)
    what = "revocation list" if row["kind"] == "crl" else "certificate"
    event = f"{what} expires soon"
    if days < 0:
        event = f"{what} has expired"
    fields = {
        "role": row["role"],
        "key": row["key"],
        "file": row["file"],
        "subject": row["subject"],
    }
    urgent = (days < ERROR_DAYS and row["kind"] != "crl") or days < 1
    level = "error" if urgent else "warning"
    emit(Event.CERTIFICATE_EXPIRES, event, level=level, **fields, days_left=int(days // 1))


def _days_left(row: Row, now: float) -> float:
    return (float(row["not_after"]) - now) / _DAY


def _notice(row: Row) -> int:
    """Days ahead of its expiry that it is told of."""
    return _LIST_DAYS if row["kind"] == "crl" else WARNING_DAYS
