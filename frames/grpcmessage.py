"""gRPC messages in the octets of a stream: a flag, a length, the message."""

import struct
from collections.abc import Callable

from frames.grpcstatus import GrpcError, Status, quoted
from frames.streamids import Role

MAX_MESSAGE = 4 << 20
"""Octets that a message may have, its prefix not counted."""

_PREFIX = struct.Struct(">BI")
"""Flag (1: compressed), length of the message in octets."""
PREFIX_SIZE = _PREFIX.size
_unpack_prefix = _PREFIX.unpack_from

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
        """The beginning of a message, with its prefix or a part of that."""
        self._size = 0
        """Octets of that message in all, once its prefix is whole."""

    @property
    def empty(self) -> bool:
        """Whether the octets so far end with a message."""
        return not self._partial

    def feed(self, octets: memoryview) -> None:
        """Take in what came on the stream. A message that is whole in ``octets`` is not copied.

        Raises:
          GrpcError: RESOURCE_EXHAUSTED for a message over the limit, INTERNAL or UNIMPLEMENTED
            for one that is compressed; as soon as its prefix has come. The reader is of no use
            any more, nor is it when ``on_message`` raises.
        """
        pos = 0
        if len(self._partial) >= PREFIX_SIZE:
            pos = self._complete(octets)
        elif self._partial:
            octets = memoryview(bytes(self._partial) + octets)
            self._partial = bytearray()
        end = len(octets)
        while end - pos >= PREFIX_SIZE:
            flag, length = _unpack_prefix(octets, pos)
            if flag or length > self._limit:
                raise self._refusal(flag, length)
            body = pos + PREFIX_SIZE
            stop = body + length
            if stop > end:
                self._size = stop - pos
                break
            self._on_message(octets[body:stop])
            pos = stop
        if pos < end:
            self._partial = bytearray(octets[pos:])

    def _complete(self, octets: memoryview) -> int:
        """Add to the partial message what it lacks; returns how many octets that took."""
        partial = self._partial
        rest = octets[: self._size - len(partial)]
        partial += rest
        if len(partial) == self._size:
            self._partial = bytearray()
            self._on_message(memoryview(partial)[PREFIX_SIZE:])
        return len(rest)

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
        name = quoted(self._encoding)
        text = f"grpc: Decompressor is not installed for grpc-encoding {name}"
        served = self._role is Role.SERVER
        return GrpcError(Status.UNIMPLEMENTED if served else Status.INTERNAL, text)
