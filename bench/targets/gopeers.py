"""chisel and frp, from the Go module in bench/peers."""

import re
import shutil
from pathlib import Path

from bench.cache import built
from bench.errors import BenchError

MODULE = Path(__file__).parents[1] / "peers"


def build_peers() -> Path:
    """The directory with the programs.

    Raises:
      BenchError: there is no Go, or they cannot be built.
    """
    go = shutil.which("go")
    if not go:
        raise BenchError("no Go to build it with")
    sources = [MODULE / "go.mod", MODULE / "go.sum"]
    argv = [go, "build", "-trimpath", "-ldflags=-s -w", "-o", "OUT/", "tool"]
    return built("peers", sources, argv, MODULE)


def module_version(path: str) -> str:
    found = re.search(rf"{re.escape(path)} (v\S+)", (MODULE / "go.mod").read_text())
    return found[1] if found else "unknown"
