"""How a gRPC call ends: status codes, their texts on the wire, what else maps to them."""

import re
from enum import IntEnum
from http import HTTPStatus

from frames.errors import ErrorCode, ProtocolError


class Status(IntEnum):
    """The codes of ``grpc-status``."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @classmethod
    def of(cls, code: int) -> "Status":
        """The status of a code; UNKNOWN for one that gRPC does not define."""
        return cls(code) if code in cls._value2member_map_ else cls.UNKNOWN

    @property
    def text(self) -> str:
        """Go's name of the code, as metrics have it."""
        return _TEXTS[self]


_TEXTS = (
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
)

_OF_HTTP: dict[int, Status] = {
    HTTPStatus.BAD_REQUEST: Status.INTERNAL,
    HTTPStatus.UNAUTHORIZED: Status.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: Status.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: Status.UNIMPLEMENTED,
    HTTPStatus.TOO_MANY_REQUESTS: Status.UNAVAILABLE,
    HTTPStatus.BAD_GATEWAY: Status.UNAVAILABLE,
    HTTPStatus.SERVICE_UNAVAILABLE: Status.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: Status.UNAVAILABLE,
}

_OF_RESET: dict[int, Status] = {
    ErrorCode.FLOW_CONTROL_ERROR: Status.RESOURCE_EXHAUSTED,
    ErrorCode.ENHANCE_YOUR_CALM: Status.RESOURCE_EXHAUSTED,
    ErrorCode.REFUSED_STREAM: Status.UNAVAILABLE,
    ErrorCode.CANCEL: Status.CANCELLED,
    ErrorCode.INADEQUATE_SECURITY: Status.PERMISSION_DENIED,
}


class GrpcError(ProtocolError):
    """A call ends, or has ended, with this status.

    ``http_status`` is that of the Trailers-Only response which says so.
    """

    def __init__(self, status: Status, message: str, http_status: int = 200) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.http_status = http_status


def undecodable(exc: ProtocolError) -> GrpcError:
    """For a whole message that is not of its protobuf type, as Go says it."""
    text = f"grpc: failed to unmarshal the received message: {exc}"
    return GrpcError(Status.INTERNAL, text)


def status_of_http(code: int) -> Status:
    """What the status of an HTTP response without gRPC means."""
    return _OF_HTTP.get(code, Status.UNKNOWN)


def status_of_reset(code: int) -> Status:
    """What the code of a RST_STREAM means; CANCEL after our own deadline is its expiry instead."""
    if code not in ErrorCode._value2member_map_:
        return Status.UNKNOWN
    return _OF_RESET.get(code, Status.INTERNAL)


# Printable ASCII stands for itself. A space at either end would be no valid field value.
_TO_ESCAPE = re.compile(rb"[^ -$&-~]|\A | \Z")
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")


def percent_encode(text: str) -> bytes:
    """The form of a text in ``grpc-message``: UTF-8, with ``%XX`` for what is not printable ASCII.

    Characters that UTF-8 does not have become question marks.
    """
    return _TO_ESCAPE.sub(lambda found: b"%%%02X" % found[0][0], text.encode("utf-8", "replace"))


def percent_decode(value: bytes) -> str:
    """The text of a ``grpc-message``; invalid escapes stand for themselves, invalid UTF-8 becomes
    U+FFFD."""
    octets = _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), value)
    return octets.decode("utf-8", "replace")


def quoted(value: bytes) -> str:
    """What a peer sent, within an error's text; close to Go's ``%q``."""
    escaped = shown(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def shown(value: bytes) -> str:
    """What a peer sent, within an error's text; close to Go's ``%s``."""
    return value.decode("utf-8", "backslashreplace")
