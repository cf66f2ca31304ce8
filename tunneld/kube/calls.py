"""Counting calls of the API for the metrics, by HTTP status code and Kubernetes' reason."""

from collections import Counter

from tunneld.kube.errors import KubeError
from tunneld.telemetry import Histograms


def count(total: Counter[tuple[str, str]], error: KubeError | None) -> None:
    """Count a call that failed with ``error``, or succeeded. As upstream does, leave out those that
    the API did not answer: they have no code."""
    if error is None:
        total["200", ""] += 1
    elif error.status:
        total[str(error.status), error.reason] += 1


def observe(latency: Histograms, error: KubeError | None, seconds: float) -> None:
    """Note how long a call took, unless the API did not answer it."""
    if error is None:
        latency["200"].observe(seconds)
    elif error.status:
        latency[str(error.status)].observe(seconds)
