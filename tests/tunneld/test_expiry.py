"""When certificates expire, and who is told."""

import time
from typing import Any

import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from tunneld.expiry import expiring, watch_expiry

DAY = 86400.0
NOW = 1_800_000_000.0


def row(file: str, days: float, kind: str = "cert", now: float = NOW) -> dict[str, Any]:
    return {
        "role": "edge",
        "key": "tunnel.cert",
        "file": file,
        "kind": kind,
        "subject": "server",
        "not_after": now + days * DAY,
    }


def test_certificates_are_told_of_30_days_ahead_and_lists_7() -> None:
    rows = [
        row("far", 31),
        row("near", 29),
        row("late", -1),
        row("good", 8, "crl"),
        row("old", 6, "crl"),
        row("ca", 29, "ca"),
    ]
    assert [each["file"] for each in expiring(rows, NOW)] == ["late", "old", "near", "ca"]


async def test_warnings_come_at_the_start_and_get_louder(autojump_clock: MockClock) -> None:
    now = time.time()
    rows = [
        row("near", 29, now=now),
        row("urgent", 6, now=now),
        row("late", -2, now=now),
        row("list", 5, "crl", now=now),
    ]

    async def certificates() -> list[dict[str, Any]]:
        return rows

    with capture_logs() as lines, trio.move_on_after(3 * 3600):
        await watch_expiry(certificates)
    assert [(line["event"], line["log_level"], line["file"]) for line in lines] == [
        ("certificate has expired", "error", "late"),
        ("revocation list expires soon", "warning", "list"),
        ("certificate expires soon", "error", "urgent"),
        ("certificate expires soon", "warning", "near"),
    ]
    assert lines[-1]["days_left"] == 28
