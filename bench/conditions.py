"""What the figures depend on, put down beside them."""

import os
import platform
import ssl
import statistics
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

from bench.results import Result
from bench.targets.base import Target
from bench.targets.ours import CHECKOUT, revision


def conditions(targets: Mapping[str, Target]) -> dict[str, object]:
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": revision(CHECKOUT),
        "processors": f"{os.cpu_count()} x {_processor()}",
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": f"Linux {platform.release().partition('-')[0]}",
        "congestion": _read("/proc/sys/net/ipv4/tcp_congestion_control"),
        "python": platform.python_version(),
        "trio": version("trio"),
        "openssl": ssl.OPENSSL_VERSION,
        "targets": {name: [each.version(), each.security] for name, each in targets.items()},
    }


def busy_elsewhere(results: Iterable[Result]) -> float:
    """How many processors were busy with other things, the mean over the tests."""
    found = [each.values["elsewhere"] for each in results if "elsewhere" in each.values]
    return round(statistics.fmean(found), 2) if found else 0.0


def _processor() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "unknown"
