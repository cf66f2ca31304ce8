"""gRPC calls over HTTP/2: header sections of requests, responses and trailers, both roles.

Its other parts are at hand here too: statuses (`grpcstatus`), messages (`grpcmessage`), timeouts
(`grpctimeout`). Statuses and texts of refusals are those of Go.

Source: the gRPC project's "gRPC over HTTP2", and what Go makes of it.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from http import HTTPStatus

from frames.events import Headers
from frames.grpcmessage import MAX_MESSAGE, PREFIX_SIZE, MessageReader, prefix
from frames.grpcmetadata import Metadata, metadata_field, parse_metadata
from frames.grpcstatus import (
    GrpcError,
    Status,
    percent_decode,
    percent_encode,
    quoted,
    shown,
    status_of_http,
    status_of_reset,
    undecodable,
)
from frames.grpctimeout import format_timeout, parse_timeout

__all__ = [
    "CONTENT_TYPE",
    "MAX_MESSAGE",
    "PREFIX_SIZE",
    "GrpcError",
    "MessageReader",
    "Metadata",
    "Request",
    "Response",
    "Status",
    "check_request",
    "check_response",
    "format_timeout",
    "parse_timeout",
    "percent_decode",
    "percent_encode",
    "prefix",
    "request_headers",
    "response_headers",
    "status_of_http",
    "status_of_reset",
    "status_of_response",
    "trailers",
    "trailers_only",
    "undecodable",
    "unimplemented",
]

CONTENT_TYPE = b"application/grpc"

_MAX_DIGITS = 9
"""Of ``grpc-status``: Go takes 32 bits."""
_WITH_SUBTYPE = (b"application/grpc+", b"application/grpc;")


@dataclass(frozen=True, slots=True)
class Request:
    """What a request's header section says.

    Attributes:
      path: ``/Service/Method``.
      content_type: what the response has to have.
      timeout: in seconds from the arrival of the section; 0 is over already.
      encoding: of compressed messages (`MessageReader`).
    """

    path: bytes
    authority: bytes
    content_type: bytes
    user_agent: bytes
    timeout: float | None
    encoding: bytes
    metadata: Metadata

    @property
    def service(self) -> bytes:
        """The path up to its last slash."""
        return self.path[1:].rpartition(b"/")[0]

    @property
    def method(self) -> bytes:
        """The path after its last slash."""
        return self.path.rpartition(b"/")[2]


@dataclass(frozen=True, slots=True)
class Response:
    """What a response's header section says, before any message."""

    encoding: bytes
    metadata: Metadata


# -- server role ----------------------------------------------------------------------------------


def check_request(headers: Headers) -> Request:
    """Refuse a request that is no gRPC call. It has been found well-formed as HTTP.

    Raises:
      GrpcError: what the Trailers-Only response has to say.
    """
    fields = dict(headers)
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1:
        count = int(b":authority" in fields)
        text = f"num values of :authority: {count}, num values of host: {len(hosts)}"
        raise GrpcError(
            Status.INTERNAL, f"{text}, both must only have 1 value as per HTTP/2 spec", 400
        )
    content_type = fields.get(b"content-type", b"")
    if not _is_grpc(content_type):
        text = f"invalid gRPC request content-type {quoted(content_type)}"
        raise GrpcError(Status.INVALID_ARGUMENT, text, 415)
    timeout = parse_timeout(fields[b"grpc-timeout"]) if b"grpc-timeout" in fields else None
    metadata = parse_metadata(headers)
    method = fields.get(b":method", b"")
    if method != b"POST":
        text = f"Received a HEADERS frame with :method {quoted(method)} which should be POST"
        raise GrpcError(Status.INTERNAL, text, 405)
    path = fields.get(b":path", b"")
    if path[:1] != b"/" or path.count(b"/") < 2:
        raise GrpcError(Status.UNIMPLEMENTED, f"malformed method name: {quoted(path)}")
    return Request(
        path,
        fields.get(b":authority", hosts[0] if hosts else b""),
        _answering(content_type),
        fields.get(b"user-agent", b""),
        timeout,
        fields.get(b"grpc-encoding", b""),
        metadata,
    )


