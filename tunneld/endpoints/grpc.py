"""Unary gRPC calls on one HTTP/2 connection of the `h2` library, server side; no I/O.

The endpoint deliberately does not use our own `frames`: it is the independent implementation that
the hand-written layer has to carry in every end-to-end test. What a Go client expects of a server
decides the details (statuses, Trailers-Only, RST_STREAM after early trailers).
"""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from h2.errors import ErrorCodes

MAX_MESSAGE = 4 << 20
"""Octets of one message, as usual with gRPC."""

MAX_HELD = 2 * MAX_MESSAGE
"""Octets of requests and answers that one connection makes us keep; calls beyond fail."""

_MAX_FRAME = 16384
"""Octets of a frame's payload, both ways: Go accepts no larger one, whatever its settings say."""

_FRAME_HEADER_SIZE = 9
_PREFACE_SIZE = 24
"""RFC 9113 sections 4.1 and 3.4."""

_PREFIX = struct.Struct(">BI")
"""Of each message: flag (1 = compressed) and length in octets."""

_GOAWAY = struct.Struct(">BHBBIII")
"""Frame length (24 bits in two fields), type, flags, stream 0; last stream id, error code."""

_GRPC = b"application/grpc"
_CONTENT_TYPE = re.compile(rb"application/grpc(?P<subtype>\+[a-z0-9.+-]+)?(;.*)?")

Method: TypeAlias = Callable[[bytes], bytes]
"""Request message to answer message; raises `GrpcError` for another status than OK."""

_Headers: TypeAlias = list[tuple[bytes, bytes]]


class Status(IntEnum):
    """The gRPC status codes in use here."""

    OK = 0
    INVALID_ARGUMENT = 3
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13


class GrpcError(Exception):
    """A call ends with this status."""

    def __init__(self, status: Status, message: str, http_status: int = 200) -> None:
        super().__init__(message)
        self.status = status
        self.http_status = http_status


@dataclass(slots=True)
class _Call:
    """A request that is being received."""

    method: Method
    content_type: bytes
    encoding: bytes
    body: bytearray = field(default_factory=bytearray)

    def receive(self, data: bytes) -> None:
        """Keep octets of the body: no more than one message that is not too long."""
        self.body += data
        if len(self.body) < _PREFIX.size:
            return
        _, length = _PREFIX.unpack_from(self.body)
        if length > MAX_MESSAGE:
            raise GrpcError(
                Status.RESOURCE_EXHAUSTED, f"message of {length} octets, limit {MAX_MESSAGE}"
            )
        if len(self.body) > _PREFIX.size + length:
            raise GrpcError(Status.INTERNAL, "more than one message in a unary request")

    def message(self) -> bytes:
        """The message of the complete request."""
        if len(self.body) < _PREFIX.size:
            raise GrpcError(Status.INTERNAL, "the request ended before its message")
        flag, length = _PREFIX.unpack_from(self.body)
        if flag > 1:
            raise GrpcError(Status.INTERNAL, f"message with flag {flag}, expected 0 or 1")
        if flag and self.encoding == b"identity":
            raise GrpcError(Status.INTERNAL, "compressed message without grpc-encoding")
        if flag:
            name = self.encoding.decode("ascii", "replace")
            raise GrpcError(Status.UNIMPLEMENTED, f"no decompressor for grpc-encoding {name!r}")
        if len(self.body) < _PREFIX.size + length:
            raise GrpcError(Status.INTERNAL, "the request ended amid its message")
        return bytes(self.body[_PREFIX.size :])


class _FrameSizes:
    """Watches the peer's frame headers: `h2` keeps a frame of up to 16 MiB before it refuses it."""

    def __init__(self) -> None:
        self._skip = _PREFACE_SIZE
        self._header = bytearray()

    def admit(self, data: bytes | bytearray) -> bool:
        """Whether every frame that begins in ``data`` is of a size that we announced."""
        view = memoryview(data)
        while view:
            skipped = min(self._skip, len(view))
            self._skip -= skipped
            view = view[skipped:]
            missing = _FRAME_HEADER_SIZE - len(self._header)
            self._header += view[:missing]
            view = view[missing:]
            if len(self._header) == _FRAME_HEADER_SIZE:
                self._skip = int.from_bytes(self._header[:3], "big")
                self._header.clear()
                if self._skip > _MAX_FRAME:
                    return False
        return True


