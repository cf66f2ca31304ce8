"""One HTTP/2 connection (RFC 9113), either role: octets in, cut into frames; DATA straight on.

Push-style, because an object for each DATA frame costs more than everything else: the octets of
a stream go by a direct call to its receiver, as a view of the transport's own buffer; what is
rarer is an event. `buffered.BufferedConnection` puts both into one list of events.
"""

from typing import Any

from frames import frame
from frames.control import Control
from frames.errors import ErrorCode, RemoteProtocolError, StreamProtocolError
from frames.frame import HEADER, HEADER_SIZE, PREFACE, Flag, FrameType
from frames.limits import Work
from frames.sending import ConnectionState, Role
from frames.stream import Stream, StreamState

_DATA = FrameType.DATA.value
_END_STREAM = Flag.END_STREAM.value
_PADDED = Flag.PADDED.value
_KNOWN = frozenset(FrameType)
_HEADER_BLOCKS = frozenset({FrameType.HEADERS, FrameType.CONTINUATION})
_MAX_CONTROL_FRAME = 16 * 1024
"""Longest frame other than DATA and header blocks that is kept until it is complete."""
_PRIORITY_AND_PADDING = 5 + 256


class Connection(Control):
    """A whole connection. See `Sending` for its arguments and all it can be made to say."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._preface_left = PREFACE if self.role is Role.SERVER else b""
        self._first_frame = True
        self._special = True
        """Whether the next frame may not be any: the first, or one amid a header block."""
        self._payload_left = 0
        self._padding_left = 0
        """Octets of the current frame still to come: of DATA, and to be skipped after that."""
        self._current: Stream | None = None
        self._current_end = False

    def receive(self, data: memoryview) -> int:
        """Take in octets from the transport.

        Args:
          data: starts where the last call stopped: what that call left over, then what came
            since. DATA is passed on before its frame is complete, so what is left over is less
            than `max_kept` octets.
        Returns:
          How many octets were used up.
        Raises:
          RemoteProtocolError: the peer broke the connection; the GOAWAY that says so is in the
            transmit buffer.
        """
        if self.state is ConnectionState.CLOSED:
            return len(data)
        try:
            return self._parse(data, len(data))
        except RemoteProtocolError as exc:
            self.send_goaway(exc.code, str(exc).encode()[:200])
            raise

    @property
    def max_kept(self) -> int:
        """Octets that `receive` may leave over, at most."""
        block = self.limits.max_header_block + _PRIORITY_AND_PADDING
        return HEADER_SIZE + max(_MAX_CONTROL_FRAME, min(block, self.max_frame))

    def _parse(self, data: memoryview, end: int) -> int:
        pos = 0
        if self._preface_left:
            pos = self._parse_preface(data, end)
        elif self._payload_left or self._padding_left:
            pos = self._continue_data(data, end)
        while end - pos >= HEADER_SIZE and self.state is not ConnectionState.CLOSED:
            length_type, flags, stream_id = HEADER.unpack_from(data, pos)
            length = length_type >> 8
            stream_id &= 0x7FFFFFFF
            if length > self.max_frame:
                text = f"frame of {length} octets, allowed: {self.max_frame}"
                raise RemoteProtocolError(ErrorCode.FRAME_SIZE_ERROR, text)
            if self._special:
                self._check_special(length_type & 0xFF, flags, stream_id)
            body = pos + HEADER_SIZE
            stop = body + length
            if length_type & 0xFF != _DATA:
                if stop > end and self._must_wait(length_type & 0xFF, length):
                    break
                pos = self._other(length_type & 0xFF, flags, stream_id, data, body, stop, end)
            elif flags & _PADDED:
                if body == end:
                    break
                pos = self._padded(data, body, end, length, flags, stream_id)
            else:
                stream = self._account(stream_id, length, length, flags & _END_STREAM)
                if stop <= end:
                    if stream is not None:
                        self._deliver(stream, data[body:stop], flags & _END_STREAM)
                    pos = stop
                else:
                    self._begin_rest(stream, stop - end, 0, flags)
                    if stream is not None and body < end:
                        self._deliver(stream, data[body:end], 0)
                    pos = end
        return end if self.state is ConnectionState.CLOSED else pos

    # -- DATA ---------------------------------------------------------------------------------

    def _account(self, stream_id: int, length: int, payload: int, end: int) -> Stream | None:
        """Charge a DATA frame to both windows; its stream, or None where nobody wants it.

        Args:
          length: octets that count for flow control, padding included.
          payload: octets of the stream among them.
          end: not 0 if the frame ends the stream.
        """
        self.receive_window -= length
        if self.receive_window < 0:
            text = f"{-self.receive_window} octets over the connection's window"
            raise RemoteProtocolError(ErrorCode.FLOW_CONTROL_ERROR, text)
        self._unacked += length
        if self._unacked >= self._window_size >> 1:
            self.receive_window += self._unacked
            self._send_window_update(0, self._unacked)
            self._unacked = 0
        if not payload and not end:
            self._allowances.spend(Work.EMPTY_DATA)
        stream = self.streams.get(stream_id)
        try:
            if stream is None:
                self._unwanted(stream_id)
            elif not stream.can_receive or not stream.head_received:
                raise self._not_now(stream)
            else:
                stream.receive_window -= length
                if stream.receive_window < 0:
                    text = f"{-stream.receive_window} octets over the stream's window"
                    raise StreamProtocolError(stream_id, ErrorCode.FLOW_CONTROL_ERROR, text)
                if stream.body_left is not None:
                    self._count_body(stream, payload, end)
        except StreamProtocolError as exc:
            self._break_stream(exc)
            return None
        return stream

    def _unwanted(self, stream_id: int) -> None:
        """DATA for a stream that there is not."""
        if not stream_id or self._is_idle(stream_id):
            text = f"DATA on idle stream {stream_id}"
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, text)
        if not self._ended.get(stream_id, True):
            text = f"DATA on stream {stream_id}, which has ended"
            raise StreamProtocolError(stream_id, ErrorCode.STREAM_CLOSED, text)

    def _not_now(self, stream: Stream) -> StreamProtocolError:
        if stream.can_receive:
            return StreamProtocolError(stream.id, ErrorCode.PROTOCOL_ERROR, "DATA before HEADERS")
        text = f"DATA on stream {stream.id}, which is {stream.state.value}"
        return StreamProtocolError(stream.id, ErrorCode.STREAM_CLOSED, text)

    def _count_body(self, stream: Stream, payload: int, end: int) -> None:
        assert stream.body_left is not None
        stream.body_left -= payload
        if stream.body_left < 0 or (end and stream.body_left):
            text = f"body differs from content-length by {stream.body_left} octets"
            raise StreamProtocolError(stream.id, ErrorCode.PROTOCOL_ERROR, text)

    def _deliver(self, stream: Stream, octets: memoryview, end: int) -> None:
        receiver = stream.receiver
        if end and stream.state is not StreamState.CLOSED:
            self._end_remote(stream, True)
        if receiver is not None:
            receiver(octets, end != 0)
        elif stream.state is not StreamState.CLOSED:
            self.consume(stream, len(octets))

    def _padded(
        self, data: memoryview, body: int, end: int, length: int, flags: int, stream_id: int
    ) -> int:
        if not length:
            raise frame.size_error("DATA", 0, "1 or more, being padded")
        padding = data[body]
        if padding >= length:
            raise frame.padding_error("DATA", padding, length)
        payload = length - 1 - padding
        stream = self._account(stream_id, length, payload, flags & _END_STREAM)
        if stream is not None:
            self.consume(stream, 1 + padding)
        self._begin_rest(stream, payload, padding, flags)
        start = body + 1
        if not payload and stream is not None and self._current_end:
            self._deliver(stream, data[start:start], _END_STREAM)
        return start + self._continue_data(data[start:end], end - start)

    def _begin_rest(self, stream: Stream | None, payload: int, padding: int, flags: int) -> None:
        self._current, self._current_end = stream, bool(flags & _END_STREAM)
        self._payload_left, self._padding_left = payload, padding

    def _continue_data(self, data: memoryview, end: int) -> int:
        """Go on with the frame that an earlier call began; returns how many octets it took."""
        take = min(self._payload_left, end)
        self._payload_left -= take
        stream = self._current
        if take and stream is not None and stream.state is not StreamState.CLOSED:
            last = self._current_end and not self._payload_left
            self._deliver(stream, data[:take], _END_STREAM if last else 0)
        skip = min(self._padding_left, end - take)
        self._padding_left -= skip
        if not self._payload_left:
            self._current = None
        return take + skip

    # -- everything else ----------------------------------------------------------------------

    def _parse_preface(self, data: memoryview, end: int) -> int:
        size = min(len(self._preface_left), end)
        if data[:size] != self._preface_left[:size]:
            text = "the client's first octets are not the HTTP/2 preface"
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, text)
        self._preface_left = self._preface_left[size:]
        return size

    def _check_special(self, frame_type: int, flags: int, stream_id: int) -> None:
        """The first frame must be SETTINGS; amid a header block only its CONTINUATION may come."""
        if self._first_frame:
            if frame_type != FrameType.SETTINGS or flags & Flag.ACK:
                text = f"first frame is of type {frame_type}, must be SETTINGS"
                raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, text)
            return
        head = self._block_head
        if head is None or frame_type != FrameType.CONTINUATION or stream_id != head[0]:
            text = f"frame of type {frame_type} on stream {stream_id} amid a header block"
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, text)

    def _must_wait(self, frame_type: int, length: int) -> bool:
        """Whether an incomplete frame is kept until it is complete; an unknown one is skipped."""
        if frame_type not in _KNOWN:
            return False
        limit = _MAX_CONTROL_FRAME
        if frame_type in _HEADER_BLOCKS:
            limit = self.limits.max_header_block + _PRIORITY_AND_PADDING
        if length > limit:
            text = f"frame of type {frame_type} with {length} octets, allowed: {limit}"
            raise RemoteProtocolError(ErrorCode.ENHANCE_YOUR_CALM, text)
        return True

    def _other(
        self,
        frame_type: int,
        flags: int,
        stream_id: int,
        data: memoryview,
        body: int,
        stop: int,
        end: int,
    ) -> int:
        if frame_type not in _KNOWN:  # section 4.1: ignored
            self._allowances.spend(Work.IGNORED)
            self._begin_rest(None, 0, max(0, stop - end), 0)
            return min(stop, end)
        self._control(frame_type, flags, stream_id, bytes(data[body:stop]))
        self._first_frame = False
        self._special = self._block_head is not None
        return stop
