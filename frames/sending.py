"""The half of a connection that we speak: what goes into the transmit buffer, and why it may.

`connection.Connection` adds the other half. Every call either raises and leaves no trace, or has
changed the state and put its frames into the buffer.
"""

from collections.abc import Callable, Mapping
from enum import Enum

import hpack

from frames import frame
from frames.errors import ErrorCode, LocalProtocolError
from frames.events import Event, Headers
from frames.frame import Flag, FrameType
from frames.headers import check_local
from frames.limits import Allowances, Limits
from frames.settings import DEFAULT_WINDOW, DEFAULTS, MIN_MAX_FRAME, Setting
from frames.stream import Stream, StreamInput, StreamState
from frames.transmit import TransmitBuffer
from frames.window import WindowBudget

_REMEMBERED_STREAMS = 1_000


class Role(Enum):
    """Which side of HTTP/2 this is: the client opens streams, with odd ids."""

    CLIENT = 1
    SERVER = 2


class ConnectionState(Enum):
    """Life of a connection. DRAINING: a GOAWAY went or came; open streams run to their end."""

    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


class Sending:
    """State shared by both halves, and all that the user makes a connection say.

    Args:
      role: our side of HTTP/2.
      on_event: called for each event, in order, from within `Connection.receive`.
      settings: what we announce beyond the defaults of RFC 9113.
      receive_window: octets the peer may have in flight on the whole connection. Credited on
        receipt, so that a stream nobody reads cannot use up the others' credit.
      budget: bounds the growth of stream windows, over all connections that share it.
    """

    def __init__(
        self,
        role: Role,
        on_event: Callable[[Event], None],
        *,
        settings: Mapping[int, int] | None = None,
        limits: Limits | None = None,
        receive_window: int = DEFAULT_WINDOW,
        budget: WindowBudget | None = None,
    ) -> None:
        self.role = role
        self.on_event = on_event
        self.limits = limits or Limits()
        self.budget = budget or WindowBudget(64 * self.limits.max_window)
        self.state = ConnectionState.OPEN
        self.streams: dict[int, Stream] = {}
        self.tx = TransmitBuffer()
        self.blocked = False
        """Set by a sender that waits for the connection's window; `WindowOpened(0)` clears it."""
        self.data_frames_sent = 0
        self.local = self._announced(settings or {})
        self._initial_window = self.local.get(Setting.INITIAL_WINDOW_SIZE, DEFAULT_WINDOW)
        self.max_frame = self.local.get(Setting.MAX_FRAME_SIZE, MIN_MAX_FRAME)
        self.peer: dict[int, int] = dict(DEFAULTS)
        self.peer_max_frame = self.peer[Setting.MAX_FRAME_SIZE]
        self.send_window = DEFAULT_WINDOW
        self.receive_window = max(receive_window, DEFAULT_WINDOW)
        self._window_size = self.receive_window
        self._unacked = 0
        self._unacknowledged_settings: list[dict[int, int]] = []
        self._encoder = hpack.Encoder()
        self._allowances = Allowances(self.limits.rates)
        self._queued_replies = 0
        self._next_id = 1 if role is Role.CLIENT else 2
        self._highest_peer_id = 0
        self._peer_streams = 0
        self._last_accepted: int | None = None
        self._refused_above: int | None = None
        self._ended: dict[int, bool] = {}
        """Streams that ended lately: id → whether a reset of ours ended it."""

    # -- connection ---------------------------------------------------------------------------

    def initiate(self) -> None:
        """Say hello: preface (client role), SETTINGS, and our window. Call once, first."""
        if self.role is Role.CLIENT:
            self.tx.append(frame.PREFACE)
        self.send_settings({k: v for k, v in self.local.items() if v != DEFAULTS.get(k)})
        if self.receive_window > DEFAULT_WINDOW:
            self._send_window_update(0, self.receive_window - DEFAULT_WINDOW)

    def send_settings(self, settings: Mapping[int, int]) -> None:
        """Announce settings. They bind the peer once it acknowledges them; what gives it more
        than before is granted from now on."""
        self._require_not_closed()
        self.tx.append(frame.serialize_settings(settings.items()))
        self._unacknowledged_settings.append(dict(settings))
        window = settings.get(Setting.INITIAL_WINDOW_SIZE, self._initial_window)
        if window > self._initial_window:
            self._change_initial_window(window)

    def send_ping(self, data: bytes) -> None:
        """Ask for a `PingAcknowledged` with the same 8 octets."""
        self._require_not_closed()
        if len(data) != 8:
            raise LocalProtocolError(f"PING of {len(data)} octets, must be 8")
        self.tx.append(frame.serialize(FrameType.PING, 0, 0, data))

    def drain(self) -> None:
        """Take no new streams of the peer's, open none; those open run to their end.

        Streams that the peer opened before it saw this are still taken: the GOAWAY names the
        highest id there is. `send_goaway` then names the real one.
        """
        if self.state is ConnectionState.OPEN:
            self.state = ConnectionState.DRAINING
            self.tx.append(frame.serialize_goaway(frame.MAX_STREAM_ID, ErrorCode.NO_ERROR, b""))

    def send_goaway(self, code: ErrorCode = ErrorCode.NO_ERROR, debug: bytes = b"") -> None:
        """Refuse all streams above the highest seen so far. With an error code: the connection
        is over at once."""
        if self.state is ConnectionState.CLOSED:
            return
        if self._refused_above is None:
            self._refused_above = self._highest_peer_id
        self.tx.append(frame.serialize_goaway(self._refused_above, code, debug))
        self.state = ConnectionState.DRAINING if not code else ConnectionState.CLOSED

    def sent(self) -> None:
        """The transport took over all that ``tx.waiting()`` gave."""
        self.tx.sent()
        self._queued_replies = 0

    @property
    def drained(self) -> bool:
        """Whether nothing is left to finish."""
        return self.state is not ConnectionState.OPEN and not self.streams

    def refill(self, now: float) -> None:
        """Let time pass for what a peer may do each second. Call now and then, once a second
        say; ``now`` is any clock in seconds that does not go back."""
        self._allowances.refill(now)

    def close(self) -> None:
        """Forget everything; for when the transport is gone. Streams end without an event."""
        self.state = ConnectionState.CLOSED
        for stream in list(self.streams.values()):
            self._forget(stream, reset_by_us=True)

    # -- streams ------------------------------------------------------------------------------

    @property
    def can_open(self) -> bool:
        """Whether the peer takes one more stream now."""
        limit = self.peer.get(Setting.MAX_CONCURRENT_STREAMS)
        ours = len(self.streams) - self._peer_streams
        return self.state is ConnectionState.OPEN and (limit is None or ours < limit)

    def open_stream(self, headers: Headers, *, end_stream: bool = False) -> Stream:
        """Send a request on a new stream (client role).

        Raises:
          LocalProtocolError: draining, over the peer's limit of streams, out of stream ids, or
            headers that the peer would have to refuse.
        """
        if self.role is not Role.CLIENT:
            raise LocalProtocolError("a server opens no streams: there is no push here")
        if not self.can_open or self._next_id > frame.MAX_STREAM_ID:
            raise LocalProtocolError(f"no more streams: connection is {self.state.value}")
        check_local(headers)
        stream = self._new_stream(self._next_id)
        self._next_id += 2
        method = dict(headers).get(b":method", b"")
        stream.is_connect = method == b"CONNECT"
        if method == b"HEAD":
            stream.body_left = 0
        self._write_headers(stream, headers, end_stream)
        return stream

    def send_headers(self, stream: Stream, headers: Headers, *, end_stream: bool = False) -> None:
        """Send a response, or trailers (which must end the stream)."""
        self._require_not_closed()
        check_local(headers)
        if stream.head_sent and not end_stream:
            raise LocalProtocolError(f"stream {stream.id}: trailers must end it")
        self._write_headers(stream, headers, end_stream)

    def data_room(self, stream: Stream) -> int:
        """Octets of DATA that may be written for ``stream`` now: the least of buffer, windows
        and the peer's frame size; 0 if none."""
        room = min(self.tx.room, stream.send_window, self.send_window, self.peer_max_frame)
        return room if room > 0 else 0

    def commit_data(self, stream: Stream, size: int, *, end_stream: bool = False) -> None:
        """Make a DATA frame of ``size`` octets that were written into ``tx.payload_view``.

        ``size`` must not exceed what `data_room` said, with no other call in between.
        """
        if not stream.can_send:
            stream.move_local(StreamInput.SEND_DATA)  # raises
        stream.send_window -= size
        self.send_window -= size
        self.data_frames_sent += 1
        self.tx.commit(size, stream.id, end_stream)
        if end_stream:
            self._end_local(stream)

    def send_data(
        self, stream: Stream, data: bytes | memoryview, *, end_stream: bool = False
    ) -> int:
        """Copy ``data`` into DATA frames, as much as `data_room` allows.

        Returns:
          Octets taken; END_STREAM goes only with the last of them.
        """
        taken = 0
        while taken < len(data):
            room = self.data_room(stream)
            if not room:
                return taken
            piece = data[taken : taken + room]
            self.tx.payload_view(room)[: len(piece)] = piece
            taken += len(piece)
            self.commit_data(stream, len(piece), end_stream=end_stream and taken == len(data))
        if end_stream and not data:
            self.commit_data(stream, 0, end_stream=True)
        return taken

    def consume(self, stream: Stream, size: int) -> None:
        """Credit the peer with ``size`` octets that have been used up; half a window at a time."""
        stream.unacked += size
        if stream.unacked >= stream.window_size >> 1:
            self._credit(stream)

    def reset_stream(self, stream: Stream, code: ErrorCode) -> None:
        """Abort: the peer gets RST_STREAM, and nothing more comes to the receiver."""
        if self.state is ConnectionState.CLOSED or stream.state is StreamState.CLOSED:
            return
        stream.move_local(StreamInput.SEND_RESET)
        self.tx.append(frame.serialize_u32(FrameType.RST_STREAM, stream.id, code))
        self._forget(stream, reset_by_us=True)

    # -- for both halves ----------------------------------------------------------------------

    def _announced(self, settings: Mapping[int, int]) -> dict[int, int]:
        announced = dict(settings)
        announced[Setting.MAX_HEADER_LIST_SIZE] = self.limits.max_header_list
        if self.role is Role.CLIENT:
            announced[Setting.ENABLE_PUSH] = 0
        else:
            announced[Setting.MAX_CONCURRENT_STREAMS] = self.limits.max_concurrent_streams
        return announced

    def _change_initial_window(self, window: int) -> None:
        change = window - self._initial_window
        self._initial_window = window
        for stream in self.streams.values():
            stream.receive_window += change
            stream.window_size += change

    def _new_stream(self, stream_id: int) -> Stream:
        stream = Stream(stream_id, self.peer[Setting.INITIAL_WINDOW_SIZE], self._initial_window)
        self.streams[stream_id] = stream
        return stream

    def _write_headers(self, stream: Stream, headers: Headers, end_stream: bool) -> None:
        stream.move_local(StreamInput.SEND_HEADERS)
        status = headers[0][1] if headers and headers[0][0] == b":status" else b""
        stream.head_sent = stream.head_sent or not status.startswith(b"1")
        block: bytes = self._encoder.encode(headers)
        first, rest = block[: self.peer_max_frame], block[self.peer_max_frame :]
        flags = (Flag.END_STREAM if end_stream else 0) | (0 if rest else Flag.END_HEADERS)
        self.tx.append(frame.serialize(FrameType.HEADERS, flags, stream.id, first))
        while rest:
            first, rest = rest[: self.peer_max_frame], rest[self.peer_max_frame :]
            flags = 0 if rest else Flag.END_HEADERS
            self.tx.append(frame.serialize(FrameType.CONTINUATION, flags, stream.id, first))
        if end_stream:
            self._end_local(stream)

    def _end_local(self, stream: Stream) -> None:
        stream.move_local(StreamInput.SEND_END)
        if stream.state is StreamState.CLOSED:
            self._forget(stream, reset_by_us=False)

    def _credit(self, stream: Stream) -> None:
        """Credit what was consumed; a stream that moves gets a larger window each time."""
        increment, stream.unacked = stream.unacked, 0
        if not stream.can_receive or self.state is ConnectionState.CLOSED:
            return
        growth = min(stream.window_size, self.limits.max_window - stream.window_size)
        if growth > 0 and self.budget.take(growth):
            stream.window_size += growth
            increment += growth
        stream.receive_window += increment
        self._send_window_update(stream.id, increment)

    def _send_window_update(self, stream_id: int, increment: int) -> None:
        self.tx.append(frame.serialize_u32(FrameType.WINDOW_UPDATE, stream_id, increment))

    def _forget(self, stream: Stream, *, reset_by_us: bool) -> None:
        del self.streams[stream.id]
        if self._is_peers(stream.id):
            self._peer_streams -= 1
        self.budget.give_back(stream.window_size - self._initial_window)
        self._ended[stream.id] = reset_by_us
        if len(self._ended) > _REMEMBERED_STREAMS:
            del self._ended[next(iter(self._ended))]

    def _is_peers(self, stream_id: int) -> bool:
        return stream_id % 2 == (1 if self.role is Role.SERVER else 0)

    def _require_not_closed(self) -> None:
        if self.state is ConnectionState.CLOSED:
            raise LocalProtocolError("the connection is closed")