class GrpcConnection:
    """One connection: octets in by `receive_data`, out by `data_to_send`.

    Calls run as soon as their request is complete. An answer that the peer's windows don't admit
    yet is kept, without holding up the others.
    """

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._methods = methods
        self._services = {path.rpartition("/")[0] for path in methods}
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding=None)
        )
        self._h2.initiate_connection()
        self._frame_sizes = _FrameSizes()
        self._calls: dict[int, _Call] = {}
        self._answers: dict[int, memoryview] = {}
        self._last_stream_id = 0
        self._goaway = b""
        self._draining = False
        self._gone = False
        self.is_greeted = False
        """Whether the peer has sent its preface and settings."""

    @property
    def is_done(self) -> bool:
        """Nothing more will happen: the connection can be closed once all is sent."""
        return self._gone or (self._draining and not self._calls and not self._answers)

    def data_to_send(self) -> bytes:
        """Take what is to be sent."""
        data = self._h2.data_to_send() + self._goaway
        self._goaway = b""
        return data

    def receive_data(self, data: bytes | bytearray) -> None:
        """Take octets of the peer in. What breaks HTTP/2 ends the connection, with a GOAWAY."""
        if not self._frame_sizes.admit(data):
            self._h2.close_connection(ErrorCodes.FRAME_SIZE_ERROR)
            self._gone = True
            return
        try:
            self._handle(self._h2.receive_data(data))
            self._send_answers()
        except h2.exceptions.ProtocolError:
            self._gone = True

    def drain(self) -> None:
        """Take no new calls: GOAWAY, then the open ones run to their end.

        `h2` would refuse everything after a GOAWAY of its own, so this one is written by hand
        (RFC 9113 section 6.8). Later streams are refused, which makes clients try elsewhere.
        """
        if not self._draining:
            self._draining = True
            self._goaway = _GOAWAY.pack(0, 8, 7, 0, 0, self._last_stream_id, ErrorCodes.NO_ERROR)

    def _handle(self, events: Sequence[h2.events.Event]) -> None:
        if any(isinstance(event, h2.events.ConnectionTerminated) for event in events):
            # `h2` sends nothing on streams after this; clients do it once they have no calls.
            self._gone = True
            return
        # `h2` has been through all of the octets already and knows these streams no more.
        reset = {event.stream_id for event in events if isinstance(event, h2.events.StreamReset)}
        for stream_id in reset:
            self._forget(stream_id)
        for event in events:
            match event:
                case h2.events.RemoteSettingsChanged():
                    self.is_greeted = True
                case h2.events.RequestReceived() if event.stream_id not in reset:
                    self._open(event)
                case h2.events.DataReceived() if event.stream_id not in reset:
                    self._receive(event)
                case h2.events.StreamEnded() if event.stream_id not in reset:
                    self._complete(event.stream_id)

    def _open(self, event: h2.events.RequestReceived) -> None:
        self._last_stream_id = event.stream_id
        if self._draining:
            self._h2.reset_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
            return
        try:
            self._calls[event.stream_id] = self._begin(_fields(event))
        except GrpcError as exc:
            self._fail(event.stream_id, exc, request_ended=event.stream_ended is not None)

    def _begin(self, fields: Mapping[bytes, bytes]) -> _Call:
        if fields.get(b":method") != b"POST":
            raise GrpcError(Status.INTERNAL, "the method of a gRPC call is POST", 405)
        content_type = _CONTENT_TYPE.fullmatch(fields.get(b"content-type", b"").lower())
        if content_type is None:
            raise GrpcError(Status.INVALID_ARGUMENT, "content-type is not application/grpc", 415)
        path = fields.get(b":path", b"").decode("utf-8", "replace")
        return _Call(
            self._method(path),
            _GRPC + (content_type.group("subtype") or b""),
            fields.get(b"grpc-encoding", b"identity"),
        )

    def _method(self, path: str) -> Method:
        method = self._methods.get(path)
        if method is not None:
            return method
        service, slash, name = path.rpartition("/")
        if not slash or not service.startswith("/"):
            raise GrpcError(Status.UNIMPLEMENTED, f"malformed method name: {path!r}")
        if service in self._services:
            raise GrpcError(Status.UNIMPLEMENTED, f"service {service[1:]} has no method {name!r}")
        raise GrpcError(Status.UNIMPLEMENTED, f"no service {service[1:]!r} here")

    def _receive(self, event: h2.events.DataReceived) -> None:
        self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        call = self._calls.get(event.stream_id)
        if call is None:
            return
        try:
            self._check_held(len(event.data))
            call.receive(event.data)
        except GrpcError as exc:
            self._fail(event.stream_id, exc, request_ended=event.stream_ended is not None)

    def _check_held(self, more: int) -> None:
        requests = sum(len(call.body) for call in self._calls.values())
        answers = sum(len(answer) for answer in self._answers.values())
        if requests + answers + more > MAX_HELD:
            raise GrpcError(
                Status.RESOURCE_EXHAUSTED, f"this connection's calls hold {MAX_HELD} octets"
            )

    def _complete(self, stream_id: int) -> None:
        call = self._calls.get(stream_id)
        if call is None:
            return
        try:
            message = call.method(call.message())
        except GrpcError as exc:
            self._fail(stream_id, exc, request_ended=True)
            return
        self._forget(stream_id)
        self._answers[stream_id] = memoryview(_PREFIX.pack(0, len(message)) + message)
        self._h2.send_headers(
            stream_id, [(b":status", b"200"), (b"content-type", call.content_type)]
        )

    def _fail(self, stream_id: int, error: GrpcError, *, request_ended: bool) -> None:
        """Trailers-Only: one header block that is the response's head and end. A client that is
        still sending is told by a reset that nobody listens (RFC 9113 section 8.1)."""
        call = self._calls.get(stream_id)
        self._forget(stream_id)
        headers = [
            (b":status", b"%d" % error.http_status),
            (b"content-type", call.content_type if call else _GRPC),
            *_status_fields(error.status, str(error)),
        ]
        self._h2.send_headers(stream_id, headers, end_stream=True)
        if not request_ended:
            self._h2.reset_stream(stream_id, ErrorCodes.NO_ERROR)

    def _forget(self, stream_id: int) -> None:
        self._calls.pop(stream_id, None)
        self._answers.pop(stream_id, None)

    def _send_answers(self) -> None:
        for stream_id in list(self._answers) if not self._gone else ():
            self._send_answer(stream_id)

    def _send_answer(self, stream_id: int) -> None:
        """Send as much as stream, connection and frame size admit; the trailers after the last."""
        rest = self._answers[stream_id]
        while rest and (window := self._h2.local_flow_control_window(stream_id)) > 0:
            size = min(len(rest), window, _MAX_FRAME)
            self._h2.send_data(stream_id, bytes(rest[:size]))
            rest = rest[size:]
        if rest:
            self._answers[stream_id] = rest
        else:
            self._forget(stream_id)
            self._h2.send_headers(stream_id, _status_fields(Status.OK, ""), end_stream=True)


def _fields(event: h2.events.RequestReceived) -> dict[bytes, bytes]:
    return dict(event.headers)  # octets, as configured


def _status_fields(status: Status, message: str) -> _Headers:
    return [(b"grpc-status", b"%d" % status), (b"grpc-message", percent_encode(message))]


def percent_encode(message: str) -> bytes:
    """``grpc-message`` as gRPC writes it: printable ASCII but ``%`` as it is, else ``%XX``."""
    return b"".join(
        bytes([octet]) if 0x20 <= octet <= 0x7E and octet != 0x25 else b"%%%02X" % octet
        for octet in message.encode("utf-8", "replace")
    )
