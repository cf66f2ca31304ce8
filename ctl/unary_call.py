"""One unary gRPC call over a connected socket, by the h2 library (gRPC over HTTP/2)."""

import socket
import time
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

from ctl.messages import ControlError

MAX_REPLY = 4 * 1024 * 1024
"""Octets of a reply, gRPC's own default."""

_CHUNK = 64 * 1024
_PREFIX = 5
"""Octets before each message: a flag (compressed), then the length."""
_STATUS_NAMES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
_DEADLINE_EXCEEDED = 4


class UnaryCall:
    """One request message, one reply message. Every failure is a `ControlError`."""

    def __init__(self, sock: socket.socket, authority: str, timeout: float) -> None:
        """``timeout`` is for the whole call, in seconds."""
        self._sock = sock
        self._authority = authority
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._unsent = b""
        self._stream = 0
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._ended = False

    def run(self, method: str, message: bytes) -> bytes:
        """Call ``method`` (``/package.Service/Method``) with a serialised message; the reply."""
        try:
            self._start(method, message)
            while not self._ended:
                self._send_body()
                self._flush()
                self._receive()
            self._connection.close_connection()
            self._flush()
        except TimeoutError as exc:
            raise self._too_late() from exc
        except ProtocolError as exc:
            raise _failure(f"it does not speak HTTP/2: {exc}") from exc
        except OSError as exc:
            raise _failure(f"the connection broke: {exc.strerror or exc}") from exc
        return self._reply()

    def _start(self, method: str, message: bytes) -> None:
        self._connection.initiate_connection()
        self._stream = self._connection.get_next_available_stream_id()
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", self._authority),
            ("content-type", "application/grpc"),
            ("user-agent", "tunnelctl"),
            ("te", "trailers"),
            ("grpc-timeout", _format_timeout(self._timeout)),
        ]
        self._connection.send_headers(self._stream, headers)
        self._unsent = b"\0" + len(message).to_bytes(4, "big") + message

    def _send_body(self) -> None:
        """Send as much of the request as the peer's windows let through."""
        while self._unsent:
            room = self._connection.local_flow_control_window(self._stream)
            size = min(room, self._connection.max_outbound_frame_size, len(self._unsent))
            if size <= 0:
                return
            piece, self._unsent = self._unsent[:size], self._unsent[size:]
            self._connection.send_data(self._stream, piece, end_stream=not self._unsent)

    def _flush(self) -> None:
        data = self._connection.data_to_send()
        if data:
            self._sock.settimeout(self._remaining())
            self._sock.sendall(data)

    def _receive(self) -> None:
        self._sock.settimeout(self._remaining())
        data = self._sock.recv(_CHUNK)
        if not data:
            raise _failure("it closed the connection before it had answered")
        if data.startswith(b"HTTP/1"):  # to h2 the head of a long frame, which would never end
            raise _failure("it speaks HTTP/1, which is no gRPC")
        for event in self._connection.receive_data(data):
            self._handle(event)

    def _remaining(self) -> float:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        return remaining

    def _handle(self, event: Event) -> None:
        match event:
            case ResponseReceived() | TrailersReceived():
                self._headers.update((str(n), str(v)) for n, v in event.headers or ())
            case DataReceived():
                self._keep(event)
            case StreamEnded():
                self._ended = True
            case StreamReset():
                self._handle_reset(event)
            case ConnectionTerminated():
                raise _failure(f"it ended the connection: {_error_name(event.error_code)}")

    def _keep(self, event: DataReceived) -> None:
        self._body += event.data or b""
        if len(self._body) > MAX_REPLY + _PREFIX:
            raise _failure(f"its reply is larger than {MAX_REPLY} octets")
        if event.flow_controlled_length:
            self._connection.acknowledge_received_data(event.flow_controlled_length, self._stream)

    def _handle_reset(self, event: StreamReset) -> None:
        if "grpc-status" in self._headers:  # the answer stands; RFC 9113 section 8.1
            self._ended = True
            return
        raise _failure(f"it reset the call: {_error_name(event.error_code)}")

    def _reply(self) -> bytes:
        self._check_status()
        length = int.from_bytes(self._body[1:_PREFIX], "big")
        if len(self._body) < _PREFIX or self._body[0] != 0 or length != len(self._body) - _PREFIX:
            raise _failure(f"its reply of {len(self._body)} octets is not one plain message")
        return bytes(self._body[_PREFIX:])

    def _check_status(self) -> None:
        status = self._headers.get("grpc-status")
        if status is None:
            raise _failure(
                f"it answered without a gRPC status, HTTP {self._headers.get(':status')}"
            )
        if status == "0":
            return
        number = int(status) if status.isascii() and status.isdigit() and len(status) < 4 else -1
        if number == _DEADLINE_EXCEEDED:
            raise self._too_late()
        name = _STATUS_NAMES[number] if 0 <= number < len(_STATUS_NAMES) else status
        text = unquote(self._headers.get("grpc-message", ""))
        raise _failure(f"it answered {name}" + (f": {text}" if text else ""))

    def _too_late(self) -> ControlError:
        return ControlError(
            "timeout",
            f"{self._authority} did not answer the call within {self._timeout:g} s",
            "see --timeout; is it a gRPC endpoint without TLS?",
        )


def _failure(what: str) -> ControlError:
    return ControlError("failed", f"the gRPC call failed: {what}")


def _error_name(code: ErrorCodes | int | None) -> str:
    return code.name if isinstance(code, ErrorCodes) else f"error code {code}"


def _format_timeout(seconds: float) -> str:
    """At most 8 digits and a unit."""
    milliseconds = max(1, int(seconds * 1000))
    return f"{milliseconds}m" if milliseconds < 10**8 else f"{min(int(seconds), 10**8 - 1)}S"
