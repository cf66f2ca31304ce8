"""Orders to a program of ours by its standard input, answers by its output: JSON, one a line."""

import json
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import trio

Answer = dict[str, Any]
Handler = Callable[[dict[str, Any]], Awaitable[Answer]]


async def obey(handlers: Mapping[str, Handler]) -> None:
    """Say that we are there, and answer orders until there are no more."""
    _say({"pid": os.getpid()})
    stdin = trio.lowlevel.FdStream(os.dup(0))
    buffer = b""
    async for data in stdin:
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            _say(await handlers[order.pop("do")](order))


def _say(answer: Answer) -> None:
    print(json.dumps(answer), flush=True)


class Program:
    """Such a program, as who gives the orders has it.

    Args:
      log: takes its standard error.
    """

    def __init__(self, argv: list[str], environment: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                argv,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self._log = log
        self.pid = int(self._answer()["pid"])

    def ask(self, order: str, **arguments: Any) -> Answer:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": order, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        return self._answer()

    def wait_until(
        self, order: str, true: Callable[[Answer], bool], timeout: float = 60.0
    ) -> Answer:
        """Ask until the answer is as it should be.

        Raises:
          TimeoutError: it never is.
        """
        end = time.monotonic() + timeout
        while not true(answer := self.ask(order)):
            if time.monotonic() > end:
                raise TimeoutError(f"{order}: {answer}")
            time.sleep(0.1)
        return answer

    def _answer(self) -> Answer:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        answer: Answer = json.loads(line)
        return answer

    def _ended(self) -> RuntimeError:
        return RuntimeError(f"the program has ended: {self._log.read_text()[-3000:]}")

    def close(self) -> None:
        """End it, whatever it does."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        self._process.stdout.close()
