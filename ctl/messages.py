"""The control protocol's messages: msgpack maps in length-prefixed frames.

Pure bytes and objects: no sockets, no Trio. Both ends use it, `tunnelctl` blocking and
`tunneld` on Trio; so do supervisor and worker between themselves.

Layout of a frame: 4 octets length, big-endian, then that many octets of one msgpack map.

    request   {id, method, params}
    reply     {id, result}  or  {id, error: {code, message, hint}}
    stream    {id, item} any number of times, closed by {id, end} or {id, error}

``id`` is chosen by the requester; 0 is kept for what the other side sends unasked.
"""

import struct
from dataclasses import dataclass
from typing import Any

import msgpack

PROTOCOL_VERSION = 1
MAX_FRAME = 1 << 20
"""Octets of one frame's msgpack map, at most."""

_LENGTH = struct.Struct(">I")

Message = dict[str, Any]


class FrameError(Exception):
    """The other end sent something that is not a frame of this protocol."""


@dataclass(eq=False)
class ControlError(Exception):
    """A refused request: a stable code, what was wrong, and what to do about it.

    Codes and their exit codes in `tunnelctl`: see `EXIT_CODES`.
    """

    code: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return self.message

    def to_map(self) -> Message:
        """The ``error`` member of a reply."""
        return {"code": self.code, "message": self.message, "hint": self.hint}

    @classmethod
    def from_map(cls, value: object) -> "ControlError":
        """Read the ``error`` member of a reply; odd contents become code ``internal``."""
        if not isinstance(value, dict):
            return cls("internal", f"malformed error: {value!r}")
        return cls(
            str(value.get("code", "internal")),
            str(value.get("message", "")),
            str(value.get("hint", "")),
        )


EXIT_CODES = {
    "usage": 2,
    "bad_request": 2,
    "no_daemon": 3,
    "not_found": 4,
    "denied": 5,
    "timeout": 6,
    "agent_timeout": 6,
    "dns_timeout": 6,
    "no_agent": 7,
}
"""Exit code of `tunnelctl` by error code; every other code is 1."""


def encode(message: Message) -> bytes:
    """One frame.

    Raises:
      FrameError: the message packs to more than `MAX_FRAME` octets.
    """
    body: bytes = msgpack.packb(message, use_bin_type=True)
    if len(body) > MAX_FRAME:
        raise FrameError(f"message of {len(body)} octets, limit {MAX_FRAME}")
    return _LENGTH.pack(len(body)) + body


class Decoder:
    """Cuts a byte stream into messages.

    A frame's length is checked before its octets are kept, so that the other end can't make
    us store more than `MAX_FRAME` octets beyond the chunk it sent.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take octets in; `next_message` then gives what became complete."""
        self._buffer += data

    def next_message(self) -> Message | None:
        """The next complete message, or None until more octets come.

        Raises:
          FrameError: oversized frame, invalid msgpack, or not a map with string keys.
        """
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > MAX_FRAME:
            raise FrameError(f"frame of {length} octets, limit {MAX_FRAME}")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return _unpack(body)

    def missing(self) -> int:
        """Octets still wanted before `next_message` can tell more, at least 1.

        Who reads no more than that never takes octets beyond the message: what follows may be for
        someone else, as on a connection that turns into raw bytes. To be asked after
        `next_message` has returned None.
        """
        have = len(self._buffer)
        if have < _LENGTH.size:
            return _LENGTH.size - have
        (length,) = _LENGTH.unpack_from(self._buffer)
        return max(1, _LENGTH.size + int(length) - have)

    def take_rest(self) -> bytes:
        """The octets after the last message, for a connection that turns into raw bytes."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest


def _unpack(body: bytes) -> Message:
    try:
        value = msgpack.unpackb(body, raw=False, strict_map_key=True)
    except ValueError as exc:  # msgpack's own errors are ValueErrors
        raise FrameError(f"not msgpack: {exc}") from exc
    except RecursionError as exc:
        raise FrameError("msgpack nested too deeply") from exc
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise FrameError(f"a message is a map with string keys, got {type(value).__name__}")
    return value
