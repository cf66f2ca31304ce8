"""The load program as a client of a target: one test, and the JSON lines it prints."""

import json
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.errors import BenchError
from bench.process import wait_until
from bench.targets.base import Target
from bench.world import World

Json = dict[str, Any]
Test = Sequence[object]
"""The load program's test and the options of it."""

_PATIENCE = 20
"""Seconds for a tunnel to come up."""


class LoadClient:
    """A test while it runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def lines(self) -> Iterator[Json]:
        """Those that are still to come."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            yield json.loads(line)

    def go_on(self) -> None:
        """What ``idle`` waits for."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()


@contextmanager
def load_client(world: World, target: Target, test: Test, timeout: float) -> Iterator[LoadClient]:
    """Run a test, for ``timeout`` seconds at most: then it is killed and its lines end."""
    kind, *options = test
    argv = world.network.public(world.load, kind, *target.route(world), *options)
    with (
        world.log(f"{target.name}-client").open("w") as log,
        subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd="/"
        ) as process,
    ):
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            yield LoadClient(process)
        finally:
            timer.cancel()
            process.kill()


def result_of(world: World, target: Target, test: Test, timeout: float) -> Json:
    """The last line of a test that needs no help.

    Raises:
      BenchError: there is none.
    """
    with load_client(world, target, test, timeout) as client:
        lines = list(client.lines())
    if not lines:
        words = world.log(f"{target.name}-client").read_text()[-300:].strip()
        raise BenchError(f"{target.name}: {test[0]} gave no result in {timeout} s: {words}")
    return lines[-1]


def wait_ready(world: World, target: Target) -> None:
    """Until one connection goes through.

    Raises:
      BenchError: none does in time.
    """
    test = ("connect", "--n", 1, "--count", 1, "--secs", 1.5)

    def goes_through() -> bool:
        return bool(result_of(world, target, test, 10).get("done"))

    if not wait_until(goes_through, _PATIENCE, 0.05):
        words = "; ".join(f"{role}: {p.last_words()}" for role, p in target.processes.items())
        raise BenchError(f"{target.name}: no connection goes through; {words}")
