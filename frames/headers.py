"""Header sections: what RFC 9113 section 8 allows in requests, responses and trailers."""

import re
from collections.abc import Generator
from contextlib import contextmanager

import hpack

from frames.errors import LocalProtocolError, StreamProtocolError, stream_error
from frames.events import Headers

FIELD_OVERHEAD = 32
"""What each field counts beyond its octets (RFC 9113 section 6.5.2, RFC 7541 section 4.1)."""

_NAME = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+\Z")
_BAD_VALUE = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z")
_CONNECTION_SPECIFIC = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
_REQUEST_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})
_RESPONSE_PSEUDO = frozenset({b":status"})
_NO_PSEUDO: frozenset[bytes] = frozenset()
_STATUS = re.compile(rb"[1-9][0-9][0-9]\Z")
_NO_BODY = frozenset({b"204", b"304"})
_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}


def once(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """A field whose value does not come again: compression keeps it out of its table, which has
    better use for the room and is searched for each field (RFC 7541 section 6.2.3)."""
    return hpack.NeverIndexedHeaderTuple(name, value)


def check_request(stream_id: int, headers: Headers, extended_connect: bool) -> bytes:
    """Refuse a malformed request; returns its method.

    Args:
      extended_connect: whether the server announced SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441).
    Raises:
      StreamProtocolError: PROTOCOL_ERROR.
    Source: RFC 9113 sections 8.2, 8.3.1, 8.5; RFC 8441 section 4.
    """
    pseudo = _check_fields(stream_id, headers, _REQUEST_PSEUDO)
    method = pseudo.get(b":method")
    if not method:
        raise stream_error(stream_id, "request without :method")
    if b":protocol" in pseudo and not (extended_connect and method == b"CONNECT"):
        raise stream_error(stream_id, ":protocol without extended CONNECT")
    if method == b"CONNECT" and b":protocol" not in pseudo:
        if not pseudo.get(b":authority") or b":scheme" in pseudo or b":path" in pseudo:
            text = "CONNECT takes :authority, and neither :scheme nor :path"
            raise stream_error(stream_id, text)
        return method
    _check_target(stream_id, method, pseudo)
    _check_host(stream_id, headers, pseudo)
    return method


def check_response(stream_id: int, headers: Headers) -> bytes:
    """Refuse a malformed response; returns its status, three digits.

    Raises:
      StreamProtocolError: PROTOCOL_ERROR; also for 101, which HTTP/2 does not have.
    Source: RFC 9113 sections 8.2, 8.3.2, 8.6.
    """
    status = _check_fields(stream_id, headers, _RESPONSE_PSEUDO).get(b":status", b"")
    if not _STATUS.match(status) or status == b"101":
        raise stream_error(stream_id, f"response with :status {status!r}")
    return status


def check_trailers(stream_id: int, headers: Headers) -> None:
    """Refuse malformed trailers.

    Raises:
      StreamProtocolError: PROTOCOL_ERROR.
    Source: RFC 9113 section 8.1.
    """
    _check_fields(stream_id, headers, _NO_PSEUDO)


@contextmanager
def ours() -> Generator[None, None, None]:
    """What a check finds inside is our caller's mistake: LocalProtocolError."""
    try:
        yield
    except StreamProtocolError as exc:
        raise LocalProtocolError(str(exc)) from exc


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
        raise stream_error(stream_id, "content-length is not one number")
    return int(value)


def response_length(stream_id: int, headers: Headers, status: bytes, to_head: bool) -> int | None:
    """Octets of body that a response promises, None if it does not say.

    Args:
      to_head: whether the request was HEAD: its response has the content-length of a GET's.
    Raises:
      StreamProtocolError: as `content_length`.
    Source: RFC 9110 section 6.4.1.
    """
    length = content_length(stream_id, headers)
    return 0 if to_head or status in _NO_BODY else length


def list_size(headers: Headers) -> int:
    """Size of a header section as SETTINGS_MAX_HEADER_LIST_SIZE counts it."""
    return sum(len(name) + len(value) + FIELD_OVERHEAD for name, value in headers)


def _check_fields(
    stream_id: int, headers: Headers, allowed_pseudo: frozenset[bytes]
) -> dict[bytes, bytes]:
    """Check what holds for every header section; returns the pseudo-headers."""
    pseudo: dict[bytes, bytes] = {}
    regular = False
    for name, value in headers:
        if not _NAME.match(name) or _BAD_VALUE.search(value):
            text = f"header field {name[:64]!r} has octets that are not allowed"
            raise stream_error(stream_id, text)
        if name[0] == 0x3A:  # ":"
            if regular or name in pseudo or name not in allowed_pseudo:
                text = f"pseudo-header {name[:64]!r} not allowed here, twice or late"
                raise stream_error(stream_id, text)
            pseudo[name] = value
            continue
        regular = True
        if name in _CONNECTION_SPECIFIC or (name == b"te" and value.lower() != b"trailers"):
            raise stream_error(stream_id, f"connection-specific header field {name!r}")
    return pseudo


def _check_target(stream_id: int, method: bytes, pseudo: dict[bytes, bytes]) -> None:
    """Section 8.3.1: scheme and path must be there, and an http path starts with a slash."""
    scheme, path = pseudo.get(b":scheme"), pseudo.get(b":path")
    if not scheme or not path:
        raise stream_error(stream_id, "request without :scheme or :path")
    asterisk = path == b"*" and method == b"OPTIONS"
    if scheme in _DEFAULT_PORTS and not path.startswith(b"/") and not asterisk:
        raise stream_error(stream_id, ":path does not start with a slash")


def _check_host(stream_id: int, headers: Headers, pseudo: dict[bytes, bytes]) -> None:
    """Section 8.3.1: a Host field must not name another authority."""
    hosts = {value for name, value in headers if name == b"host"}
    if not hosts:
        return
    port = _DEFAULT_PORTS.get(pseudo[b":scheme"], b"")
    authority = pseudo.get(b":authority")
    named = {host.lower().removesuffix(port) for host in hosts}
    if authority is not None:
        named.add(authority.lower().removesuffix(port))
    if len(named) > 1:
        raise stream_error(stream_id, "host differs from :authority")
