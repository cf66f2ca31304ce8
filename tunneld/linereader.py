"""Lines of text from a child's pipe, each of bounded length."""

from collections.abc import AsyncIterator

import trio

MAX_LINE = 1 << 20
"""Octets of a line; what is longer comes in pieces."""


class LineReader:
    """Reads ``stream`` to its end; octets that are no UTF-8 are escaped."""

    def __init__(self, stream: trio.abc.ReceiveStream, max_line: int = MAX_LINE) -> None:
        self._stream = stream
        self._max_line = max_line
        self._buffer = bytearray()

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) >= self._max_line:
                return self._take(self._max_line, 0)
            data = await self._stream.receive_some(65536)
            if not data:
                if not self._buffer:
                    raise StopAsyncIteration
                return self._take(len(self._buffer), 0)
            self._buffer += data
        return self._take(end, 1)

    def _take(self, length: int, more: int) -> str:
        line = self._buffer[:length].decode("utf-8", "backslashreplace")
        del self._buffer[: length + more]
        return line
