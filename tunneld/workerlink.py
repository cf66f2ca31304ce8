"""What supervisor and worker say to each other, over a socketpair in control frames.

The supervisor requests, the worker answers:

    start {config}              {}          the role's table, as in the configuration file
    stop  {name, timeout}       {}          when the role has drained (`RoleRunner.stop`)
    rows  {kind}                {rows}      kind: "certificates"
    reload {config, apply}      {changes}   `RoleRunner.reload`
    ask   {name, method, params}  as the role answers it (`Role.ask`)
    dial  {name, host, port, reply}  {}     with the client's socket as a descriptor; ``reply`` is
                                            the message to send on it when the connection stands

Unasked, with id 0, the worker says

    {item: {role, status}}      a role's new status
    {item: {role, log}}         a log line; role may be null
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from ctl.messages import ControlError, FrameError, Message
from tunneld.framestream import FrameStream


def gone() -> ControlError:
    """The failure of a call whose worker is no more."""
    return ControlError("failed", "the worker has ended", "see: tunnelctl role list")


@dataclass(slots=True)
class _Pending:
    done: trio.Event = field(default_factory=trio.Event)
    reply: Message = field(default_factory=dict)


class WorkerLink:
    """The supervisor's end of the line to one worker."""

    def __init__(self, frames: FrameStream, on_item: Callable[[Message], None]) -> None:
        self._frames = frames
        self._on_item = on_item
        self._pending: dict[int, _Pending] = {}
        self._last_id = 0
        self._ended = False

    async def run(self) -> None:
        """Take what the worker says until it is gone, which fails all calls.

        Raises:
          FrameError: it says what cannot be understood.
        """
        try:
            while (message := await self._frames.receive()) is not None:
                self._take(message)
        finally:
            self._ended = True
            for pending in self._pending.values():
                pending.reply = {"error": gone().to_map()}
                pending.done.set()

    async def call(
        self, method: str, params: dict[str, Any], sock: socket.socket | None = None
    ) -> Message:
        """Ask the worker, with a copy of ``sock``, and wait for the answer.

        Raises:
          ControlError: the worker's refusal, or it is gone.
        """
        if self._ended:
            raise gone()
        self._last_id += 1
        number = self._last_id
        pending = self._pending[number] = _Pending()
        try:
            await self._send({"id": number, "method": method, "params": params}, sock)
            await pending.done.wait()
        finally:
            del self._pending[number]
        if "error" in pending.reply:
            raise ControlError.from_map(pending.reply["error"])
        result: Message = pending.reply.get("result") or {}
        return result

    async def _send(self, request: Message, sock: socket.socket | None) -> None:
        try:
            await self._frames.send(request, None if sock is None else sock.fileno())
        except FrameError as exc:
            raise ControlError("bad_request", f"the request is too large: {exc}") from exc
        except trio.BrokenResourceError as exc:
            raise gone() from exc

    def _take(self, message: Message) -> None:
        if message.get("id") == 0:
            self._on_item(message)
            return
        pending = self._pending.get(message.get("id", -1))
        if pending is not None:  # a caller that was cancelled waits no more
            pending.reply = message
            pending.done.set()
