"""gRPC messages in the octets of a stream: a flag, a length, the message."""

import struct
from collections.abc import Callable

from frames.grpcstatus import GrpcError, Status
from frames.streamids import Role

MAX_MESSAGE = 4 << 20
"""Octets that a message may have, its prefix not counted."""

_PREFIX = struct.Struct(">BI")
"""Flag (1: compressed), length of the message in octets."""
PREFIX_SIZE = _PREFIX.size

_COMPRESSED = 1


def prefix(size: int) -> bytes:
    """What stands before a message of ``size`` octets; never compressed."""
    return _PREFIX.pack(0, size)


class MessageReader:
    """Cuts the octets of a stream, as they come, into messages."""

    def __init__(
        self,
        on_message: Callable[[memoryview], None],
        limit: int = MAX_MESSAGE,
        *,
        encoding: bytes = b"",
        role: Role = Role.SERVER,
    ) -> None:
        """
        Args:
          on_message: gets each message, as a view that is valid for the call only.
          limit: octets of the longest message.
          encoding: the peer's ``grpc-encoding``. It and our role only decide what a compressed
            message is refused with.
        """
        self._on_message = on_message
        self._limit = limit
        self._encoding = encoding
        self._role = role
        self._partial = bytearray()
        """The beginning of a message, with its prefix, that is not complete."""

    @property
    def empty(self) -> bool:
        """Whether the octets so far end with a message."""
        return not self._partial

    def feed(self, octets: memoryview) -> None:
        """Take in what came on the stream.

        A message that is whole in ``octets`` is not copied.
        Raises:
          GrpcError: RESOURCE_EXHAUSTED for a message over the limit, INTERNAL or UNIMPLEMENTED
            for a compressed one; as soon as its prefix has come. The reader is of no use any more.
        """
        pos, end = 0, len(octets)
        while self._partial and pos < end:
            pos += self._complete(octets[pos:])
        while end - pos >= PREFIX_SIZE:
            body = pos + PREFIX_SIZE
            stop = body + self._parse_prefix(octets, pos)
            if stop > end:
                break
            pos = stop
            self._on_message(octets[body:stop])
        if pos < end:
            self._partial += octets[pos:]

    def _complete(self, octets: memoryview) -> int:
        """Add to the partial message what it lacks of its prefix, else of the rest; returns how
        many octets that took."""
        partial = self._partial
        needed = PREFIX_SIZE
        if len(partial) >= PREFIX_SIZE:
            needed += self._parse_prefix(partial, 0)
        taken = octets[: needed - len(partial)]
        partial += taken
        if len(partial) >= PREFIX_SIZE and len(partial) == PREFIX_SIZE + self._parse_prefix(
            partial, 0
        ):
            self._partial = bytearray()  # a new one: whoever keeps a view must not break us
            self._on_message(memoryview(partial)[PREFIX_SIZE:])
        return len(taken)

    def _parse_prefix(self, octets: memoryview | bytearray, pos: int) -> int:
        """The length of the message."""
        flag, length = _PREFIX.unpack_from(octets, pos)
        if flag or length > self._limit:
            raise self._refusal(flag, length)
        size: int = length
        return size

    def _refusal(self, flag: int, length: int) -> GrpcError:
        """As Go refuses: the texts are its own."""
        if length > self._limit:
            text = f"grpc: received message larger than max ({length} vs. {self._limit})"
            return GrpcError(Status.RESOURCE_EXHAUSTED, text)
        if flag != _COMPRESSED:
            text = f"grpc: received unexpected payload format {flag}"
            return GrpcError(Status.INTERNAL, text)
        if self._encoding in (b"", b"identity"):
            text = "grpc: compressed flag set with identity or empty encoding"
            return GrpcError(Status.INTERNAL, text)
        name = self._encoding.decode("utf-8", "replace")
        text = f'grpc: Decompressor is not installed for grpc-encoding "{name}"'
        served = self._role is Role.SERVER
        return GrpcError(Status.UNIMPLEMENTED if served else Status.INTERNAL, text)
