"""When certificates expire, as Prometheus has it. Not in `tunneld.expiry`: a daemon that shows no
metrics does without that library."""

import time
from collections.abc import Iterable

from prometheus_client.metrics_core import Metric

from tunneld.expiry import Row
from tunneld.exposition import Family

EXPIRY = Family(
    "certificate_expiry_seconds",
    "gauge",
    "Seconds until a certificate or revocation list in use expires; negative once it has.",
    ("role", "file", "kind"),
)


def expiry_metric(rows: Iterable[Row], now: float | None = None) -> Metric:
    """``tunneld_certificate_expiry_seconds``: of each file what expires first."""
    now = time.time() if now is None else now
    left: dict[tuple[str, str, str], int | float] = {}
    for row in rows:
        labels = (str(row["role"]), str(row["file"]), str(row["kind"]))
        seconds = float(row["not_after"]) - now
        left[labels] = min(seconds, left.get(labels, seconds))
    return EXPIRY.metric("tunneld_", left)
