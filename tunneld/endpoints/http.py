"""HTTP/1.1 endpoint: one page at ``/ok``, 404 for anything else, one request a connection."""

from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import urlsplit

import h11
import trio

from tunneld.config import HttpConfig
from tunneld.endpoints.serving import finish, serve
from tunneld.listening import listen_tcp
from tunneld.role import Host, Role

HEAD_TIMEOUT = 10.0
"""Seconds for a request's head to be complete."""

MAX_HEAD = 16 * 1024
"""Octets of a request's head."""

_PAGE = b"""<!DOCTYPE html>
<html>
<head><title>tunneld</title></head>
<body><p>Everything is ok</p></body>
</html>
"""


class HttpRole(Role):
    """The role of kind ``http``."""

    def __init__(self, config: HttpConfig, host: Host) -> None:
        self._config = config
        self._drain = host.drain

    async def run(self, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await listen_tcp(self._config.listen)
        await serve(listeners, serve_request, self._drain, task_status=task_status)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: HTTPStatus
    reason: str
    content_type: str
    body: bytes


def _text(status: HTTPStatus, reason: str, body: str) -> Answer:
    return Answer(status, reason, "text/plain; charset=utf-8", body.encode())


OK = Answer(HTTPStatus.OK, "OK", "text/html; charset=utf-8", _PAGE)
NOT_FOUND = _text(HTTPStatus.NOT_FOUND, "NOT FOUND", "not found: try /ok\n")
OTHER_VERSION = _text(
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP Version Not Supported", "HTTP/1.1 is spoken here\n"
)
TIMED_OUT = _text(
    HTTPStatus.REQUEST_TIMEOUT, "Request Timeout", "the request's head did not come in time\n"
)


async def serve_request(stream: trio.abc.HalfCloseableStream) -> None:
    """Read one request's head, answer it, and end the connection. A body is not looked at."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    request = None
    try:
        with trio.fail_after(HEAD_TIMEOUT):
            request = await _read_request(stream, connection)
    except trio.TooSlowError:
        answer = TIMED_OUT
    except h11.RemoteProtocolError as exc:
        answer = _malformed(exc)
    else:
        if request is None:
            return
        answer = answer_to(request)
    await stream.send_all(_serialize(answer, request, connection))
    await finish(stream)


async def _read_request(
    stream: trio.abc.ReceiveStream, connection: h11.Connection
) -> h11.Request | None:
    """The request, or None if the peer closes without one."""
    while True:
        match connection.next_event():
            case h11.Request() as request:
                return request
            case h11.ConnectionClosed():
                return None
            case _:  # h11.NEED_DATA: nothing else comes ahead of a request
                connection.receive_data(bytes(await stream.receive_some()))


def answer_to(request: h11.Request) -> Answer:
    """The page for ``GET`` or ``HEAD`` of ``/ok``, whichever form the target has (RFC 9112 section
    3.2); 404 for anything else, other methods included, as the endpoint of konnectivity's demo."""
    if not request.http_version.startswith(b"1."):
        return OTHER_VERSION
    target = request.target.decode("ascii")
    if not target.startswith("/"):
        target = _path_of(target)
    return OK if request.method in (b"GET", b"HEAD") and target == "/ok" else NOT_FOUND


def _path_of(absolute: str) -> str:
    try:
        parts = urlsplit(absolute)
    except ValueError:  # such as half a bracket
        return ""
    return parts._replace(scheme="", netloc="").geturl() if parts.scheme == "http" else ""


def _malformed(error: h11.RemoteProtocolError) -> Answer:
    status = HTTPStatus(error.error_status_hint)
    return _text(status, status.phrase, f"{error}\n")


def _serialize(answer: Answer, request: h11.Request | None, connection: h11.Connection) -> bytes:
    response = h11.Response(
        status_code=answer.status,
        reason=answer.reason.encode("ascii"),
        headers=[
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Connection", "close"),
        ],
    )
    head = connection.send(response) or b""
    if request is not None and request.method == b"HEAD":
        return head
    return head + (connection.send(h11.Data(data=answer.body)) or b"")
