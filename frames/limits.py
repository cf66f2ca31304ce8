"""What a peer may make us store and do, and the allowances that bound it over time."""

from dataclasses import dataclass
from enum import Enum

from frames.errors import too_much
from frames.settings import Setting
from frames.streamids import Role


class Work(Enum):
    """Kinds of frames that cost us more than the peer, each with an allowance of its own."""

    RESET = "RST_STREAM frames on unanswered streams"
    PING = "PING frames without DATA between them"
    SETTINGS = "SETTINGS frames"
    EMPTY_DATA = "empty DATA frames"
    WINDOW_UPDATE = "WINDOW_UPDATE frames"
    INFORMATIONAL = "1xx responses"
    IGNORED = "frames that change nothing (PRIORITY, unknown types, resets of streams long gone)"
    GOAWAY = "GOAWAY frames"
    STREAM_ERROR = "frames that broke their stream"


@dataclass(frozen=True, slots=True)
class Rate:
    """An allowance: ``burst`` at once, refilled by ``per_second``."""

    burst: int
    per_second: int


DEFAULT_RATES: dict[Work, Rate] = {
    # Rapid reset (CVE-2023-44487): resets are cheap for the peer and dear for us. A stream that
    # we opened or answered may be reset at any rate.
    Work.RESET: Rate(400, 200),
    # grpc-go sends one PING for each round trip under traffic, thousands a second on a LAN: a
    # PING is free if DATA of ours went out since the last one.
    Work.PING: Rate(1_000, 100),
    Work.SETTINGS: Rate(100, 20),
    # On top of these, a few for each new stream: see PER_STREAM.
    Work.EMPTY_DATA: Rate(1_000, 100),
    Work.INFORMATIONAL: Rate(10_000, 100),
    Work.IGNORED: Rate(10_000, 1_000),
    # On top of these, some for the DATA that we send. The burst has to cover all that may be
    # in flight in small frames, each of them credited twice.
    Work.WINDOW_UPDATE: Rate(100_000, 1_000),
    Work.GOAWAY: Rate(10, 1),
    # Also MadeYouReset (CVE-2025-8671): what makes us reset is as dear as a reset.
    Work.STREAM_ERROR: Rate(200, 50),
}

PER_STREAM: dict[Work, int] = {
    Work.EMPTY_DATA: 2,
    Work.WINDOW_UPDATE: 4,  # browsers open each stream's window by hand
    Work.INFORMATIONAL: 2,
    Work.IGNORED: 4,  # PRIORITY, PRIORITY_UPDATE (RFC 9218), a reset that crosses our end
}
"""What each new stream adds to the allowances."""


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
    max_settings: int = 32
    """Entries of one SETTINGS frame."""
    max_queued_replies: int = 1_000
    """Answers (PING and SETTINGS ACKs, resets) waiting for a peer that does not read."""
    max_unsent: int = 4 * 1024 * 1024
    """Octets waiting for a peer that does not read, above which it may not make us say more:
    responses that nobody fetches, credit for DATA that should not have come."""
    max_debug_data: int = 1_024
    """Of a GOAWAY's text, how much is kept."""
    max_window: int = 4 * 1024 * 1024
    """A stream's receive window grows up to this while its octets are consumed."""
    rates: tuple[tuple[Work, Rate], ...] = tuple(DEFAULT_RATES.items())
    """Kinds of work that are not in here keep their `DEFAULT_RATES`."""

    def settings(self, role: Role) -> dict[int, int]:
        """What of these a connection in ``role`` announces; and that it takes no push."""
        settings: dict[int, int] = {Setting.MAX_HEADER_LIST_SIZE: self.max_header_list}
        if role is Role.CLIENT:
            settings[Setting.ENABLE_PUSH] = 0
        else:
            settings[Setting.MAX_CONCURRENT_STREAMS] = self.max_concurrent_streams
        return settings


class Allowances:
    """Token buckets by kind of work. Has no clock: `refill` is told the time."""

    def __init__(self, rates: tuple[tuple[Work, Rate], ...]) -> None:
        self._rates = DEFAULT_RATES | dict(rates)
        self._left = {work: float(rate.burst) for work, rate in self._rates.items()}
        self._refilled: float | None = None

    def spend(self, work: Work) -> None:
        """Take one.

        Raises:
          RemoteProtocolError: ENHANCE_YOUR_CALM when none is left.
        """
        left = self._left[work]
        if left < 1:
            rate = self._rates[work]
            raise too_much(
                f"too many {work.value}, allowed: {rate.burst} at once, {rate.per_second} a second"
            )
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

    def grant_stream(self) -> None:
        """Add what a new stream earns (`PER_STREAM`)."""
        for work, amount in PER_STREAM.items():
            self.grant(work, amount)
