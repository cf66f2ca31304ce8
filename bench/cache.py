"""Programs that are built once and kept in ``$XDG_CACHE_HOME/tunneld-bench``."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.errors import BenchError

BUILD_TIMEOUT = 1200
"""Seconds; most of it is for crates and modules that come slowly."""


def cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tunneld-bench"


def built(name: str, sources: Iterable[Path], argv: Sequence[object], directory: Path) -> Path:
    """The directory with what ``argv`` builds from ``sources``.

    Args:
      argv: in it, "OUT" stands for the directory to build into.
      directory: where it is run.
    Raises:
      BenchError: it fails.
    """
    made = hashlib.sha256(repr([str(word) for word in argv]).encode())
    for source in sorted(sources):
        made.update(source.name.encode() + source.read_bytes())
    target = cache_directory() / f"{name}-{made.hexdigest()[:16]}"
    if not target.exists():
        _build(target, [str(word) for word in argv], directory)
    return target


def _build(target: Path, argv: list[str], directory: Path) -> None:
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    unfinished.mkdir(parents=True)
    try:
        done = subprocess.run(
            [word.replace("OUT", str(unfinished)) for word in argv],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"{argv[0]} failed: {(done.stderr or done.stdout)[-1500:].strip()}")
        unfinished.rename(target)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise BenchError(f"cannot build with {argv[0]}: {exc}") from exc
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
