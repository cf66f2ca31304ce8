"""CONNECT over HTTP/1.1 on a frontend: heads in, replies out; parsed by h11.

The replies are konnectivity's where both have one, so that its clients match them; ours add
``Content-Length``, ``Connection`` and ``Proxy-Status``, which those clients ignore.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus

import h11

from tunneld.dialing import AGENT_TIMEOUT, NO_AGENT, TUNNEL_LOST, DialError
from tunneld.server.credentials import CHALLENGE
from tunneld.server.verifier import UnauthorizedError

MAX_HEAD = 64 * 1024
"""Octets of a request head."""
_MAX_COMMON = 512
"""Octets of one that is remembered."""
ESTABLISHED = b"HTTP/1.1 200 Connection Established\r\n\r\n"

_UPSTREAM = {
    NO_AGENT: (
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "currently no tunnels available: No agent available",
    ),
    TUNNEL_LOST: (HTTPStatus.BAD_GATEWAY, "Backend context error: context canceled\r\n"),
    AGENT_TIMEOUT: (
        HTTPStatus.GATEWAY_TIMEOUT,
        "Backend dial timeout: timed out waiting for backend dial\r\n",
    ),
}
_END = re.compile(rb"\n\r?\n")
"""As h11 has it: lines may end with LF alone (RFC 9112 section 2.2)."""
_LINE = re.compile(rb"[\x20-\x7e]*\r?")
_SECRET = re.compile(rb"authorization|cookie", re.IGNORECASE)
_HOST = re.compile(rb"\nhost[ \t]*:", re.IGNORECASE)


class BadRequestError(Exception):
    """The head can't be served; ``reply`` says so, and the connection is closed after it."""

    def __init__(self, status: HTTPStatus, body: str) -> None:
        super().__init__(body)
        self.reply = reply(status, body)


@dataclass(frozen=True, slots=True)
class Head:
    """A request head."""

    method: bytes
    target: str
    """The authority of a CONNECT: ``host:port``, whatever the Host header says."""
    keep_alive: bool
    headers: Mapping[bytes, bytes] = field(default_factory=dict, compare=False, repr=False)
    """By name in lower case; the last value of each. Secrets may be among them."""


class HeadReader:
    """Finds the end of a request head; looks at each octet once, however few come at a time."""

    def __init__(self) -> None:
        self._octets = bytearray()
        self._in_first_line = True

    def feed(self, octets: bytes) -> tuple[Head, bytes] | None:
        """Take what came; once the head is complete, it and the octets behind it.

        Raises:
          BadRequestError: 431, it is longer than `MAX_HEAD`; 400, it is not HTTP.
        """
        if not self._octets:
            octets = octets.lstrip(b"\r\n")  # RFC 9112 section 2.2
        if self._in_first_line:
            line, newline, _ = octets.partition(b"\n")
            amid_end = self._octets.endswith(b"\r")
            if not _LINE.fullmatch(b"\r" + line if amid_end else line):
                raise bad("the first line holds octets that no HTTP request has")
            self._in_first_line = not newline
        searched = max(0, len(self._octets) - 2)
        self._octets += octets
        found = _END.search(self._octets, searched)
        if (found.end() if found else len(self._octets)) > MAX_HEAD:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise BadRequestError(status, f"request head over {MAX_HEAD} octets")
        if found is None:
            return None
        head, behind = bytes(self._octets[: found.end()]), bytes(self._octets[found.end() :])
        is_common = len(head) <= _MAX_COMMON and not _SECRET.search(head)
        return _parse_common(head) if is_common else parse_head(head), behind


@lru_cache(1024)
def _parse_common(octets: bytes) -> Head:
    """As `parse_head`, for what is worth to be remembered: clients come again with the same."""
    return parse_head(octets)


