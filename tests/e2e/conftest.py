"""Real daemons with real labs, as root and as a plain user, each in a world of its own."""

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import need

if TYPE_CHECKING:
    from tests.e2e.site import Site

TIMEOUT = 60.0
"""Seconds for any one command."""

PRIVATE = "192.168.1.2"
SERVER = "2.2.2.2"


class Daemon:
    """A daemon with a control socket and state directory of its own, and the commands for it."""

    def __init__(self, directory: Path) -> None:
        self.control = directory / "run" / "c.sock"
        self.state = directory / "state"
        self.environment = {
            **os.environ,
            "TUNNELD_CONTROL": str(self.control),
            "TUNNELD_STATE": str(self.state),
            "NO_COLOR": "1",
        }

    def popen(self, argv: list[str]) -> subprocess.Popen[bytes]:
        """Start a command with this daemon's environment; its output is for `running`."""
        return subprocess.Popen(
            argv, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def run(
        self, *argv: str, check: bool = True, stdin: bytes = b"", timeout: float = TIMEOUT
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end."""
        done = subprocess.run(
            argv, env=self.environment, input=stdin, capture_output=True, timeout=timeout
        )
        if check and done.returncode:
            text = (done.stdout + done.stderr).decode(errors="replace")
            raise AssertionError(f"{' '.join(argv)}: exit {done.returncode}\n{text}")
        return done

    def tunneld(self, *argv: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        return self.run(sys.executable, "-m", "tunneld", *argv, **options)

    def ctl(self, *argv: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        return self.run(sys.executable, "-m", "ctl", *argv, **options)

    def ctl_argv(self, *argv: str) -> list[str]:
        return [sys.executable, "-m", "ctl", *argv]

    def json(self, *argv: str) -> Any:
        """What a command prints with ``-o json``."""
        return json.loads(self.ctl(*argv, "-o", "json").stdout)

    def start(self) -> None:
        self.tunneld("start")

    def stop(self) -> None:
        self.tunneld("stop", check=False)

    @property
    def pid(self) -> int:
        return int(json.loads(self.tunneld("status", "-o", "json").stdout)["pid"])


class Lab:
    """A lab of a daemon."""

    def __init__(self, daemon: Daemon, name: str) -> None:
        self.daemon = daemon
        self.name = name

    @property
    def pki(self) -> Path:
        return self.daemon.state / "labs" / self.name / "pki"

    def namespace(self, short: str) -> str:
        return f"{self.name}-{short}"

    def up(self, *argv: str) -> None:
        self.daemon.ctl("ns", "up", "--name", self.name, *argv)

    def down(self) -> None:
        self.daemon.ctl("ns", "down", "--name", self.name)

    def inside(self, short: str, *argv: str) -> list[str]:
        """The command that runs ``argv`` in a namespace."""
        return self.daemon.ctl_argv("ns", "exec", self.namespace(short), "--", *argv)

    def exec(self, short: str, *argv: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        return self.daemon.run(*self.inside(short, *argv), **options)

    def popen(self, short: str, *argv: str) -> subprocess.Popen[bytes]:
        return self.daemon.popen(self.inside(short, *argv))


@contextmanager
def running(process: subprocess.Popen[bytes], ready: bytes) -> Iterator[bytes]:
    """While ``process`` runs, from when it has printed ``ready`` on; gives what it printed."""
    assert process.stdout is not None
    with process:
        try:
            seen = b""
            while not re.search(rb"\b" + re.escape(ready), seen):  # "already in use" is not "ready"
                line = process.stdout.readline()
                assert line, f"ended early: {seen.decode(errors='replace')}"
                seen += line
            yield seen
        finally:
            process.terminate()
            process.stdout.close()


def lab_name() -> str:
    return f"t{os.getpid()}"


@pytest.fixture(scope="session")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for all tests that leave it as it was."""
    daemon = Daemon(tmp_path_factory.mktemp("d"))
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture(scope="session")
def lab(shared_daemon: Daemon) -> Iterator[Lab]:
    """The demo lab, with its roles."""
    lab = Lab(shared_daemon, lab_name())
    done = shared_daemon.ctl("ns", "up", "--name", lab.name, check=False)
    need(b"forbidden" not in done.stderr, "this kernel forbids namespaces to us")
    assert done.returncode == 0, done.stderr.decode()
    yield lab
    lab.down()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon for one test; not started."""
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.stop()


@pytest.fixture
def processes() -> int:
    """Of the site's server."""
    return 1


@pytest.fixture
async def site(tmp_path: Path, processes: int) -> "AsyncIterator[Site]":
    """See `tests.e2e.site`."""
    from tests.e2e.site import open_site  # which needs this module

    async with open_site(tmp_path, processes) as opened:
        yield opened
