"""Runs checks beside each other, so that none of them keeps the others from being reported.

Each has a daemon thread: a look-up that hangs in the C library cannot be cancelled, and must not
keep the program from ending either.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tunneld.doctor.finding import Finding, failed

PATIENCE = 30.0
"""Seconds for all checks together."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Check:
    """A check to run."""

    name: str
    """Of the finding that stands for it if it fails altogether."""
    subject: str
    run: Callable[[], Iterable[Finding]]


class _Running:
    """A check in its thread, and what it has found so far."""

    def __init__(self, check: Check) -> None:
        self.check = check
        self._found: list[Finding] = []
        self._thread = threading.Thread(target=self._run, daemon=True, name=check.name)
        self._thread.start()

    def _run(self) -> None:
        try:
            for finding in self.check.run():
                self._found.append(finding)
        except Exception as exc:  # a fault of this check alone
            text = f"the check itself failed: {type(exc).__name__}: {exc}"
            self._found.append(failed(self.check.name, text, "please report this"))

    def findings(self, deadline: float) -> Iterator[Finding]:
        self._thread.join(max(0.0, deadline - time.monotonic()))
        stuck = self._thread.is_alive()
        for finding in list(self._found):
            yield finding.of(self.check.subject)
        if stuck:
            text = "the check does not end; it was given up"
            yield failed(self.check.name, text, "see what it tries to reach").of(self.check.subject)


def run_checks(checks: Sequence[Check], patience: float = PATIENCE) -> Iterator[Finding]:
    """Run all at once; their findings in the order of the checks."""
    deadline = time.monotonic() + patience
    for running in [_Running(check) for check in checks]:
        yield from running.findings(deadline)


def in_time(act: Callable[[], T], timeout: float) -> T:
    """What ``act`` returns or raises, if it does so in time; otherwise it is left to itself.

    Raises:
      TimeoutError: it did not.
    """
    outcome: queue.SimpleQueue[T | _Failure] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put(act())
        except Exception as exc:
            outcome.put(_Failure(exc))

    threading.Thread(target=run, daemon=True).start()
    try:
        found = outcome.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError(f"no answer in {timeout:g} s") from None
    if isinstance(found, _Failure):
        raise found.error
    return found


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception
