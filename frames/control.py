"""Complete frames other than DATA: what the peer says with them, and what follows.

`connection.Connection` cuts the octets into frames and calls `Control._control` for these.
"""

from collections.abc import Callable
from typing import Any

import hpack

from frames import frame, headers
from frames.errors import ErrorCode, RemoteProtocolError, StreamProtocolError
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
from frames.sending import ConnectionState, Role, Sending
from frames.settings import DEFAULT_TABLE_SIZE, Setting, check_setting
from frames.stream import Stream, StreamInput, StreamState
from frames.window import raised


class Control(Sending):
    """A connection that takes in everything but DATA."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._decoder = hpack.Decoder(self.limits.max_header_list)
        self._block = b""
        self._block_head: tuple[int, bool] | None = None
        """While a header block is incomplete: stream id, and whether it ends the stream."""
        self._continuations = 0
        self._frames_counted = 0

    def _control(self, frame_type: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Act on one frame.

        Raises:
          RemoteProtocolError: the connection is broken. A broken stream is reset right here.
        """
        try:
            _HANDLERS[frame_type](self, flags, stream_id, payload)
        except StreamProtocolError as exc:
            self._break_stream(exc)

    def _break_stream(self, exc: StreamProtocolError) -> None:
        """Reset a stream that the peer broke, and say so; an idle one breaks the connection."""
        if self._is_idle(exc.stream_id):
            raise RemoteProtocolError(exc.code, str(exc)) from exc
        self._allowances.spend(Work.STREAM_ERROR)
        stream = self.streams.get(exc.stream_id)
        self._reply(frame.serialize_u32(FrameType.RST_STREAM, exc.stream_id, exc.code))
        if stream is not None:
            stream.move_local(StreamInput.SEND_RESET)
            stream.receiver = None
            self._forget(stream, reset_by_us=True)
            self.on_event(StreamReset(stream.id, exc.code, by_peer=False, reason=str(exc)))

    def _reply(self, octets: bytes) -> None:
        """Queue what the peer made us say; one that does not read gets no unbounded queue."""
        self._queued_replies += 1
        if self._queued_replies > self.limits.max_queued_replies:
            text = f"{self._queued_replies} answers wait to be read"
            raise RemoteProtocolError(ErrorCode.ENHANCE_YOUR_CALM, text)
        self.tx.append(octets)

    def _is_idle(self, stream_id: int) -> bool:
        if self._is_peers(stream_id):
            return stream_id > self._highest_peer_id
        return stream_id >= self._next_id

    # -- header blocks ------------------------------------------------------------------------

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise _on_stream_zero("HEADERS")
        if flags & Flag.PADDED:
            payload = frame.strip_padding("HEADERS", payload)
        self._block_head = stream_id, bool(flags & Flag.END_STREAM)
        self._continuations = 0
        depends_on_itself = False
        if flags & Flag.PRIORITY:
            if len(payload) < 5:
                raise frame.size_error("HEADERS", len(payload), "5 or more, having a priority")
            depends_on_itself = _dependency(payload) == stream_id
            payload = payload[5:]
        self._block = payload
        if flags & Flag.END_HEADERS:
            self._end_block()
        if depends_on_itself:
            raise _depends_on_itself(stream_id)

    def _continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block_head is None:
            raise _protocol_error("CONTINUATION without a header block before it")
        self._continuations += 1
        size = len(self._block) + len(payload)
        if self._continuations > self.limits.max_continuations:
            raise _too_much(f"more than {self.limits.max_continuations} CONTINUATION frames")
        if size > self.limits.max_header_block:
            raise _too_much(f"header block of {size} octets or more")
        self._block += payload
        if flags & Flag.END_HEADERS:
            self._end_block()

    def _end_block(self) -> None:
        assert self._block_head is not None
        (stream_id, end_stream), block = self._block_head, self._block
        self._block_head, self._block = None, b""
        try:
            section: Headers = list(self._decoder.decode(block, raw=True))
        except hpack.OversizedHeaderListError as exc:
            raise _too_much(f"header list over {self.limits.max_header_list} octets") from exc
        except hpack.HPACKError as exc:
            raise RemoteProtocolError(ErrorCode.COMPRESSION_ERROR, f"HPACK: {exc}") from exc
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._later_headers(stream, section, end_stream)
        elif self.role is Role.SERVER and self._is_peers(stream_id) and self._is_idle(stream_id):
            self._request(stream_id, section, end_stream)
        elif self._is_idle(stream_id):
            raise _protocol_error(f"HEADERS on idle stream {stream_id}")
        elif not self._ended.get(stream_id, True):
            text = f"HEADERS on stream {stream_id}, which has ended"
            raise RemoteProtocolError(ErrorCode.STREAM_CLOSED, text)
        # else: it crossed a reset of ours, or ended too long ago to tell.

    def _request(self, stream_id: int, section: Headers, end_stream: bool) -> None:
        self._highest_peer_id = stream_id
        if self._refused_above is not None and stream_id > self._refused_above:
            return
        if self._peer_streams >= self.limits.max_concurrent_streams:
            text = f"more than {self.limits.max_concurrent_streams} streams at once"
            raise StreamProtocolError(stream_id, ErrorCode.REFUSED_STREAM, text)
        extended = bool(self.local.get(Setting.ENABLE_CONNECT_PROTOCOL))
        method = headers.check_request(stream_id, section, extended)
        length = headers.content_length(stream_id, section)
        stream = self._new_stream(stream_id)
        self._peer_streams += 1
        stream.is_connect = method == b"CONNECT"
        stream.body_left = None if stream.is_connect else length
        stream.head_received = True
        stream.move_remote(StreamInput.RECV_HEADERS)
        self._end_remote(stream, end_stream)
        self.on_event(RequestReceived(stream_id, section, end_stream))

    def _later_headers(self, stream: Stream, section: Headers, end_stream: bool) -> None:
        """A response (client role), or trailers (both)."""
        stream.move_remote(StreamInput.RECV_HEADERS)
        if self.role is Role.SERVER or stream.head_received:
            self._trailers(stream, section, end_stream)
            return
        status = headers.check_response(stream.id, section)
        if status.startswith(b"1"):
            if end_stream:
                raise _stream_error(stream.id, f"response {status!r} ends the stream")
            self.on_event(InformationalReceived(stream.id, section))
            return
        stream.head_received = True
        if stream.is_connect and not status.startswith(b"2"):
            stream.is_connect = False
        no_body = stream.body_left == 0 or not headers.has_body(b"", status)
        if not stream.is_connect:
            length = headers.content_length(stream.id, section)
            stream.body_left = 0 if no_body else length
        self._end_remote(stream, end_stream)
        self.on_event(ResponseReceived(stream.id, section, end_stream))

    def _trailers(self, stream: Stream, section: Headers, end_stream: bool) -> None:
        if stream.is_connect:
            raise _stream_error(stream.id, "HEADERS on a connected stream (section 8.5)")
        if not end_stream:
            raise _stream_error(stream.id, "trailers do not end the stream")
        headers.check_trailers(stream.id, section)
        self._end_remote(stream, end_stream)
        self.on_event(TrailersReceived(stream.id, section))

    def _end_remote(self, stream: Stream, end_stream: bool) -> None:
        """The peer has said all it will on ``stream``, if ``end_stream``."""
        if not end_stream:
            return
        if stream.body_left:
            raise _stream_error(stream.id, f"{stream.body_left} octets less than content-length")
        stream.move_remote(StreamInput.RECV_END)
        if stream.state is StreamState.CLOSED:
            self._forget(stream, reset_by_us=False)

    # -- the rest -----------------------------------------------------------------------------

    def _priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise _on_stream_zero("PRIORITY")
        self._allowances.spend(Work.IGNORED)
        if len(payload) != 5:
            text = f"PRIORITY frame of {len(payload)} octets, allowed: 5"
            raise StreamProtocolError(stream_id, ErrorCode.FRAME_SIZE_ERROR, text)
        if _dependency(payload) == stream_id:
            raise _depends_on_itself(stream_id)

    def _rst_stream(self, flags: int, stream_id: int, payload: bytes) -> None:
        code = frame.parse_u32("RST_STREAM", payload)
        if not stream_id or self._is_idle(stream_id):
            raise _protocol_error(f"RST_STREAM on idle stream {stream_id}")
        self._allowances.spend(Work.RESET)
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        stream.move_remote(StreamInput.RECV_RESET)
        stream.receiver = None
        self._forget(stream, reset_by_us=False)
        self.on_event(StreamReset(stream_id, code, by_peer=True))

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise _protocol_error(f"SETTINGS on stream {stream_id}")
        if flags & Flag.ACK:
            self._settings_acknowledged(payload)
            return
        settings = frame.parse_settings(payload)
        for code, value in settings:
            check_setting(code, value)
        self._allowances.spend(Work.SETTINGS)
        for code, value in settings:
            self._apply(code, value)
        self._reply(frame.serialize(FrameType.SETTINGS, Flag.ACK, 0))
        self.on_event(SettingsReceived(dict(settings)))
        self._announce_windows()

    def _settings_acknowledged(self, payload: bytes) -> None:
        if payload:
            raise frame.size_error("SETTINGS ACK", len(payload), "0")
        if not self._unacknowledged_settings:
            self._allowances.spend(Work.SETTINGS)
            return
        settings = self._unacknowledged_settings.pop(0)
        window = settings.get(Setting.INITIAL_WINDOW_SIZE, self._initial_window)
        if window < self._initial_window:
            self._change_initial_window(window)
        self.local = {**self.local, **settings}
        self.on_event(SettingsAcknowledged())

    def _apply(self, code: int, value: int) -> None:
        if code == Setting.INITIAL_WINDOW_SIZE:
            change = value - self.peer[code]
            for stream in self.streams.values():
                try:
                    stream.send_window = raised(stream.send_window, change, stream.id)
                except StreamProtocolError as exc:  # section 6.9.2: of the connection
                    raise RemoteProtocolError(exc.code, str(exc)) from exc
        elif code == Setting.MAX_FRAME_SIZE:
            self.peer_max_frame = value
        elif code == Setting.HEADER_TABLE_SIZE:
            self._encoder.header_table_size = min(value, DEFAULT_TABLE_SIZE)
        elif code == Setting.ENABLE_PUSH and value and self.role is Role.CLIENT:
            raise _protocol_error("a server announced ENABLE_PUSH")
        elif code == Setting.ENABLE_CONNECT_PROTOCOL and not value and self.peer[code]:
            raise _protocol_error("ENABLE_CONNECT_PROTOCOL taken back")
        self.peer[code] = value

    def _announce_windows(self) -> None:
        for stream in list(self.streams.values()):
            if stream.blocked and stream.send_window > 0:
                stream.blocked = False
                self.on_event(WindowOpened(stream.id))

    def _push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise _protocol_error("PUSH_PROMISE, which was never allowed")

    def _ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise _protocol_error(f"PING on stream {stream_id}")
        if len(payload) != 8:
            raise frame.size_error("PING", len(payload), "8")
        self._allowances.spend(Work.PING)
        if flags & Flag.ACK:
            self.on_event(PingAcknowledged(payload))
        else:
            self._reply(frame.serialize(FrameType.PING, Flag.ACK, 0, payload))

    def _goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise _protocol_error(f"GOAWAY on stream {stream_id}")
        last, code, debug = frame.parse_goaway(payload)
        self.state = ConnectionState.DRAINING
        refused = [s for s in self.streams.values() if not self._is_peers(s.id) and s.id > last]
        for stream in refused:
            stream.move_remote(StreamInput.RECV_RESET)
            stream.receiver = None
            self._forget(stream, reset_by_us=True)
        self.on_event(GoAwayReceived(last, code, debug[: self.limits.max_debug_data]))
        for stream in refused:
            self.on_event(StreamReset(stream.id, ErrorCode.REFUSED_STREAM, by_peer=True))

    def _window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        increment = frame.parse_u32("WINDOW_UPDATE", payload) & 0x7FFFFFFF
        if self._frames_counted != self.data_frames_sent:
            earned = 2 * (self.data_frames_sent - self._frames_counted)
            self._allowances.grant(Work.WINDOW_UPDATE, earned)
            self._frames_counted = self.data_frames_sent
        self._allowances.spend(Work.WINDOW_UPDATE)
        if stream_id and self._is_idle(stream_id):
            raise _protocol_error(f"WINDOW_UPDATE on idle stream {stream_id}")
        if not increment:
            error = _stream_error if stream_id else _connection_error
            raise error(stream_id, "WINDOW_UPDATE of 0 octets")
        if not stream_id:
            self.send_window = raised(self.send_window, increment, 0)
            if self.blocked and self.send_window > 0:
                self.blocked = False
                self.on_event(WindowOpened(0))
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        stream.send_window = raised(stream.send_window, increment, stream_id)
        if stream.blocked and stream.send_window > 0:
            stream.blocked = False
            self.on_event(WindowOpened(stream_id))


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


def _depends_on_itself(stream_id: int) -> StreamProtocolError:
    return _stream_error(stream_id, "the stream depends on itself")


def _on_stream_zero(name: str) -> RemoteProtocolError:
    return _protocol_error(f"{name} on stream 0")


def _protocol_error(text: str) -> RemoteProtocolError:
    return RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, text)


def _connection_error(stream_id: int, text: str) -> RemoteProtocolError:
    return _protocol_error(text)


def _stream_error(stream_id: int, text: str) -> StreamProtocolError:
    return StreamProtocolError(stream_id, ErrorCode.PROTOCOL_ERROR, text)


def _too_much(text: str) -> RemoteProtocolError:
    return RemoteProtocolError(ErrorCode.ENHANCE_YOUR_CALM, text)
