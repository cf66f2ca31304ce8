"""What a connection owes to the wire, in order."""

import mmap
from typing import TypeAlias

from frames.frame import HEADER, HEADER_SIZE, Flag

DATA_LIMIT = 1024 * 1024
"""Octets in the buffer above which no more DATA is taken, at most."""
_RESERVE = 16 * 1024
"""Room kept for control frames, so that they fit however much DATA waits."""
_CAPACITY = DATA_LIMIT + _RESERVE
_MAX_SPARE = 4
_END_STREAM = Flag.END_STREAM.value
_NO_VIEW = memoryview(b"")
_pack_header = HEADER.pack_into

Buffer: TypeAlias = bytearray | mmap.mmap

_spare: list[Buffer] = []
"""Buffers given back: a process holds as many as were in use at once, not one for each idle
connection."""


class TransmitBuffer:
    """Frames waiting for the transport. DATA payload can be received straight into it.

    Takes a buffer when the first octet comes and gives it back when all have left.
    """

    __slots__ = ("_buffer", "_view", "length", "limit")

    def __init__(self) -> None:
        self._buffer: Buffer | None = None
        self._view = _NO_VIEW
        self.length = 0
        """Octets waiting."""
        self.limit = DATA_LIMIT
        """Octets above which no more DATA is taken, `DATA_LIMIT` at most; whoever knows the
        transport may lower it."""

    @property
    def room(self) -> int:
        """Octets of DATA payload that fit, its frame header counted off; may be negative."""
        return self.limit - HEADER_SIZE - self.length

    def append(self, octets: bytes) -> None:
        """Add whole control frames; grows the buffer if it must."""
        end = self.length + len(octets)
        if end > len(self._view):
            self._make_room(end)
        self._view[self.length : end] = octets
        self.length = end

    def payload_view(self, size: int) -> memoryview:
        """Where the next DATA frame's payload goes: write up to ``size`` (≤ `room`) octets
        there, then `commit` them."""
        if self._buffer is None:
            self._make_room(_CAPACITY)
        start = self.length + HEADER_SIZE
        return self._view[start : start + size]

    def commit(self, size: int, stream_id: int, end_stream: bool) -> None:
        """Put the header of a DATA frame before ``size`` octets written into `payload_view`."""
        length = self.length
        _pack_header(self._view, length, size << 8, end_stream and _END_STREAM, stream_id)
        self.length = length + HEADER_SIZE + size

    def waiting(self) -> memoryview:
        """All octets that wait; valid until the next call that changes the buffer."""
        return self._view[: self.length]

    def sent(self) -> None:
        """All that `waiting` gave has been taken over by the transport, or nobody wants it."""
        self.length = 0
        buffer = self._buffer
        self._buffer = None
        self._view = _NO_VIEW
        _give_back(buffer)

    def _make_room(self, needed: int) -> None:
        if needed <= _CAPACITY:
            # Mapped, so that of a buffer that never fills only the pages in use cost anything.
            buffer: Buffer = _spare.pop() if _spare else mmap.mmap(-1, _CAPACITY, mmap.MAP_PRIVATE)
        else:
            buffer = bytearray(max(needed, 2 * len(self._view)))
        view = memoryview(buffer)
        view[: self.length] = self._view[: self.length]
        outgrown, self._buffer, self._view = self._buffer, buffer, view
        _give_back(outgrown)


def _give_back(buffer: Buffer | None) -> None:
    """Keep a buffer of the usual size for whoever needs one next."""
    if buffer is not None and len(buffer) == _CAPACITY and len(_spare) < _MAX_SPARE:
        _spare.append(buffer)
