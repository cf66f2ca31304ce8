"""The lab's programs as subprocesses, and labs that leave nothing behind."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Self

from netns import Mode, Topology, down_argv, enter_argv, read_lab, up_argv, up_request
from netns.mark import token_of
from netns.places import ETC, NAMED, namespace_inode

Message = dict[str, Any]

_WITHOUT_CAPABILITIES = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
for capability in range(64):
    if capability != 31:  # CAP_SETFCAP: user_namespaces(7) wants it of who maps user 0
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.argv[1], sys.argv[1:])
"""

PLAIN: tuple[str, ...] = (sys.executable, "-c", _WITHOUT_CAPABILITIES) if os.geteuid() == 0 else ()
"""What to put before a program to run it as a plain user would: root almost without capabilities is
one, and can read this interpreter wherever it is installed."""

TIMEOUT = 30.0
"""Seconds for any program here to end; they take less than one."""

_numbers = count()


class Program:
    """A program, read line by line; as a context manager killed at the end."""

    def __init__(self, argv: Sequence[str], request: bytes = b"", end: bool = False) -> None:
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._output = self._process.stdout
        self._process.stdin.write(request)
        self._process.stdin.flush()
        if end:
            self._process.stdin.close()
            self._process.stdin = None
        _started.append(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    def messages(self) -> Iterator[Message]:
        """What it says, until its result or error, or its end."""
        for line in self._output:
            message: Message = json.loads(line)
            yield message
            if "item" not in message:
                return

    def last(self) -> Message:
        """The result or error."""
        return list(self.messages())[-1]

    def failure(self) -> Message:
        """The error it ends with."""
        error: Message = self.last()["error"]
        assert self.close() == (1, "")
        return error

    def wait_for_line(self) -> None:
        """Return once it has written a line."""
        assert self._output.readline()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it by SIGKILL, if it runs."""
        self._process.kill()
        self._process.communicate()

    def close(self) -> tuple[int, str]:
        """End its stdin; its exit status and what it wrote to stderr."""
        _, errors = self._process.communicate(timeout=TIMEOUT)
        return self._process.returncode, errors.decode()


_started: list[Program] = []


def kill_started() -> None:
    """Kill every program that was started and still runs."""
    while _started:
        _started.pop().kill()


@dataclass(frozen=True)
class Site:
    """A directory for one lab, a name that no other test uses, and who works on it."""

    directory: Path
    name: str
    prefix: tuple[str, ...] = ()
    """Before the command line of a program."""

    python: ClassVar[str] = sys.executable

    @property
    def mode(self) -> Mode:
        """What its builder chooses."""
        return Mode.ROOT if os.geteuid() == 0 and not self.prefix else Mode.ROOTLESS

    def up_argv(self) -> list[str]:
        return [*self.prefix, *up_argv(self.directory)]

    def request(self, topology: Topology) -> bytes:
        return up_request(self.name, topology)

    def up(self, topology: Topology) -> Program:
        """Start the builder."""
        return Program(self.up_argv(), self.request(topology))

    def down(self) -> Message:
        """Take the lab down; the last message."""
        program = Program([*self.prefix, *down_argv(self.directory)])
        message = program.last()
        program.close()
        return message

    def enter_argv(self, namespace: str, *command: str, sysfs: bool = False) -> list[str]:
        lab = read_lab(self.directory)
        assert lab is not None
        return [*self.prefix, *enter_argv(lab, namespace, sysfs=sysfs), *command]

    def run(
        self, namespace: str, *command: str, **options: Any
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command inside; ``options`` are of `subprocess.run`."""
        argv = self.enter_argv(namespace, *command)
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=TIMEOUT, check=False, **options
        )

    def shell(self, namespace: str, script: str) -> str:
        """The output of a Python script inside that must succeed."""
        done = self.run(namespace, sys.executable, "-c", script)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def spawn(self, namespace: str, script: str) -> Program:
        """Start a Python script inside."""
        return Program(self.enter_argv(namespace, sys.executable, "-c", script))

    def remains(self) -> list[str]:
        """What of the lab is left outside of its directory, or in it."""
        return [
            *(f"namespace {name}" for name in _names_in(NAMED) if self._is_mine(name)),
            *(f"etc {name}" for name in _names_in(ETC) if self._is_mine(name)),
            *(f"process {pid}" for pid in self._processes()),
            *(f"file {name}" for name in _names_in(self.directory)),
        ]

    def _is_mine(self, name: str) -> bool:
        return name.startswith(f"{self.name}-") or token_of(self.directory) in name

    def _processes(self) -> Iterator[int]:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            if os.fsencode(self.directory) in words:
                yield int(path.parent.name)


def new_site(directory: Path, prefix: tuple[str, ...] = ()) -> Site:
    """A site under ``directory``."""
    name = f"t{os.getpid()}n{next(_numbers)}"
    return Site((directory / name).resolve(), name, prefix)


@dataclass(frozen=True)
class ForeignNamespace:
    """A named namespace that no lab made."""

    name: str
    inode: int | None

    def stands(self) -> bool:
        return self.inode is not None and namespace_inode(NAMED / self.name) == self.inode


_MAKE = """
import sys
from netns import kernel
kernel.unshare(kernel.CLONE_NEWNET)
kernel.mount("/proc/self/ns/net", sys.argv[1], "none", kernel.MS_BIND)
"""


@contextmanager
def foreign_namespace(name: str) -> Iterator[ForeignNamespace]:
    """Make one as `ip netns add` does, and remove it."""
    folder = not NAMED.exists()
    path = NAMED / name
    path.parent.mkdir(exist_ok=True)
    path.touch(exist_ok=False)
    subprocess.run([sys.executable, "-c", _MAKE, str(path)], check=True)
    try:
        yield ForeignNamespace(name, namespace_inode(path))
    finally:
        subprocess.run(["umount", str(path)], check=False)
        path.unlink()
        if folder:
            _remove_if_empty(path.parent)


def _remove_if_empty(folder: Path) -> None:
    if not _names_in(folder):
        subprocess.run(["umount", str(folder)], check=False, capture_output=True)
        folder.rmdir()


def _names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()] if directory.is_dir() else []
