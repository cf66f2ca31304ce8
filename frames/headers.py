"""Header sections: what RFC 9113 section 8 allows in requests, responses and trailers."""

import re

from frames.errors import ErrorCode, LocalProtocolError, StreamProtocolError
from frames.events import Headers

_NAME = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+\Z")
_BAD_VALUE = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z")
_CONNECTION_SPECIFIC = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
_REQUEST_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})
_STATUS = re.compile(rb"[1-5][0-9][0-9]\Z")
_NO_BODY = frozenset({b"204", b"304"})


def check_request(stream_id: int, headers: Headers, extended_connect: bool) -> bytes:
    """Refuse a malformed request; returns its method.

    Args:
      extended_connect: whether we announced SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441).
    Raises:
      StreamProtocolError: PROTOCOL_ERROR.
    Source: RFC 9113 sections 8.2, 8.3.1, 8.5; RFC 8441 section 4.
    """
    pseudo = _check_fields(stream_id, headers, _REQUEST_PSEUDO)
    method = pseudo.get(b":method")
    if not method:
        raise _malformed(stream_id, "request without :method")
    if b":protocol" in pseudo and not (extended_connect and method == b"CONNECT"):
        raise _malformed(stream_id, ":protocol without extended CONNECT")
    if method == b"CONNECT" and b":protocol" not in pseudo:
        if not pseudo.get(b":authority") or b":scheme" in pseudo or b":path" in pseudo:
            raise _malformed(stream_id, "CONNECT takes :authority, and neither :scheme nor :path")
    elif not pseudo.get(b":scheme") or not pseudo.get(b":path"):
        raise _malformed(stream_id, "request without :scheme or :path")
    return method


def check_response(stream_id: int, headers: Headers) -> bytes:
    """Refuse a malformed response; returns its status.

    Raises:
      StreamProtocolError: PROTOCOL_ERROR.
    Source: RFC 9113 section 8.3.2.
    """
    status = _check_fields(stream_id, headers, frozenset({b":status"})).get(b":status", b"")
    if not _STATUS.match(status) or status == b"101":
        raise _malformed(stream_id, f"response with :status {status!r}")
    return status


def check_trailers(stream_id: int, headers: Headers) -> None:
    """Refuse malformed trailers.

    Raises:
      StreamProtocolError: PROTOCOL_ERROR.
    Source: RFC 9113 section 8.1.
    """
    _check_fields(stream_id, headers, frozenset())


def content_length(stream_id: int, headers: Headers) -> int | None:
    """What the content-length header promises, None without one.

    Raises:
      StreamProtocolError: PROTOCOL_ERROR for one that is not a number, or two that differ.
    Source: RFC 9113 section 8.1.1.
    """
    values = {value for name, value in headers if name == b"content-length"}
    if not values:
        return None
    value = values.pop()
    if values or not value.isdigit() or len(value) > 18:
        raise _malformed(stream_id, "content-length is not one number")
    return int(value)


def has_body(method: bytes, status: bytes) -> bool:
    """Whether a response may have a body at all (RFC 9110 section 6.4.1)."""
    return method != b"HEAD" and status not in _NO_BODY


def check_local(headers: Headers) -> None:
    """Refuse to send what a peer would have to refuse.

    Raises:
      LocalProtocolError: upper case, bad octets, pseudo-headers behind others.
    """
    try:
        _check_fields(0, headers, _REQUEST_PSEUDO | {b":status"})
    except StreamProtocolError as exc:
        raise LocalProtocolError(str(exc)) from exc


def _check_fields(
    stream_id: int, headers: Headers, allowed_pseudo: frozenset[bytes]
) -> dict[bytes, bytes]:
    """Check what holds for every header section; returns the pseudo-headers."""
    pseudo: dict[bytes, bytes] = {}
    regular = False
    for name, value in headers:
        if not _NAME.match(name) or _BAD_VALUE.search(value):
            raise _malformed(stream_id, f"header field {name!r} has octets that are not allowed")
        if name[0] == 0x3A:  # ":"
            if regular or name in pseudo or name not in allowed_pseudo:
                raise _malformed(stream_id, f"pseudo-header {name!r} unknown, twice or late")
            pseudo[name] = value
            continue
        regular = True
        if name in _CONNECTION_SPECIFIC or (name == b"te" and value != b"trailers"):
            raise _malformed(stream_id, f"connection-specific header field {name!r}")
    return pseudo


def _malformed(stream_id: int, text: str) -> StreamProtocolError:
    return StreamProtocolError(stream_id, ErrorCode.PROTOCOL_ERROR, text)
