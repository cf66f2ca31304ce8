"""Control messages over a UNIX stream socket: the control connection's and the workers' wire."""

import array
import math
import os
import socket
from collections import deque
from types import TracebackType
from typing import Self

import trio

from ctl.messages import Decoder, FrameError, Message, encode

_CHUNK = 65536
_MAX_DESCRIPTORS = 8
"""Descriptors that wait to be taken, at most; a frame carries one."""
_ANCILLARY = socket.CMSG_SPACE(_MAX_DESCRIPTORS * array.array("i").itemsize)


class FrameStream:
    """Sends and receives whole messages; descriptors may travel along.

    Reads no octet beyond a message, so that a connection can turn into raw bytes behind any.
    """

    def __init__(self, sock: trio.socket.SocketType, frame_timeout: float = math.inf) -> None:
        """Take over ``sock``.

        Args:
          frame_timeout: seconds from a message's first octet to its last.
        """
        self.socket = sock
        self._frame_timeout = frame_timeout
        self._sending = trio.Lock()
        self._cut = False
        self._descriptors: deque[int] = deque()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket, and descriptors that nobody took."""
        self.socket.close()
        while self._descriptors:
            os.close(self._descriptors.popleft())

    async def receive(self) -> Message | None:
        """The next message, or None when the other end is gone. One task at a time.

        Cancelling it in the middle of a message loses that message: close the stream then.

        Raises:
          FrameError: what came is no message, ended in the middle of one, or took too long.
        """
        decoder = Decoder()
        begun = False
        with trio.move_on_after(math.inf) as scope:
            while (message := decoder.next_message()) is None:
                data = await self._read(min(decoder.missing(), _CHUNK))
                if not data and begun:
                    raise FrameError("the stream ended in the middle of a frame")
                if not data:
                    return None
                if not begun:
                    begun = True
                    scope.deadline = trio.current_time() + self._frame_timeout
                decoder.feed(data)
            return message
        raise FrameError(f"a frame was not complete after {self._frame_timeout:g} s")

    async def _read(self, size: int) -> bytes:
        try:
            data, ancillary, _, _ = await self.socket.recvmsg(
                size, _ANCILLARY, socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionError:
            return b""
        for level, kind, value in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._keep(_integers(value))
        return data

    def _keep(self, descriptors: list[int]) -> None:
        """Who sends descriptors that nobody expects must not use up ours."""
        room = _MAX_DESCRIPTORS - len(self._descriptors)
        self._descriptors.extend(descriptors[:room])
        for descriptor in descriptors[room:]:
            os.close(descriptor)

    def take_descriptor(self) -> int | None:
        """The oldest descriptor that came, now the caller's; None if none is left."""
        return self._descriptors.popleft() if self._descriptors else None

    async def send(self, message: Message, descriptor: int | None = None) -> None:
        """Send a message, and a copy of ``descriptor`` with it. Any number of tasks at a time.

        Cancelling it in the middle of the message ends the stream's use for sending.

        Raises:
          FrameError: the message is too large; nothing was sent.
          trio.BrokenResourceError: the other end is gone, or a message was cut off before.
        """
        data = encode(message)
        async with self._sending:
            if self._cut:
                raise trio.BrokenResourceError("an earlier message was cut off")
            self._cut = True
            try:
                await self._write(memoryview(data), descriptor)
            except OSError as exc:
                raise trio.BrokenResourceError(exc.strerror) from exc
            self._cut = False

    async def _write(self, data: memoryview, descriptor: int | None) -> None:
        if descriptor is not None:
            rights = array.array("i", [descriptor])
            sent = await self.socket.sendmsg(
                [data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
            )
            data = data[sent:]
        while data:
            data = data[await self.socket.send(data) :]


def _integers(value: bytes) -> list[int]:
    numbers = array.array("i")
    numbers.frombytes(value[: len(value) - len(value) % numbers.itemsize])
    return list(numbers)
