"""SETTINGS: codes, defaults, legal values (RFC 9113 section 6.5.2, RFC 8441 section 3)."""

from collections import deque
from collections.abc import Mapping
from enum import IntEnum

from frames.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
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


KNOWN = frozenset(Setting)

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

_FROM_LIMITS = frozenset(
    {Setting.ENABLE_PUSH, Setting.MAX_CONCURRENT_STREAMS, Setting.MAX_HEADER_LIST_SIZE}
)
"""Announced once, at the start: two by `Limits`, and there is no push here."""


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


class LocalSettings:
    """What we announced.

    What gives the peer more than before it may use as soon as it reads of it; what gives it less
    binds it only once it has said so. Until then the greater value of each setting counts.
    """

    def __init__(self) -> None:
        self._acknowledged: dict[int, int] = dict(DEFAULTS)
        self._pending: deque[dict[int, int]] = deque()

    def check(self, settings: Mapping[int, int]) -> None:
        """Refuse to announce what the RFC or our own limits do not allow.

        Raises:
          LocalProtocolError: which setting, and what is allowed.
        """
        for code, value in settings.items():
            if code in _FROM_LIMITS:
                raise LocalProtocolError(f"{Setting(code).name} is not set by hand: see Limits")
            try:
                check_setting(code, value)
            except RemoteProtocolError as exc:
                raise LocalProtocolError(str(exc)) from exc
        extended = settings.get(Setting.ENABLE_CONNECT_PROTOCOL, 1)
        if extended < self.greatest(Setting.ENABLE_CONNECT_PROTOCOL):
            raise LocalProtocolError("ENABLE_CONNECT_PROTOCOL cannot be taken back (RFC 8441)")

    def announce(self, settings: Mapping[int, int]) -> None:
        """A SETTINGS frame with these is on its way."""
        self._pending.append(dict(settings))

    def acknowledge(self) -> bool:
        """The peer has the oldest SETTINGS frame in force; False if it has them all already."""
        if not self._pending:
            return False
        self._acknowledged.update(self._pending.popleft())
        return True

    def greatest(self, code: int) -> int:
        """The most that the peer may take for the value of ``code`` (one of `DEFAULTS`)."""
        value = self._acknowledged[code]
        for settings in self._pending:
            value = max(value, settings.get(code, 0))
        return value
