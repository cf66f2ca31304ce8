import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ctl import cli
from tests.ctl.fakedaemon import FakeDaemon


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's name."""
    with tempfile.TemporaryDirectory(prefix="ctl-") as path:
        yield Path(path)


@pytest.fixture
def daemon(short_tmp: Path) -> Iterator[FakeDaemon]:
    made = FakeDaemon(short_tmp / "c.sock")
    yield made
    made.close()


@dataclass
class Done:
    """A run that has ended."""

    code: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    """Run a command line against the fake daemon, in this process."""
    monkeypatch.setenv("TUNNELD_CONTROL", str(daemon.path))

    def run(*arguments: str) -> Done:
        code = cli.run(arguments)
        out, err = capfd.readouterr()
        return Done(code, out, err)

    return run


@pytest.fixture
def start(daemon: FakeDaemon) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Start a command line as a process of its own, with pipes, against the fake daemon."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, **options: object) -> "subprocess.Popen[bytes]":
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-m", "ctl", *arguments],
            env={**os.environ, "TUNNELD_CONTROL": str(daemon.path)},
            **{**pipes, **options},  # type: ignore[call-overload]
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()
