"""Stream ids: whose they are, which are used up, and how those ended (RFC 9113 section 5.1.1)."""

from enum import Enum

from frames.frame import MAX_STREAM_ID

_REMEMBERED = 1_000


class Role(Enum):
    """Which side of HTTP/2 this is: the client opens streams, with odd ids."""

    CLIENT = 1
    SERVER = 2


class StreamIds:
    """What a connection knows of ids whose streams are not open.

    Attributes:
      highest: the highest id that the peer has opened a stream with; 0 before.
      refused_above: what our GOAWAY named as the last id we act on; None before.
    """

    def __init__(self, role: Role) -> None:
        self._peers_parity = 1 if role is Role.SERVER else 0
        self._next = 1 if role is Role.CLIENT else 2
        self.highest = 0
        self.refused_above: int | None = None
        self._ended: dict[int, bool] = {}
        self._highest_forgotten = 0
        """The highest id that was in ``_ended`` and had to make room."""

    @property
    def used_up(self) -> bool:
        """Whether none is left for streams of ours."""
        return self._next > MAX_STREAM_ID

    def take(self) -> int:
        """The id for our next stream."""
        taken = self._next
        self._next += 2
        return taken

    def is_peers(self, stream_id: int) -> bool:
        """Whether only the peer may open this stream."""
        return stream_id % 2 == self._peers_parity

    def is_idle(self, stream_id: int) -> bool:
        """Whether the stream may still be opened; 0, too, is no stream that was."""
        if self.is_peers(stream_id):
            return stream_id > self.highest
        return stream_id >= self._next

    def is_refused(self, stream_id: int) -> bool:
        """Whether a stream of the peer's is above what our GOAWAY named."""
        return self.refused_above is not None and stream_id > self.refused_above

    def remember(self, stream_id: int, reset_by_us: bool) -> None:
        """Note how a stream ended; the latest thousand are kept in mind."""
        self._ended[stream_id] = reset_by_us
        if len(self._ended) > _REMEMBERED:
            oldest = next(iter(self._ended))
            del self._ended[oldest]
            self._highest_forgotten = max(self._highest_forgotten, oldest)

    def ended_by_peer(self, stream_id: int) -> bool:
        """Whether the peer itself had ended the stream; False if that is too long ago to tell."""
        return not self._ended.get(stream_id, True)

    def was_skipped(self, stream_id: int) -> bool:
        """Whether a stream, neither idle nor open, never was: its peer opened a higher one
        instead. False if that is too long ago to tell."""
        if self.is_refused(stream_id) or stream_id <= self._highest_forgotten:
            return False
        return stream_id not in self._ended
