"""The programs of `netns`, run as children: they do what the daemon must not do to itself.

They speak JSON lines (`netns.program`): items, then one result or error.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import structlog
import trio

from ctl.messages import ControlError, Message
from tunneld.child import Child, describe_status
from tunneld.linereader import LineReader

log = structlog.get_logger(__name__)

EXIT_GRACE = 10.0
"""Seconds for a program to end, or to take back what it did, when its stdin has ended."""

Emit: TypeAlias = Callable[[Message], Awaitable[None]]
"""Takes the items of a program, or of a whole operation, as they come."""


class LabProgram:
    """One run of a program; `close` it whatever happens."""

    def __init__(self, argv: Sequence[str]) -> None:
        """Start it.

        Raises:
          ControlError: it cannot be executed.
        """
        try:
            self._child = Child.spawn(argv, talks=True)
        except OSError as exc:
            raise ControlError("failed", f"cannot execute {argv[0]}: {exc.strerror}") from exc
        assert self._child.stdout is not None
        assert self._child.stderr is not None
        self._stderr = self._child.stderr
        self._lines = LineReader(self._child.stdout)

    @property
    def pid(self) -> int:
        return self._child.pid

    async def request(self, line: bytes) -> None:
        """Write to its stdin, which stays open."""
        assert self._child.stdin is not None
        try:
            await self._child.stdin.send_all(line)
        except trio.BrokenResourceError:
            pass  # it has ended already; `result` finds out why

    async def result(self, emit: Emit) -> Message:
        """Pass its items on until its result.

        Raises:
          ControlError: its error, or it ended without any result.
          trio.BrokenResourceError: ``emit`` raised it.
        """
        answer: Message = {}
        gone: trio.BrokenResourceError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._log_stderr)
            try:
                answer = await self._answer(emit)
            except trio.BrokenResourceError as exc:  # raised again outside, bare
                gone = exc
            nursery.cancel_scope.cancel()
        if gone is not None:
            raise gone
        if "error" in answer:
            raise ControlError.from_map(answer["error"])
        result: Message = answer["result"]
        return result

    async def wait(self) -> int:
        """Wait for its end; the exit status."""
        return await self._child.wait()

    async def close(self) -> None:
        """End its stdin, then give it some time to end; shielded from cancellation."""
        with trio.CancelScope(shield=True):
            if self._child.stdin is not None:
                await self._child.stdin.aclose()
            await self._child.finish(EXIT_GRACE)

    async def _answer(self, emit: Emit) -> Message:
        async for line in self._lines:
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            match message:
                case {"item": dict(item)}:
                    await emit(item)
                case {"result": dict()} | {"error": dict()}:
                    return dict(message)
                case _:
                    error = ControlError("internal", f"a lab program said {line[:200]!r}")
                    return {"error": error.to_map()}
        status = describe_status(await self._child.wait())
        error = ControlError(
            "failed", f"a lab program ended without result: {status}", "see the daemon's log"
        )
        return {"error": error.to_map()}

    async def _log_stderr(self) -> None:
        async for line in LineReader(self._stderr):
            log.warning("lab program says", text=line)
