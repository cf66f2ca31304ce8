"""Frames as octets: headers, payload layouts, and their checks (RFC 9113 sections 4 and 6).

Knows no connection and no stream states. DATA is not here: its payload is never copied into an
object (`connection.Connection` and `transmit.TransmitBuffer` handle it in place).
"""

import struct
from collections.abc import Iterable
from enum import IntEnum, IntFlag

from frames.errors import ErrorCode, RemoteProtocolError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE = 9
MAX_STREAM_ID = 2**31 - 1
MAX_WINDOW = 2**31 - 1

HEADER = struct.Struct(">IBI")
"""Length (24 bits) and type (8) as one number, flags (8), reserved bit and stream id (31)."""
_U32 = struct.Struct(">I")
_SETTING = struct.Struct(">HI")
_GOAWAY = struct.Struct(">II")


class FrameType(IntEnum):
    """RFC 9113 section 6; other types are ignored."""

    DATA = 0x0
    HEADERS = 0x1
    PRIORITY = 0x2
    RST_STREAM = 0x3
    SETTINGS = 0x4
    PUSH_PROMISE = 0x5
    PING = 0x6
    GOAWAY = 0x7
    WINDOW_UPDATE = 0x8
    CONTINUATION = 0x9


class Flag(IntFlag):
    """Flags; ACK shares its bit with END_STREAM, each on its own frame types."""

    ACK = 0x1
    END_STREAM = 0x1
    END_HEADERS = 0x4
    PADDED = 0x8
    PRIORITY = 0x20


def serialize(frame_type: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One whole frame."""
    return HEADER.pack(len(payload) << 8 | frame_type, flags, stream_id) + payload


def serialize_settings(settings: Iterable[tuple[int, int]]) -> bytes:
    """A SETTINGS frame: identifier (16 bits), value (32 bits) each."""
    payload = b"".join(_SETTING.pack(*setting) for setting in settings)
    return serialize(FrameType.SETTINGS, 0, 0, payload)


def serialize_u32(frame_type: int, stream_id: int, value: int) -> bytes:
    """A frame whose payload is one 32-bit number: RST_STREAM (code), WINDOW_UPDATE (octets)."""
    return serialize(frame_type, 0, stream_id, _U32.pack(value))


def serialize_goaway(last_stream_id: int, code: int, debug: bytes) -> bytes:
    """A GOAWAY frame: last stream id (31 bits), error code (32), free text."""
    return serialize(FrameType.GOAWAY, 0, 0, _GOAWAY.pack(last_stream_id, code) + debug)


def parse_settings(payload: bytes) -> list[tuple[int, int]]:
    """Parse the payload of a SETTINGS frame.

    Returns:
      Identifier and value of each entry in wire order (the order matters, section 6.5.3);
      unknown ones are kept.
    Raises:
      RemoteProtocolError: FRAME_SIZE_ERROR if the length is not a multiple of 6.
    Source: RFC 9113 section 6.5.1.
    """
    if len(payload) % _SETTING.size:
        raise size_error("SETTINGS", len(payload), "a multiple of 6")
    return list(_SETTING.iter_unpack(payload))


def parse_u32(name: str, payload: bytes) -> int:
    """Parse a payload that is one 32-bit number.

    Raises:
      RemoteProtocolError: FRAME_SIZE_ERROR for any other length.
    """
    if len(payload) != _U32.size:
        raise size_error(name, len(payload), "4")
    value: int = _U32.unpack(payload)[0]
    return value


def parse_goaway(payload: bytes) -> tuple[int, int, bytes]:
    """Parse the payload of a GOAWAY frame: last stream id, error code, debug data.

    Raises:
      RemoteProtocolError: FRAME_SIZE_ERROR below 8 octets.
    Source: RFC 9113 section 6.8.
    """
    if len(payload) < _GOAWAY.size:
        raise size_error("GOAWAY", len(payload), "8 or more")
    last, code = _GOAWAY.unpack_from(payload)
    return last & MAX_STREAM_ID, code, payload[_GOAWAY.size :]


def strip_padding(name: str, payload: bytes) -> bytes:
    """The payload of a PADDED frame without its length octet and padding (section 6.1).

    Raises:
      RemoteProtocolError: PROTOCOL_ERROR if the padding is as long as the payload or longer.
    """
    if not payload:
        raise size_error(name, 0, "1 or more, being padded")
    padding = payload[0]
    if padding >= len(payload):
        raise padding_error(name, padding, len(payload))
    return payload[1 : len(payload) - padding]


def padding_error(name: str, padding: int, length: int) -> RemoteProtocolError:
    """For padding that leaves no room for itself."""
    text = f"{name} frame of {length} octets has {padding} octets of padding"
    return RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, text)


def size_error(name: str, length: int, allowed: str) -> RemoteProtocolError:
    """For a payload of a length that its frame type does not have."""
    text = f"{name} frame of {length} octets, allowed: {allowed}"
    return RemoteProtocolError(ErrorCode.FRAME_SIZE_ERROR, text)
