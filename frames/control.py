"""Complete frames other than DATA: what the peer says with them, and what follows.

`connection.Connection` cuts the octets into frames and calls `Control._control` for these.
"""

from collections.abc import Callable

from frames import frame, headers
from frames.errors import (
    ErrorCode,
    RemoteProtocolError,
    StreamProtocolError,
    protocol_error,
    stream_error,
    too_much,
)
from frames.events import (
    GoAwayReceived,
    Headers,
    InformationalReceived,
    PingAcknowledged,
    RequestReceived,
    ResponseReceived,
    SettingsAcknowledged,
    SettingsReceived,
    StreamReset,
    TrailersReceived,
    WindowOpened,
)
from frames.frame import Flag, FrameType
from frames.limits import Work
from frames.sending import ConnectionState, Sending
from frames.settings import DEFAULT_WINDOW, KNOWN, Setting, check_setting
from frames.stream import Stream, StreamInput, StreamState
from frames.streamids import Role
from frames.window import raised


class Control(Sending):
    """A connection that takes in everything but DATA."""

    _data_frames_at_ping = -1
    """``data_frames_sent`` when the last PING came."""
    _data_frames_counted = 0
    """Up to which of ``data_frames_sent`` the peer has earned its WINDOW_UPDATEs."""
    _octets_counted = 0
    _octets_granted = DEFAULT_WINDOW
    """Sum of all that the peer let us send on the connection."""

    def _control(self, frame_type: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Act on one frame.

        Raises:
          RemoteProtocolError: the connection is broken. A broken stream is reset right here.
        """
        self._require_a_reader()
        try:
            _HANDLERS[frame_type](self, flags, stream_id, payload)
        except StreamProtocolError as exc:
            self._break_stream(exc)

    def _break_stream(self, exc: StreamProtocolError) -> None:
        """Reset a stream that the peer broke, and say so; an idle one breaks the connection."""
        if self._ids.is_idle(exc.stream_id):
            raise RemoteProtocolError(exc.code, str(exc)) from exc
        self._allowances.spend(Work.STREAM_ERROR)
        self._reply(frame.serialize_u32(FrameType.RST_STREAM, exc.stream_id, exc.code))
        stream = self.streams.get(exc.stream_id)
        if stream is None:
            # Refused before it became a stream, or gone already: what crosses our reset is not
            # held against the peer.
            self._ids.remember(exc.stream_id, reset_by_us=True)
            return
        stream.move_local(StreamInput.SEND_RESET)
        self._forget(stream, reset_by_us=True)
        self.on_event(StreamReset(stream.id, exc.code, by_peer=False, reason=str(exc)))

    def _reply(self, octets: bytes) -> None:
        """Queue what the peer made us say; one that does not read gets no unbounded queue."""
        self._queued_replies += 1
        if self._queued_replies > self.limits.max_queued_replies:
            raise too_much(f"{self._queued_replies} answers wait to be read")
        self.tx.append(octets)

    def _require_a_reader(self) -> None:
        """Refuse to be made to say more while too much waits to be read."""
        if self.tx.length > self.limits.max_unsent:
            raise too_much(f"{self.tx.length} octets wait to be read")

    # -- header blocks ------------------------------------------------------------------------

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise _on_stream_zero("HEADERS")
        if flags & Flag.PADDED:
            payload = frame.strip_padding("HEADERS", payload)
        if flags & Flag.PRIORITY:
            payload = self._strip_priority(stream_id, payload)
        self._reader.begin(stream_id, payload, end_stream=bool(flags & Flag.END_STREAM))
        if flags & Flag.END_HEADERS:
            self._end_block(stream_id)

    def _strip_priority(self, stream_id: int, payload: bytes) -> bytes:
        """RFC 9113 section 5.3.2: parsed, and ignored but for what RFC 7540 section 5.3.1 called
        an error. Raised before the block is decoded, so it is the connection's."""
        if len(payload) < 5:
            raise frame.size_error("HEADERS", len(payload), "5 or more, having a priority")
        if _dependency(payload) == stream_id:
            raise protocol_error(f"stream {stream_id} depends on itself")
        return payload[5:]

    def _continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._reader.stream_id is None:
            raise protocol_error("CONTINUATION without a header block before it")
        self._reader.go_on(payload)
        if flags & Flag.END_HEADERS:
            self._end_block(stream_id)

    def _end_block(self, stream_id: int) -> None:
        section, end_stream = self._reader.end(), self._reader.end_stream
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._later_headers(stream, section, end_stream)
        elif not self._ids.is_idle(stream_id):
            self._late_headers(stream_id)
        elif self.role is Role.SERVER and self._ids.is_peers(stream_id):
            self._request(stream_id, section, end_stream)
        else:
            raise protocol_error(f"HEADERS on idle stream {stream_id}")

    def _late_headers(self, stream_id: int) -> None:
        """HEADERS on a stream that is gone; no matter if they crossed a reset of ours."""
        if self._ids.was_skipped(stream_id):
            text = f"HEADERS on stream {stream_id} after a higher one, {self._ids.highest}"
            raise protocol_error(text)
        if self._ids.ended_by_peer(stream_id):
            text = f"HEADERS on stream {stream_id}, which has ended"
            raise RemoteProtocolError(ErrorCode.STREAM_CLOSED, text)

    def _request(self, stream_id: int, section: Headers, end_stream: bool) -> None:
        self._ids.highest = stream_id
        if self._ids.is_refused(stream_id):
            return
        if self._peer_streams >= self.limits.max_concurrent_streams:
            text = f"more than {self.limits.max_concurrent_streams} streams at once"
            raise StreamProtocolError(stream_id, ErrorCode.REFUSED_STREAM, text)
        extended = bool(self._local.greatest(Setting.ENABLE_CONNECT_PROTOCOL))
        method = headers.check_request(stream_id, section, extended)
        is_connect = method == b"CONNECT"
        length = None if is_connect else headers.content_length(stream_id, section)
        if end_stream and length:
            raise _short_body(stream_id, length)
        stream = self._new_stream(stream_id)
        self._peer_streams += 1
        stream.is_connect = is_connect
        stream.body_left = length
        stream.move_remote(StreamInput.RECV_HEADERS)
        stream.got_head()
        self._end_remote(stream, end_stream)
        self.on_event(RequestReceived(stream_id, section, end_stream))

    def _later_headers(self, stream: Stream, section: Headers, end_stream: bool) -> None:
        """A response (client role), or trailers (both)."""
        stream.move_remote(StreamInput.RECV_HEADERS)
        if stream.head_received:
            self._trailers(stream, section, end_stream)
            return
        status = headers.check_response(stream.id, section)
        if status.startswith(b"1"):
            if end_stream:
                raise stream_error(stream.id, f"response {status!r} ends the stream")
            self._allowances.spend(Work.INFORMATIONAL)
            self.on_event(InformationalReceived(stream.id, section))
            return
        stream.is_connect = stream.is_connect and status.startswith(b"2")
        if not stream.is_connect:
            to_head = stream.is_head
            stream.body_left = headers.response_length(stream.id, section, status, to_head)
        stream.got_head()
        self._end_remote(stream, end_stream)
        self.on_event(ResponseReceived(stream.id, section, end_stream))

    def _trailers(self, stream: Stream, section: Headers, end_stream: bool) -> None:
        if stream.is_connect:
            raise stream_error(stream.id, "HEADERS on a connected stream (section 8.5)")
        if not end_stream:
            raise stream_error(stream.id, "trailers do not end the stream")
        headers.check_trailers(stream.id, section)
        self._end_remote(stream, end_stream)
        self.on_event(TrailersReceived(stream.id, section))

    def _end_remote(self, stream: Stream, end_stream: bool) -> None:
        """The peer has said all it will on ``stream``, if ``end_stream``."""
        if not end_stream:
            return
        if stream.body_left:
            raise _short_body(stream.id, stream.body_left)
        stream.move_remote(StreamInput.RECV_END)
        if stream.state is StreamState.CLOSED:
            self._forget(stream, reset_by_us=False)

    # -- streams ------------------------------------------------------------------------------

    def _priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise _on_stream_zero("PRIORITY")
        self._allowances.spend(Work.IGNORED)
        if len(payload) != 5:
            text = f"PRIORITY frame of {len(payload)} octets, allowed: 5"
            raise StreamProtocolError(stream_id, ErrorCode.FRAME_SIZE_ERROR, text)
        if _dependency(payload) == stream_id:
            raise stream_error(stream_id, "the stream depends on itself")

    def _rst_stream(self, flags: int, stream_id: int, payload: bytes) -> None:
        code = frame.parse_u32("RST_STREAM", payload)
        if not stream_id or self._ids.is_idle(stream_id):
            raise protocol_error(f"RST_STREAM on idle stream {stream_id}")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._allowances.spend(Work.IGNORED)
            return
        if not stream.head_sent:
            self._allowances.spend(Work.RESET)
        stream.move_remote(StreamInput.RECV_RESET)
        self._forget(stream, reset_by_us=False)
        self.on_event(StreamReset(stream_id, code, by_peer=True))

    def _push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise protocol_error("PUSH_PROMISE, which was never allowed")

    def _window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        increment = frame.parse_u32("WINDOW_UPDATE", payload) & 0x7FFFFFFF
        self._earn_window_updates()
        self._allowances.spend(Work.WINDOW_UPDATE)
        if stream_id and self._ids.is_idle(stream_id):
            raise protocol_error(f"WINDOW_UPDATE on idle stream {stream_id}")
        if not increment:
            text = f"WINDOW_UPDATE of 0 octets on stream {stream_id}"
            raise stream_error(stream_id, text) if stream_id else protocol_error(text)
        if not stream_id:
            self.send_window = raised(self.send_window, increment, 0)
            self._octets_granted += increment
            if self.blocked and self.send_window > 0:
                self.blocked = False
                self.on_event(WindowOpened(0))
            return
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.send_window = raised(stream.send_window, increment, stream_id)
            self._announce_window(stream)

    def _earn_window_updates(self) -> None:
        """DATA that we sent earns the peer two for each frame, and two for each 4 KiB: some
        credit each piece as they read it."""
        frames = self.data_frames_sent - self._data_frames_counted
        octets = self._octets_granted - self.send_window - self._octets_counted
        if frames:
            self._allowances.grant(Work.WINDOW_UPDATE, 2 * frames + (octets >> 11))
            self._data_frames_counted += frames
            self._octets_counted += octets

    def _announce_window(self, stream: Stream) -> None:
        """Tell a sender who waits for ``stream``'s window that it is open."""
        if stream.blocked and stream.send_window > 0:
            stream.blocked = False
            self.on_event(WindowOpened(stream.id))

    # -- the connection -----------------------------------------------------------------------

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise protocol_error(f"SETTINGS on stream {stream_id}")
        if flags & Flag.ACK:
            self._settings_acknowledged(payload)
            return
        settings = frame.parse_settings(payload)
        if len(settings) > self.limits.max_settings:
            raise too_much(f"{len(settings)} settings, allowed: {self.limits.max_settings}")
        for code, value in settings:
            check_setting(code, value)
        self._allowances.spend(Work.SETTINGS)
        for code, value in settings:
            if code == Setting.HEADER_TABLE_SIZE:  # the least of all counts, not only the last
                self._writer.limit_table(value)
        for code, value in dict(settings).items():
            if code in KNOWN:
                self._apply(code, value)
        self._reply(frame.serialize(FrameType.SETTINGS, Flag.ACK, 0))
        self.on_event(SettingsReceived(dict(settings)))
        for stream in list(self.streams.values()):
            self._announce_window(stream)

    def _settings_acknowledged(self, payload: bytes) -> None:
        if payload:
            raise frame.size_error("SETTINGS ACK", len(payload), "0")
        if not self._local.acknowledge():
            self._allowances.spend(Work.SETTINGS)
            return
        self._enforce_settings()
        self.on_event(SettingsAcknowledged())

    def _apply(self, code: int, value: int) -> None:
        if code == Setting.INITIAL_WINDOW_SIZE:
            self._move_send_windows(value - self.peer[code])
        elif code == Setting.MAX_FRAME_SIZE:
            self.peer_max_frame = value
        elif code == Setting.ENABLE_PUSH and value and self.role is Role.CLIENT:
            raise protocol_error("a server announced ENABLE_PUSH")
        elif code == Setting.ENABLE_CONNECT_PROTOCOL and not value and self.peer[code]:
            raise protocol_error("ENABLE_CONNECT_PROTOCOL taken back")
        self.peer[code] = value

    def _move_send_windows(self, change: int) -> None:
        for stream in self.streams.values():
            try:
                stream.send_window = raised(stream.send_window, change, stream.id)
            except StreamProtocolError as exc:  # section 6.9.2: an error of the connection
                raise RemoteProtocolError(exc.code, str(exc)) from exc

    def _ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise protocol_error(f"PING on stream {stream_id}")
        if len(payload) != 8:
            raise frame.size_error("PING", len(payload), "8")
        if flags & Flag.ACK:
            self._ping_acknowledged(payload)
            return
        if self.data_frames_sent == self._data_frames_at_ping:
            self._allowances.spend(Work.PING)
        self._data_frames_at_ping = self.data_frames_sent
        self._reply(frame.serialize(FrameType.PING, Flag.ACK, 0, payload))

    def _ping_acknowledged(self, payload: bytes) -> None:
        if self._unanswered_pings:
            self._unanswered_pings -= 1
        else:  # an answer to nothing
            self._allowances.spend(Work.PING)
        self.on_event(PingAcknowledged(payload))

    def _goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise protocol_error(f"GOAWAY on stream {stream_id}")
        last, code, debug = frame.parse_goaway(payload)
        self._allowances.spend(Work.GOAWAY)
        self.state = ConnectionState.DRAINING
        refused = [s for s in self.streams.values() if s.id > last and not self._ids.is_peers(s.id)]
        for stream in refused:
            stream.move_remote(StreamInput.RECV_RESET)
            self._forget(stream, reset_by_us=True)
        self.on_event(GoAwayReceived(last, code, debug[: self.limits.max_debug_data]))
        for stream in refused:
            self._tell_refused(stream)

    def _tell_refused(self, stream: Stream) -> None:
        if self.state is not ConnectionState.CLOSED:
            self.on_event(StreamReset(stream.id, ErrorCode.REFUSED_STREAM, by_peer=True))


_HANDLERS: dict[int, Callable[[Control, int, int, bytes], None]] = {
    FrameType.HEADERS: Control._headers,
    FrameType.PRIORITY: Control._priority,
    FrameType.RST_STREAM: Control._rst_stream,
    FrameType.SETTINGS: Control._settings,
    FrameType.PUSH_PROMISE: Control._push_promise,
    FrameType.PING: Control._ping,
    FrameType.GOAWAY: Control._goaway,
    FrameType.WINDOW_UPDATE: Control._window_update,
    FrameType.CONTINUATION: Control._continuation,
}


def _dependency(payload: bytes) -> int:
    return int.from_bytes(payload[:4], "big") & 0x7FFFFFFF


def _on_stream_zero(name: str) -> RemoteProtocolError:
    return protocol_error(f"{name} on stream 0")


def _short_body(stream_id: int, missing: int) -> StreamProtocolError:
    return stream_error(stream_id, f"{missing} octets less than content-length")