def unimplemented(request: Request, services: Container[bytes]) -> GrpcError:
    """For a request to a method that is not there; ``services`` are."""
    service, method = shown(request.service), shown(request.method)
    if request.service in services:
        text = f"unknown method {method} for service {service}"
    else:
        text = f"unknown service {service}"
    return GrpcError(Status.UNIMPLEMENTED, text)


def response_headers(
    content_type: bytes = CONTENT_TYPE, extra: Iterable[tuple[bytes, bytes]] = ()
) -> Headers:
    """The section before a response's messages. ``extra`` is metadata."""
    return [(b":status", b"200"), (b"content-type", content_type), *map(metadata_field, extra)]


def trailers(status: Status, message: str = "") -> Headers:
    """The section after a response's messages."""
    return [(b"grpc-status", b"%d" % status), (b"grpc-message", percent_encode(message))]


def trailers_only(
    status: Status,
    message: str = "",
    content_type: bytes = CONTENT_TYPE,
    http_status: int = 200,
) -> Headers:
    """The only section of a response without messages; it ends the stream."""
    return [
        (b":status", b"%d" % http_status),
        (b"content-type", content_type),
        *trailers(status, message),
    ]


# -- client role ----------------------------------------------------------------------------------


def request_headers(
    path: bytes,
    authority: bytes,
    *,
    scheme: bytes = b"https",
    user_agent: bytes = b"",
    timeout: float | None = None,
    extra: Iterable[tuple[bytes, bytes]] = (),
) -> Headers:
    """A request's section, in Go's order. ``extra`` is metadata."""
    headers = [
        (b":method", b"POST"),
        (b":scheme", scheme),
        (b":path", path),
        (b":authority", authority),
        (b"content-type", CONTENT_TYPE),
    ]
    if user_agent:
        headers.append((b"user-agent", user_agent))
    headers.append((b"te", b"trailers"))
    if timeout is not None:
        headers.append((b"grpc-timeout", format_timeout(timeout)))
    return [*headers, *map(metadata_field, extra)]


def check_response(headers: Headers) -> Response:
    """Refuse a response that is not gRPC's, whatever its status.

    Raises:
      GrpcError: the status that it amounts to.
    """
    fields = dict(headers)
    content_type = fields.get(b"content-type", b"")
    if not _is_grpc(content_type):
        raise _not_grpc(int(fields[b":status"]), content_type)
    return Response(fields.get(b"grpc-encoding", b""), parse_metadata(headers))


def status_of_response(headers: Headers, trailers: Headers | None) -> tuple[Status, str]:
    """The status and message with which a call ended.

    Args:
      headers: the response's header section.
      trailers: None if the stream ended without, with ``headers`` or with DATA.
    """
    try:
        check_response(headers)
    except GrpcError as exc:
        return exc.status, exc.message
    fields = dict(headers if trailers is None else trailers)
    code = fields.get(b"grpc-status")
    if code is None and trailers is None:
        return Status.INTERNAL, "server closed the stream without sending trailers"
    message = percent_decode(fields.get(b"grpc-message", b""))
    if code is None:
        return Status.UNKNOWN, message
    if not code.isdigit() or len(code) > _MAX_DIGITS:
        return Status.UNKNOWN, f"transport: malformed grpc-status: {quoted(code)}"
    return Status.of(int(code)), message


def _not_grpc(status: int, content_type: bytes) -> GrpcError:
    known = status in HTTPStatus._value2member_map_
    phrase = HTTPStatus(status).phrase if known else ""
    text = f"unexpected HTTP status code received from server: {status} ({phrase}); "
    if content_type:
        text += f"transport: received unexpected content-type {quoted(content_type)}"
    else:
        text += "malformed header: missing HTTP content-type"
    return GrpcError(status_of_http(status), text)


# -- both -----------------------------------------------------------------------------------------


def _is_grpc(content_type: bytes) -> bool:
    return content_type == CONTENT_TYPE or content_type.startswith(_WITH_SUBTYPE)


def _answering(content_type: bytes) -> bytes:
    """The content type of the response: with the request's subtype, if it names one."""
    return content_type if content_type.startswith(CONTENT_TYPE + b"+") else CONTENT_TYPE
