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
    # A thousand clients that abort at once make a thousand resets. Without a bound a server that
    # was taken over could keep an agent busy with them.
    rates=tuple((DEFAULT_RATES | {Work.RESET: Rate(5_000, 1_000)}).items()),
)

DIAL_ID = b"tunneld-dial"
"""Of a CONNECT: the server's id of the dial, for the agent's log lines."""
RULES = b"tunneld-rules"
"""Of a CONNECT: what the server's rules say of addresses (`tunneld.rules.to_text`)."""
TRACE = b"tunneld-trace"
"""Of a CONNECT: ``1``, the agent shall say what it did. Of an answer to that, and of one that says
it failed: JSON, the steps, each ``[milliseconds, step, text]``."""
ADDRESS = b"tunneld-address"
"""Of a 200: the address that the agent has dialled, as ``host:port``."""
MAX_TRACE = 8192
"""Octets of an agent's steps; what does not fit is left out."""
