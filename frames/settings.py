"""SETTINGS: codes, defaults, legal values (RFC 9113 section 6.5.2, RFC 8441 section 3)."""

from enum import IntEnum

from frames.errors import ErrorCode, RemoteProtocolError
from frames.frame import MAX_WINDOW

DEFAULT_WINDOW = 65535
MIN_MAX_FRAME = 16384
MAX_MAX_FRAME = 2**24 - 1
DEFAULT_TABLE_SIZE = 4096


class Setting(IntEnum):
    """Identifiers; unknown ones are ignored."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6
    ENABLE_CONNECT_PROTOCOL = 0x8


DEFAULTS: dict[int, int] = {
    Setting.HEADER_TABLE_SIZE: DEFAULT_TABLE_SIZE,
    Setting.ENABLE_PUSH: 1,
    Setting.INITIAL_WINDOW_SIZE: DEFAULT_WINDOW,
    Setting.MAX_FRAME_SIZE: MIN_MAX_FRAME,
    Setting.ENABLE_CONNECT_PROTOCOL: 0,
}
"""What holds before the first SETTINGS; a code that is missing has no limit."""

_RANGES: dict[int, tuple[int, int, ErrorCode]] = {
    Setting.ENABLE_PUSH: (0, 1, ErrorCode.PROTOCOL_ERROR),
    Setting.INITIAL_WINDOW_SIZE: (0, MAX_WINDOW, ErrorCode.FLOW_CONTROL_ERROR),
    Setting.MAX_FRAME_SIZE: (MIN_MAX_FRAME, MAX_MAX_FRAME, ErrorCode.PROTOCOL_ERROR),
    Setting.ENABLE_CONNECT_PROTOCOL: (0, 1, ErrorCode.PROTOCOL_ERROR),
}


def check_setting(code: int, value: int) -> None:
    """Refuse a value that the RFC does not allow.

    Raises:
      RemoteProtocolError: with the error code that the RFC names for this setting.
    """
    if code not in _RANGES:
        return
    low, high, error = _RANGES[code]
    if not low <= value <= high:
        raise RemoteProtocolError(
            error, f"{Setting(code).name} is {value}, allowed: {low} to {high}"
        )
