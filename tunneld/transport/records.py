"""Where TLS records end, without decrypting them (RFC 8446 section 5.1)."""

_HEADER_SIZE = 5
"""Octets: content type, legacy version (2), length of what follows (2, big-endian)."""


class RecordTracker:
    """Follows a stream of TLS records, however it is cut."""

    __slots__ = ("_head", "_left")

    def __init__(self) -> None:
        self._head = b""
        """The first octets of a record header that is not complete."""
        self._left = 0
        """Octets of the current record still to come."""

    def follow(self, octets: memoryview) -> None:
        """Take note of the next octets of the stream."""
        size, start = len(octets), self._left
        if self._head:
            missing = _HEADER_SIZE - len(self._head)
            self._head += bytes(octets[:missing])
            if len(self._head) < _HEADER_SIZE:
                return
            start = missing + (self._head[3] << 8 | self._head[4])
            self._head = b""
        while start + _HEADER_SIZE <= size:
            start += _HEADER_SIZE + (octets[start + 3] << 8 | octets[start + 4])
        if start < size:
            self._head, start = bytes(octets[start:]), size
        self._left = start - size

    @property
    def between_records(self) -> bool:
        """Whether the last octets completed a record."""
        return not self._left and not self._head
