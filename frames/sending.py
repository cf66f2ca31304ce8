"""The half of a connection that we speak: what goes into the transmit buffer, and why it may.

`connection.Connection` adds the other half. Every call either raises and leaves no trace, or has
changed the state and put its frames into the buffer.
"""

from collections.abc import Callable, Mapping
from enum import Enum

from frames import frame
from frames.blocks import BlockReader, BlockWriter
from frames.errors import ErrorCode, LocalProtocolError
from frames.events import Event, Headers
from frames.frame import HEADER_SIZE, MAX_STREAM_ID, MAX_WINDOW, Flag, FrameType
from frames.headers import check_request, check_response, check_trailers, list_size, ours
from frames.limits import Allowances, Limits
from frames.settings import DEFAULT_WINDOW, DEFAULTS, MIN_MAX_FRAME, LocalSettings, Setting
from frames.stream import Stream, StreamInput, StreamState
from frames.streamids import Role, StreamIds
from frames.transmit import TransmitBuffer
from frames.window import WindowBudget


class ConnectionState(Enum):
    """Life of a connection. DRAINING: a GOAWAY went or came; open streams run to their end."""

    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


class Sending:
    """State shared by both halves, and all that the user makes a connection say.

    Args:
      role: our side of HTTP/2.
      on_event: called for each event, in order, from within `Connection.receive`. It may call
        anything of the connection but `Connection.receive`; so may a stream's receiver.
      settings: what we announce beyond the defaults of RFC 9113 and what ``limits`` say.
      receive_window: octets the peer may have in flight on the whole connection. Credited on
        receipt, so that a stream nobody reads cannot use up the others' credit.
      budget: bounds the growth of stream windows, over all connections that share it.
    Raises:
      LocalProtocolError: settings or a window that are not allowed.
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
        self.peer: dict[int, int] = dict(DEFAULTS)
        """The peer's settings in force, those that RFC 9113 and RFC 8441 name."""
        self.peer_max_frame = self.peer[Setting.MAX_FRAME_SIZE]
        self.send_window = DEFAULT_WINDOW
        if receive_window > MAX_WINDOW:
            raise LocalProtocolError(f"window of {receive_window} octets, allowed: {MAX_WINDOW}")
        self.receive_window = max(receive_window, DEFAULT_WINDOW)
        self.max_frame = MIN_MAX_FRAME
        self._local = LocalSettings()
        self._local.check(settings or {})
        self._first_settings = dict(settings or {})
        self._initial_window = DEFAULT_WINDOW
        self._window_size = self.receive_window
        self._unacked = 0
        self._writer = BlockWriter()
        self._reader = BlockReader(self.limits)
        self._allowances = Allowances(self.limits.rates)
        self._queued_replies = 0
        self._unanswered_pings = 0
        self._ids = StreamIds(role)
        self._peer_streams = 0
        """How many of ``streams`` the peer opened."""
        self._said_goaway = False

    # -- connection ---------------------------------------------------------------------------

    def initiate(self) -> None:
        """Say hello: preface (client role), SETTINGS, and our window. Call once, first."""
        if self.role is Role.CLIENT:
            self.tx.append(frame.PREFACE)
        self._announce(self.limits.settings(self.role) | self._first_settings)
        if self.receive_window > DEFAULT_WINDOW:
            self._send_window_update(0, self.receive_window - DEFAULT_WINDOW)

    def send_settings(self, settings: Mapping[int, int]) -> None:
        """Announce settings. They bind the peer once it acknowledges them; what gives it more
        than before is granted from now on.

        Raises:
          LocalProtocolError: a value that is not allowed, or an initial window that would lift
            an open stream's above 2^31-1.
        """
        self._require_not_closed()
        self._local.check(settings)
        growth = settings.get(Setting.INITIAL_WINDOW_SIZE, 0) - self._initial_window
        if any(stream.window_size + growth > MAX_WINDOW for stream in self.streams.values()):
            raise LocalProtocolError("INITIAL_WINDOW_SIZE too large for a stream that has grown")
        self._announce(settings)

    def send_ping(self, data: bytes) -> None:
        """Ask for a `PingAcknowledged` with the same 8 octets."""
        self._require_not_closed()
        if len(data) != 8:
            raise LocalProtocolError(f"PING of {len(data)} octets, must be 8")
        self._unanswered_pings += 1
        self.tx.append(frame.serialize(FrameType.PING, 0, 0, data))

    def drain(self) -> None:
        """Take no new streams of the peer's, open none; those open run to their end.

        Streams that the peer opened before it saw this are still taken: the GOAWAY names the
        highest id there is. `send_goaway`, a round trip later, then names the real one.
        """
        if self._said_goaway or self.state is ConnectionState.CLOSED:
            return
        self._said_goaway = True
        self.state = ConnectionState.DRAINING
        self.tx.append(frame.serialize_goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR, b""))

    def send_goaway(self, code: ErrorCode = ErrorCode.NO_ERROR, debug: bytes = b"") -> None:
        """Refuse all streams above the highest seen so far. With an error code the connection is
        over at once: as after `close`, but what waits in ``tx`` may still be sent."""
        if self.state is ConnectionState.CLOSED:
            return
        # Section 6.8: the last id must not go up from one GOAWAY to the next.
        if self._ids.refused_above is None:
            self._ids.refused_above = self._ids.highest
        self._said_goaway = True
        self.tx.append(frame.serialize_goaway(self._ids.refused_above, code, debug))
        self.state = ConnectionState.DRAINING
        if code:
            self._abandon()

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
        """Forget everything, unsent octets too; for when the transport is gone. Streams end
        without an event."""
        self._abandon()
        self.tx.sent()

    # -- streams ------------------------------------------------------------------------------

    @property
    def can_open(self) -> bool:
        """Whether the peer takes one more stream now."""
        limit = self.peer.get(Setting.MAX_CONCURRENT_STREAMS)
        opened = len(self.streams) - self._peer_streams
        return (
            self.state is ConnectionState.OPEN
            and (limit is None or opened < limit)
            and not self._ids.used_up
        )

    def open_stream(self, headers: Headers, *, end_stream: bool = False) -> Stream:
        """Send a request on a new stream (client role).

        Raises:
          LocalProtocolError: not `can_open`, or headers that the peer would have to refuse.
        """
        if self.role is not Role.CLIENT:
            raise LocalProtocolError("a server opens no streams: there is no push here")
        if not self.can_open:
            raise LocalProtocolError(f"no more streams: connection is {self.state.value}")
        with ours():
            extended = bool(self.peer[Setting.ENABLE_CONNECT_PROTOCOL])
            method = check_request(0, headers, extended)
        self._require_welcome(headers)
        stream = self._new_stream(self._ids.take())
        stream.is_connect = method == b"CONNECT"
        stream.is_head = method == b"HEAD"
        self._write_headers(stream, headers, end_stream, final=True)
        return stream

    def send_headers(self, stream: Stream, headers: Headers, *, end_stream: bool = False) -> None:
        """Send a response (server role; first a 1xx or more, if you like), or trailers (which
        must end the stream).

        Raises:
          LocalProtocolError: headers that the peer would have to refuse, or not their time.
        """
        self._require_not_closed()
        status = self._check_headers(stream, headers, end_stream)
        self._require_welcome(headers)
        self._write_headers(stream, headers, end_stream, final=not status.startswith(b"1"))
        if stream.head_sent and status and not status.startswith(b"2"):
            stream.is_connect = False  # section 8.5: no tunnel without a 2xx

    def data_room(self, stream: Stream) -> int:
        """Octets of DATA that may be written for ``stream`` now: the least of buffer, windows
        and the peer's frame size; 0 if none."""
        tx = self.tx
        room = tx.limit - HEADER_SIZE - tx.length
        if room > stream.send_window:
            room = stream.send_window
        if room > self.send_window:
            room = self.send_window
        if room > self.peer_max_frame:
            room = self.peer_max_frame
        return room if room > 0 else 0

    def commit_data(self, stream: Stream, size: int, *, end_stream: bool = False) -> None:
        """Make a DATA frame of ``size`` octets that were written into ``tx.payload_view``.

        ``size`` must not exceed what `data_room` said, with no other call in between. With 0 it
        needs neither room nor view: that is how a stream ends that has no more octets.

        Raises:
          LocalProtocolError: the stream's head has not gone out, or its end has.
        """
        if not stream.sends_data:
            raise self._cannot_send(stream)
        self.data_frames_sent += 1
        if size:
            stream.send_window -= size
            self.send_window -= size
            self.tx.commit(size, stream.id, end_stream)
        else:
            flags = Flag.END_STREAM if end_stream else 0
            self.tx.append(frame.serialize(FrameType.DATA, flags, stream.id))
        if end_stream:
            self._end_local(stream)

    def send_data(
        self, stream: Stream, data: bytes | memoryview, *, end_stream: bool = False
    ) -> int:
        """Copy ``data`` into DATA frames, as much as `data_room` allows.

        Returns:
          Octets taken; END_STREAM goes only with the last of them.
        Raises:
          LocalProtocolError: as `commit_data`.
        """
        if not stream.sends_data:
            raise self._cannot_send(stream)
        taken, size = 0, len(data)
        while taken < size:
            room = self.data_room(stream)
            if not room:
                return taken
            piece = data[taken : taken + room]
            length = len(piece)
            self.tx.payload_view(length)[:] = piece
            taken += length
            self.commit_data(stream, length, end_stream=end_stream and taken == size)
        if end_stream and not size:
            self.commit_data(stream, 0, end_stream=True)
        return taken

    def consume(self, stream: Stream, size: int) -> bool:
        """Credit the peer with ``size`` octets that have been used up; half a window at a time.

        Returns:
          Whether it was time for that, so that there is something to send.
        """
        stream.unacked += size
        if stream.unacked < stream.window_size >> 1:
            return False
        self._credit(stream)
        return True

    def reset_stream(self, stream: Stream, code: ErrorCode) -> None:
        """Abort: the peer gets RST_STREAM, and nothing more comes to the receiver."""
        if self.state is ConnectionState.CLOSED or stream.state is StreamState.CLOSED:
            return
        stream.move_local(StreamInput.SEND_RESET)
        self.tx.append(frame.serialize_u32(FrameType.RST_STREAM, stream.id, code))
        self._forget(stream, reset_by_us=True)

    # -- for both halves ----------------------------------------------------------------------

    def _announce(self, settings: Mapping[int, int]) -> None:
        self.tx.append(frame.serialize_settings(settings.items()))
        self._local.announce(settings)
        self._enforce_settings()

    def _enforce_settings(self) -> None:
        """Allow what the peer may do by the settings it knows of, or soon will."""
        greatest = self._local.greatest
        self.max_frame = greatest(Setting.MAX_FRAME_SIZE)
        self._reader.allow_table(greatest(Setting.HEADER_TABLE_SIZE))
        window = greatest(Setting.INITIAL_WINDOW_SIZE)
        # RFC 9113 section 6.9.2: a new initial window moves open streams too, even below zero.
        change = window - self._initial_window
        self._initial_window = window
        if change:
            for stream in self.streams.values():
                stream.receive_window += change
                stream.window_size += change

    def _new_stream(self, stream_id: int) -> Stream:
        stream = Stream(stream_id, self.peer[Setting.INITIAL_WINDOW_SIZE], self._initial_window)
        self.streams[stream_id] = stream
        self._allowances.grant_stream()
        return stream

    def _check_headers(self, stream: Stream, headers: Headers, end_stream: bool) -> bytes:
        """Refuse what may not follow on ``stream`` now; the status of a response, if it is one."""
        status = b""
        with ours():
            if stream.head_sent:
                check_trailers(stream.id, headers)
            else:
                status = check_response(stream.id, headers)
        if stream.head_sent and (stream.is_connect or not end_stream):
            why = "no trailers after CONNECT" if stream.is_connect else "trailers must end it"
            raise LocalProtocolError(f"stream {stream.id}: {why}")
        if status.startswith(b"1") and end_stream:
            raise LocalProtocolError(f"stream {stream.id}: a 1xx response cannot end it")
        return status

    def _write_headers(
        self, stream: Stream, headers: Headers, end_stream: bool, final: bool
    ) -> None:
        stream.move_local(StreamInput.SEND_HEADERS)
        if final and not stream.head_sent:
            stream.gave_head()
        self.tx.append(self._writer.serialize(stream.id, headers, end_stream, self.peer_max_frame))
        if end_stream:
            self._end_local(stream)

    def _end_local(self, stream: Stream) -> None:
        stream.move_local(StreamInput.SEND_END)
        if stream.state is StreamState.CLOSED:
            self._forget(stream, reset_by_us=False)

    def _cannot_send(self, stream: Stream) -> LocalProtocolError:
        what = f"is {stream.state.value}" if not stream.can_send else "has sent no headers yet"
        return LocalProtocolError(f"stream {stream.id} {what}: cannot send DATA")

    def _credit(self, stream: Stream) -> None:
        """Credit what was consumed; a stream that moves gets a larger window each time."""
        increment, stream.unacked = stream.unacked, 0
        if not increment or not stream.can_receive:
            return
        if stream.receive_window + increment > stream.window_size:
            raise LocalProtocolError(f"stream {stream.id}: more consumed than came")
        growth = min(stream.window_size, self.limits.max_window - stream.window_size)
        if growth > 0 and self.budget.take(growth):
            stream.window_size += growth
            increment += growth
        stream.receive_window += increment
        self._send_window_update(stream.id, increment)

    def _send_window_update(self, stream_id: int, increment: int) -> None:
        self.tx.append(frame.serialize_u32(FrameType.WINDOW_UPDATE, stream_id, increment))

    def _forget(self, stream: Stream, *, reset_by_us: bool) -> None:
        """Let go of a stream that is closed."""
        del self.streams[stream.id]
        if self._ids.is_peers(stream.id):
            self._peer_streams -= 1
        self.budget.give_back(stream.window_size - self._initial_window)
        stream.receiver = None
        stream.blocked = False
        stream.send_window = 0
        self._ids.remember(stream.id, reset_by_us)

    def _abandon(self) -> None:
        """The connection is closed, and so is every stream."""
        self.state = ConnectionState.CLOSED
        for stream in list(self.streams.values()):
            stream.move_local(StreamInput.SEND_RESET)
            self._forget(stream, reset_by_us=True)

    def _require_welcome(self, headers: Headers) -> None:
        size, limit = list_size(headers), self.peer.get(Setting.MAX_HEADER_LIST_SIZE)
        if limit is not None and size > limit:
            raise LocalProtocolError(f"header list of {size} octets, the peer takes {limit}")

    def _require_not_closed(self) -> None:
        if self.state is ConnectionState.CLOSED:
            raise LocalProtocolError("the connection is closed")
