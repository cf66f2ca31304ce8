"""The Go programs of `peers/`, built once for each state of the module.

They are kept in ``$XDG_CACHE_HOME/tunneld-interop`` (``~/.cache/tunneld-interop``), in a directory
named for what they are made of. The go command takes its settings from the environment as ever;
a toolchain that is older than go.mod asks for fetches a newer one.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.conftest import need

MODULE = Path(__file__).parent / "peers"
BUILD_TIMEOUT = 900
"""Seconds; it takes some 2 minutes on two processors, and longer where modules come slowly."""

OLDEST_GO = (1, 21)
"""The first that fetches the toolchain which go.mod asks for."""


@dataclass(frozen=True)
class Programs:
    """Paths of what was built."""

    server: Path
    """konnectivity's proxy-server."""
    agent: Path
    """konnectivity's proxy-agent."""
    bridge: Path
    """Dials by konnectivity-client: see peers/cmd/bridge."""


class BuildError(Exception):
    """The go command failed; the text is its output."""


def go_programs() -> Programs:
    """What tests run. They are skipped where there is no Go, or not the modules."""
    go = shutil.which("go")
    need(go, "no such program: go (golang-go, version 1.21 or newer)")
    assert go
    version = go_version(go)
    need(version >= OLDEST_GO, f"go is {version[0]}.{version[1]}: 1.21 or newer is needed")
    try:
        return build(go)
    except BuildError as exc:
        need(False, f"the Go module tests/interop/konnectivity/peers cannot be built: {exc}")
        raise


def go_version(go: str) -> tuple[int, int]:
    """Of the installed go command, whatever toolchain it would fetch for a module."""
    done = subprocess.run(
        [go, "version"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GOTOOLCHAIN": "local"},
        cwd="/",
    )
    found = re.search(r"\bgo(\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


@cache
def build(go: str) -> Programs:
    """Build what is not there yet.

    Raises:
      BuildError: it cannot be built.
    """
    directory = cache_directory() / digest()
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _locked(directory.parent / "lock"):
        if not directory.exists():
            _build_into(directory, go)
    return Programs(directory / "server", directory / "agent", directory / "bridge")


def cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tunneld-interop"


def digest() -> str:
    """Of all that the programs are made of, by path and content."""
    made = hashlib.sha256()
    for path in sorted(MODULE.rglob("*")):
        if path.suffix == ".go" or path.name in ("go.mod", "go.sum"):
            made.update(f"{path.relative_to(MODULE)} {path.stat().st_size}\n".encode())
            made.update(path.read_bytes())
    return made.hexdigest()[:16]


def _build_into(directory: Path, go: str) -> None:
    """All programs or none: they are moved to ``directory`` together."""
    unfinished = directory.with_name("unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    done = subprocess.run(
        [go, "build", "-trimpath", "-ldflags=-s -w", "-o", f"{unfinished}/", "./cmd/...", "tool"],
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_TIMEOUT,
        cwd=MODULE,
        env={"GOTOOLCHAIN": "auto", **os.environ},  # Debian's go would not fetch a newer one
    )
    if done.returncode:
        shutil.rmtree(unfinished)
        raise BuildError((done.stderr or done.stdout)[-2000:].strip())
    unfinished.rename(directory)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Several test runs share the cache."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
