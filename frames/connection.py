"""One HTTP/2 connection (RFC 9113), either role: octets in, cut into frames; DATA straight on.

Push-style, because an object for each DATA frame costs more than everything else: the octets of
a stream go by a direct call to its receiver, as a view of the transport's own buffer; what is
rarer is an event. `buffered.BufferedConnection` puts both into one list of events.
"""

from frames import frame
from frames.control import Control
from frames.errors import (
    ErrorCode,
    RemoteProtocolError,
    StreamProtocolError,
    protocol_error,
    stream_error,
    too_much,
)
from frames.frame import HEADER, HEADER_SIZE, PREFACE, Flag, FrameType
from frames.limits import Work
from frames.sending import ConnectionState
from frames.stream import Stream, StreamState
from frames.streamids import Role

# Enum members cost an attribute look-up each; these are asked for with every frame.
_CLOSED = ConnectionState.CLOSED
_STREAM_CLOSED = StreamState.CLOSED
_DATA = FrameType.DATA.value
_END_STREAM = Flag.END_STREAM.value
_PADDED = Flag.PADDED.value
_unpack_header = HEADER.unpack_from

_KNOWN = frozenset(FrameType)
_HEADER_BLOCKS = frozenset({FrameType.HEADERS, FrameType.CONTINUATION})
_MAX_CONTROL_FRAME = 16 * 1024
"""Longest frame other than DATA and header blocks; RFC 9113 knows none so long but SETTINGS and
GOAWAY, and none of those in earnest."""
_PRIORITY_AND_PADDING = 5 + 256


