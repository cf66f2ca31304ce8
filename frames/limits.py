"""What a peer may make us store and do, and the allowances that bound it over time."""

from dataclasses import dataclass
from enum import Enum

from frames.errors import ErrorCode, RemoteProtocolError


class Work(Enum):
    """Kinds of frames that cost us more than the peer, each with an allowance of its own."""

    RESET = "RST_STREAM frames"
    PING = "PING frames"
    SETTINGS = "SETTINGS frames"
    EMPTY_DATA = "empty DATA frames"
    WINDOW_UPDATE = "WINDOW_UPDATE frames"
    IGNORED = "PRIORITY and unknown frames"
    STREAM_ERROR = "frames that broke their stream"


@dataclass(frozen=True, slots=True)
class Rate:
    """An allowance: ``burst`` at once, refilled by ``per_second``."""

    burst: int
    per_second: int


DEFAULT_RATES: dict[Work, Rate] = {
    # Rapid reset (CVE-2023-44487): resets are cheap for the peer and dear for us.
    Work.RESET: Rate(400, 200),
    # grpc-go sends one PING for each round trip under traffic: thousands a second on a LAN.
    Work.PING: Rate(10_000, 10_000),
    Work.SETTINGS: Rate(100, 20),
    Work.EMPTY_DATA: Rate(200, 100),
    # On top of these, two for each DATA frame that we send (`Connection` counts them).
    Work.WINDOW_UPDATE: Rate(2_000, 1_000),
    Work.IGNORED: Rate(1_000, 500),
    Work.STREAM_ERROR: Rate(200, 50),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one connection. Sizes in octets."""

    max_concurrent_streams: int = 256
    """Streams the peer may have open; more are refused (REFUSED_STREAM)."""
    max_header_list: int = 32 * 1024
    """Decoded size of a header section, as SETTINGS_MAX_HEADER_LIST_SIZE counts it."""
    max_header_block: int = 32 * 1024
    """Encoded size of a header section with all its CONTINUATION frames."""
    max_continuations: int = 8
    """CONTINUATION frames behind one HEADERS frame (CVE-2024-27316 and relatives)."""
    max_queued_replies: int = 1_000
    """Answers (PING and SETTINGS ACKs, resets) waiting for a peer that does not read."""
    max_debug_data: int = 1_024
    """Of a GOAWAY's text, how much is kept."""
    max_window: int = 4 * 1024 * 1024
    """A stream's receive window grows up to this while its octets are consumed."""
    rates: tuple[tuple[Work, Rate], ...] = tuple(DEFAULT_RATES.items())


class Allowances:
    """Token buckets by kind of work. Has no clock: `refill` is told the time."""

    def __init__(self, rates: tuple[tuple[Work, Rate], ...]) -> None:
        self._rates = dict(rates)
        self._left = {work: float(rate.burst) for work, rate in rates}
        self._refilled: float | None = None

    def spend(self, work: Work) -> None:
        """Take one.

        Raises:
          RemoteProtocolError: ENHANCE_YOUR_CALM when none is left.
        """
        left = self._left[work]
        if left < 1:
            rate = self._rates[work]
            text = f"more than {rate.burst} {work.value} at once and {rate.per_second} a second"
            raise RemoteProtocolError(ErrorCode.ENHANCE_YOUR_CALM, text)
        self._left[work] = left - 1

    def refill(self, now: float) -> None:
        """Give back what the time since the last call allows (``now`` in seconds)."""
        if self._refilled is not None:
            elapsed = max(0.0, now - self._refilled)
            for work, rate in self._rates.items():
                self._left[work] = min(rate.burst, self._left[work] + rate.per_second * elapsed)
        self._refilled = now

    def grant(self, work: Work, amount: int) -> None:
        """Add ``amount``, earned by useful traffic; never above the burst."""
        self._left[work] = min(self._rates[work].burst, self._left[work] + amount)