def parse_head(octets: bytes) -> Head:
    """Parse a whole head.

    Raises:
      BadRequestError: 400.
    """
    # h11 insists on a Host header, clients of konnectivity may leave it out; for CONNECT the
    # request line alone counts.
    if not _HOST.search(octets):
        octets = octets.rstrip(b"\r\n") + b"\r\nHost: -\r\n\r\n"
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD + 64)
    try:
        connection.receive_data(octets)
        event = connection.next_event()
    except h11.RemoteProtocolError as exc:
        # It may quote the line: of a secret in there neither log nor reply may tell.
        secret = _SECRET.search(octets)
        raise bad("a malformed head, with a secret in it" if secret else str(exc)) from exc
    if not isinstance(event, h11.Request):
        raise bad("not a request")
    headers = dict(event.headers)
    target = event.target.decode("latin-1")
    if event.method == b"CONNECT":
        target = target.rpartition("@")[2]
        if target.startswith("/"):
            target = headers[b"host"].decode("latin-1")
        if _has_odd_port(target):
            raise bad("the port is not a number")
    close = b"close" in headers.get(b"connection", b"").lower() or event.http_version < b"1.1"
    has_body = b"content-length" in headers or b"transfer-encoding" in headers
    return Head(event.method, target, keep_alive=not close and not has_body, headers=headers)


def _has_odd_port(target: str) -> bool:
    """Whether what stands behind the last colon, outside brackets, is not a number."""
    _, colon, port = target.rpartition(":")
    return bool(colon) and "]" not in port and bool(port.strip("0123456789"))


def reply(
    status: HTTPStatus, body: str, *, keep_alive: bool = False, headers: tuple[str, ...] = ()
) -> bytes:
    """A reply other than `ESTABLISHED`, with ``body`` as plain text."""
    content = body.encode()
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        *([] if keep_alive else ["Connection: close"]),
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(content)}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + content


def wrong_version(http2: bool) -> BadRequestError:
    """For a client of a version that the frontend does not speak."""
    if http2:
        text = "this proxy only supports CONNECT passthrough\n"
        return BadRequestError(HTTPStatus.METHOD_NOT_ALLOWED, text)
    text = "this proxy only supports gRPC, over HTTP/2\n"
    return BadRequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, text)


def not_connect(head: Head) -> bytes:
    """For any other method; the connection stays usable where HTTP lets it."""
    body = "this proxy only supports CONNECT passthrough\n"
    octets = reply(
        HTTPStatus.METHOD_NOT_ALLOWED,
        body,
        keep_alive=head.keep_alive,
        headers=("Allow: CONNECT", "X-Content-Type-Options: nosniff"),
    )
    return octets.removesuffix(body.encode()) if head.method == b"HEAD" else octets


def unauthorized(error: UnauthorizedError, *, keep_alive: bool) -> bytes:
    """For a client that has not shown who it is, or has guessed too often."""
    headers: tuple[str, ...] = (f"Proxy-Authenticate: {CHALLENGE}",)
    status = HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
    if error.retry_after:
        headers = (f"Retry-After: {error.retry_after}",)
        status = HTTPStatus.TOO_MANY_REQUESTS
    return reply(status, f"{error}\n", keep_alive=keep_alive, headers=headers)


def failed(error: DialError, server_name: str, *, as_upstream: bool = False) -> bytes:
    """For a dial that failed: its text verbatim, and why in ``Proxy-Status`` (RFC 9209).

    Args:
      as_upstream: whether failures of the server itself are worded as konnectivity does it.
    """
    headers = [f"Proxy-Status: {error.proxy_status(server_name)}"]
    if error.retry_after:
        headers.append(f"Retry-After: {error.retry_after}")
    status, body = HTTPStatus(error.kind.status), str(error)
    if as_upstream and error.kind in _UPSTREAM:
        status, body = _UPSTREAM[error.kind]
    return reply(status, body, headers=tuple(headers))


def bad(why: str) -> BadRequestError:
    """400."""
    return BadRequestError(HTTPStatus.BAD_REQUEST, f"400 Bad Request: {why}")
