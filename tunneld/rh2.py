"""What both ends of a native tunnel agree on: reversed HTTP/2, the server being HTTP/2's client."""

from frames import Limits, Rate, Setting, Work
from frames.limits import DEFAULT_RATES

ALPN = "rh2"
MAX_FRAME = 1024 * 1024
"""Octets of a DATA frame between our own ends: as many as a transmit buffer holds. What costs is
each turn, not each octet."""

SETTINGS: dict[int, int] = {
    Setting.MAX_FRAME_SIZE: MAX_FRAME,
    Setting.INITIAL_WINDOW_SIZE: 256 * 1024,
}
RECEIVE_WINDOW = 16 * 1024 * 1024
"""Of the whole connection; credited on receipt, so it only has to cover the path."""

LIMITS = Limits(
    max_concurrent_streams=1_000_000,
    max_queued_replies=10_000,
    # Both ends are ours and authenticated; a thousand clients that abort at once make a thousand
    # resets.
    rates=tuple((DEFAULT_RATES | {Work.RESET: Rate(100_000, 50_000)}).items()),
)