class Connection(Control):
    """A whole connection. See `Sending` for its arguments and all it can be made to say."""

    _preface_taken = 0
    _first_frame = True
    _special = True
    """Whether the next frame may not be any: the first, or one amid a header block."""
    _payload_left = 0
    _padding_left = 0
    """Octets of the current frame still to come: of DATA, and to be skipped after that."""
    _current: Stream | None = None
    _current_end = 0
    """Whose DATA the current frame is, None if nobody wants it; not 0 if it ends the stream."""

    def receive(self, data: memoryview) -> int:
        """Take in octets from the transport.

        Args:
          data: starts where the last call stopped: what that call left over, then what came
            since. DATA is passed on before its frame is complete, so what is left over is less
            than `max_kept` octets.
        Returns:
          How many octets were used up; all of them once the connection is closed.
        Raises:
          RemoteProtocolError: the peer broke the connection. It is closed; the GOAWAY that says
            why is in the transmit buffer.
        """
        if self.state is _CLOSED:
            return len(data)
        try:
            return self._parse(data, len(data))
        except RemoteProtocolError as exc:
            self.send_goaway(exc.code, str(exc).encode()[:200])
            raise

    @property
    def max_kept(self) -> int:
        """Octets that `receive` may leave over, at most."""
        return HEADER_SIZE + max(_MAX_CONTROL_FRAME, self._max_block_frame)

    @property
    def _max_block_frame(self) -> int:
        return self.limits.max_header_block + _PRIORITY_AND_PADDING

    def _parse(self, data: memoryview, end: int) -> int:
        pos = 0
        if self._special and self.role is Role.SERVER:
            pos = self._parse_preface(data, end)
        elif self._payload_left or self._padding_left:
            pos = self._continue_data(data, end)
        while end - pos >= HEADER_SIZE and self.state is not _CLOSED:
            length_type, flags, stream_id = _unpack_header(data, pos)
            length = length_type >> 8
            frame_type = length_type & 0xFF
            stream_id &= 0x7FFFFFFF
            if length > self.max_frame:
                text = f"frame of {length} octets, allowed: {self.max_frame}"
                raise RemoteProtocolError(ErrorCode.FRAME_SIZE_ERROR, text)
            if self._special:
                self._check_special(frame_type, flags, stream_id)
            body = pos + HEADER_SIZE
            stop = body + length
            if frame_type != _DATA:
                if frame_type not in _KNOWN:
                    pos = self._skip(stop, end)
                    continue
                self._check_length(frame_type, length)
                if stop > end:
                    break
                self._control(frame_type, flags, stream_id, bytes(data[body:stop]))
                self._first_frame = False
                self._special = self._reader.stream_id is not None
                pos = stop
            elif flags & _PADDED:
                if body == end and length:
                    break
                pos = self._padded(data, body, end, length, flags, stream_id)
            else:
                ends = flags & _END_STREAM
                stream = self._account(stream_id, length, length, ends)
                if stop <= end:
                    if stream is not None:
                        if ends or stream.receiver is None:
                            self._deliver(stream, data[body:stop], ends)
                        else:
                            stream.receiver(data[body:stop], False)
                    pos = stop
                else:
                    self._begin_rest(stream, stop - end, 0, ends)
                    if stream is not None and body < end:
                        self._deliver(stream, data[body:end], 0)
                    pos = end
        return end if self.state is _CLOSED else pos

    # -- DATA ---------------------------------------------------------------------------------

    def _account(self, stream_id: int, length: int, payload: int, ends: int) -> Stream | None:
        """Charge a DATA frame to both windows; its stream, or None where nobody wants it.

        Args:
          length: octets that count for flow control, padding included.
          payload: octets of the stream among them.
          ends: not 0 if the frame ends the stream.
        """
        self.receive_window -= length
        if self.receive_window < 0:
            text = f"{-self.receive_window} octets over the connection's window"
            raise RemoteProtocolError(ErrorCode.FLOW_CONTROL_ERROR, text)
        self._unacked += length
        if self._unacked >= self._window_size >> 1:
            self._credit_connection()
        stream = self.streams.get(stream_id)
        if (
            stream is not None
            and stream.takes_data
            and payload <= length <= stream.receive_window
            and payload
            and stream.body_left is None
        ):  # all but always
            stream.receive_window -= length
            return stream
        try:
            if stream is None:
                self._unwanted(stream_id)
            elif not stream.takes_data:
                raise self._not_now(stream)
            else:
                stream.receive_window -= length
                # Below zero by a smaller initial window of ours, it still takes a mere END_STREAM.
                if stream.receive_window < 0 and length:
                    text = f"{-stream.receive_window} octets over the stream's window"
                    raise StreamProtocolError(stream_id, ErrorCode.FLOW_CONTROL_ERROR, text)
                if stream.body_left is not None:
                    self._count_body(stream, payload, ends)
        except StreamProtocolError as exc:
            self._break_stream(exc)
            return None
        if not payload and not ends:
            self._allowances.spend(Work.EMPTY_DATA)
            if length and stream is not None:
                self.consume(stream, length)
            return None
        return stream

    def _credit_connection(self) -> None:
        self._require_a_reader()
        self.budget.count(self._unacked)
        self.receive_window += self._unacked
        self._send_window_update(0, self._unacked)
        self._unacked = 0

    def _unwanted(self, stream_id: int) -> None:
        """DATA for a stream that there is not; no matter if it crossed a reset of ours."""
        if not stream_id or self._ids.is_idle(stream_id) or self._ids.was_skipped(stream_id):
            raise protocol_error(f"DATA on idle stream {stream_id}")
        if self._ids.ended_by_peer(stream_id):
            text = f"DATA on stream {stream_id}, which has ended"
            raise StreamProtocolError(stream_id, ErrorCode.STREAM_CLOSED, text)

    def _not_now(self, stream: Stream) -> StreamProtocolError:
        if stream.can_receive:
            return stream_error(stream.id, "DATA before HEADERS")
        text = f"DATA on stream {stream.id}, which is {stream.state.value}"
        return StreamProtocolError(stream.id, ErrorCode.STREAM_CLOSED, text)

    def _count_body(self, stream: Stream, payload: int, ends: int) -> None:
        assert stream.body_left is not None
        stream.body_left -= payload
        if stream.body_left < 0 or (ends and stream.body_left):
            text = f"body differs from content-length by {abs(stream.body_left)} octets"
            raise stream_error(stream.id, text)

    def _deliver(self, stream: Stream, octets: memoryview, ends: int) -> None:
        receiver = stream.receiver
        if ends:
            self._end_remote(stream, True)
        if receiver is not None:
            receiver(octets, ends != 0)
        elif stream.state is not _STREAM_CLOSED:
            self.consume(stream, len(octets))

    def _padded(
        self, data: memoryview, body: int, end: int, length: int, flags: int, stream_id: int
    ) -> int:
        """A DATA frame with padding; its length octet is there. Returns where it stops for now."""
        if not length:
            raise frame.size_error("DATA", 0, "1 or more, being padded")
        padding = data[body]
        if padding >= length:
            raise frame.padding_error("DATA", padding, length)
        payload, ends = length - 1 - padding, flags & _END_STREAM
        stream = self._account(stream_id, length, payload, ends)
        if stream is not None:
            self.consume(stream, 1 + padding)
        self._begin_rest(stream, payload, padding, ends)
        start = body + 1
        if not payload and ends and stream is not None:
            self._deliver(stream, data[start:start], ends)
        return start + self._continue_data(data[start:end], end - start)

    def _begin_rest(self, stream: Stream | None, payload: int, padding: int, ends: int) -> None:
        self._current, self._current_end = stream, ends
        self._payload_left, self._padding_left = payload, padding

    def _continue_data(self, data: memoryview, end: int) -> int:
        """Go on with the frame that an earlier call began; returns how many octets it took."""
        take = min(self._payload_left, end)
        self._payload_left -= take
        stream = self._current
        if not self._payload_left:
            self._current = None
        # The receiver, or whoever was called since, may have reset the stream amid the frame.
        if take and stream is not None and stream.state is not _STREAM_CLOSED:
            self._deliver(stream, data[:take], 0 if self._payload_left else self._current_end)
        skip = min(self._padding_left, end - take)
        self._padding_left -= skip
        return take + skip

    # -- everything else ----------------------------------------------------------------------

    def _parse_preface(self, data: memoryview, end: int) -> int:
        """Section 3.4; returns how many octets of the client's preface came with ``data``."""
        expected = PREFACE[self._preface_taken :][:end]
        size = len(expected)
        if data[:size] != expected:
            raise protocol_error("the client's first octets are not the HTTP/2 preface")
        self._preface_taken += size
        return size

    def _check_special(self, frame_type: int, flags: int, stream_id: int) -> None:
        """The first frame must be SETTINGS; amid a header block only its CONTINUATION may come."""
        if self._first_frame:
            if frame_type != FrameType.SETTINGS or flags & Flag.ACK:
                raise protocol_error(f"first frame is of type {frame_type}, must be SETTINGS")
        elif frame_type != FrameType.CONTINUATION or stream_id != self._reader.stream_id:
            text = f"frame of type {frame_type} on stream {stream_id} amid a header block"
            raise protocol_error(text)

    def _check_length(self, frame_type: int, length: int) -> None:
        """Refuse a frame before its octets are kept, or copied."""
        limit = self._max_block_frame if frame_type in _HEADER_BLOCKS else _MAX_CONTROL_FRAME
        if length > limit:
            raise too_much(f"frame of type {frame_type} with {length} octets, allowed: {limit}")

    def _skip(self, stop: int, end: int) -> int:
        """Ignore a frame of unknown type (section 4.1), all of it that is there."""
        self._allowances.spend(Work.IGNORED)
        self._begin_rest(None, 0, max(0, stop - end), 0)
        return min(stop, end)
