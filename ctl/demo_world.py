"""Where the demo happens: a daemon of its own, in a directory of its own, beside everything else.

Commands are run as people run them, as processes. They find the daemon by the environment, which
also marks every process that comes of them.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctl import paths
from ctl.messages import Message
from ctl.programs import TUNNELCTL, TUNNELD

COMMAND_TIMEOUT = 90.0
"""Seconds for one command; the longest, building a lab, takes a few."""
_POLL = 0.2
"""Seconds between looks at something that has to become true."""
_LONGEST_QUOTE = 300
"""Characters of a command's complaint that are repeated."""

Say = Callable[[str], None]


class ProofError(Exception):
    """A step did not show what it has to show; the text says what was seen instead."""


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    command: str
    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """What it printed, without space around."""
        return self.out.decode("utf-8", "replace").strip()

    @property
    def complaint(self) -> str:
        """What it said of its failure, on one line, without the hint."""
        lines = [line.strip() for line in self.err.splitlines() if line.strip()]
        starts = [number for number, line in enumerate(lines) if line.startswith("error")]
        if self.error:
            text = f"error[{self.error.get('code')}]: {self.error.get('message')}"
        elif starts:
            text = " ".join(line for line in lines[starts[0] :] if not line.startswith("hint:"))
        else:
            text = "".join(lines[-1:])  # as of a traceback
        return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"

    def require(self, expected: str, holds: bool) -> None:
        """Raise `ProofError` with what was ``expected`` and what came unless it ``holds``."""
        if holds:
            return
        seen = f"exit code {self.code}"
        if self.complaint:
            seen += f", {self.complaint}"
        elif self.text:
            seen += f", {self.text[:_LONGEST_QUOTE]!r}"
        raise ProofError(f"{self.command}: expected {expected}, got {seen}")

    def require_success(self) -> None:
        """Raise `ProofError` unless it exited with 0."""
        self.require("success", self.code == 0)

    def items(self) -> list[Message]:
        """The objects that a command printed with ``-o json``."""
        try:
            return [json.loads(line) for line in self.out.splitlines()]
        except ValueError as exc:
            raise ProofError(f"{self.command}: expected JSON, got {self.text!r}") from exc

    @property
    def error(self) -> Message:
        """The error that a command run with ``-o json`` printed, or an empty map."""
        for line in self.err.splitlines():
            try:
                return dict(json.loads(line)["error"])
            except (ValueError, LookupError, TypeError):
                continue
        return {}


class World:
    """The demo's directory, daemon and lab name."""

    def __init__(self, say: Say) -> None:
        """``say`` gets each command line before it is run."""
        self._say = say
        self.folder = _make_folder()
        self.control = self.folder / "control.sock"
        self.state = self.folder / "state"
        self.lab = f"demo-{os.getpid()}"
        self.environment = {
            paths.CONTROL_VARIABLE: str(self.control),
            paths.STATE_VARIABLE: str(self.state),
        }

    def tunnelctl(self, *arguments: str, data: bytes = b"", quiet: bool = False) -> Done:
        """Run a tunnelctl command with ``data`` on its standard input."""
        return self._run("tunnelctl", [*TUNNELCTL, *arguments], arguments, data, quiet)

    def tunneld(self, *arguments: str, quiet: bool = False) -> Done:
        """Run a tunneld command."""
        return self._run("tunneld", [*TUNNELD, *arguments], arguments, b"", quiet)

    def roles(self) -> list[Message]:
        """The daemon's roles."""
        done = self.tunnelctl("role", "list", "-o", "json", quiet=True)
        done.require_success()
        return list(done.items()[0]["roles"])

    def role(self, kind: str) -> Message:
        """The one role of a kind."""
        found = [role for role in self.roles() if role["kind"] == kind]
        if len(found) != 1:
            raise ProofError(f"expected one role of kind {kind}, got {len(found)}")
        return found[0]

    def address(self, kind: str) -> str:
        """Where the endpoint of that kind listens."""
        addresses = self.role(kind)["addresses"]
        if not addresses:
            raise ProofError(f"the role of kind {kind} listens nowhere")
        return str(addresses[0])

    def remove(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(
        self, name: str, argv: Sequence[str], arguments: Sequence[str], data: bytes, quiet: bool
    ) -> Done:
        command = shlex.join([name, *arguments])
        if not quiet:
            self._say(command.replace(sys.executable, "python3"))
        try:
            done = subprocess.run(
                argv,
                input=data,
                capture_output=True,
                env={**os.environ, **self.environment},
                timeout=COMMAND_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise ProofError(f"{command}: not done after {COMMAND_TIMEOUT:.0f} s") from exc
        return Done(command, done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))


def wait_until(holds: Callable[[], bool], expected: str, timeout: float) -> None:
    """Wait for something to become true.

    Raises:
      ProofError: it did not within ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            raise ProofError(f"expected {expected} within {timeout:.0f} s")
        time.sleep(_POLL)


def _make_folder() -> Path:
    """A directory whose path leaves room for the names of sockets."""
    folder = Path(tempfile.mkdtemp(prefix="tunneld-demo-"))
    if len(os.fsencode(folder)) < paths.MAX_SOCKET_PATH // 2:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="tunneld-demo-", dir="/tmp"))
