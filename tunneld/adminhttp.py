"""HTTP/1.1 for operators and their tools: serves routes, such as those of `tunneld.adminroutes`.

Behaves as Go's net/http where probes and scrapers could tell: any method is taken, paths are
percent-decoded, connections are kept, 60 s and 1 MiB for a head. A request with a body is answered,
and its connection ends, since no route here wants one.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import parse_qs, unquote

import h11
import trio

from tunneld.endpoints.serving import finish, serve
from tunneld.listening import listen_error

HEAD_TIMEOUT = 60.0
"""Seconds for a request's head to be complete, from its first octet."""

IDLE_TIMEOUT = 180.0
"""Seconds that a connection may wait for its next request; Prometheus' usual pause is 60."""

SEND_TIMEOUT = 60.0
"""Seconds for a response to be taken."""

MAX_HEAD = (1 << 20) + 4096
"""Octets of a request's head; 1 MiB and some, as in Go."""

MAX_CONNECTIONS = 256
"""Connections of one listener at a time: with `MAX_HEAD`, what clients can make us store."""

TEXT = "text/plain; charset=utf-8"

_ABSOLUTE = re.compile(r"https?://(?P<host>[^/?]*)(?P<target>/.*)?", re.IGNORECASE)

_HOST = re.compile(r"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")
"""RFC 3986's characters of a host and port. A redirect repeats it."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a route may want to know of a request."""

    method: str
    path: str
    """Percent-decoded."""
    target: str
    """Path and query as they came."""
    query: Mapping[str, Sequence[str]]
    host: str
    """``host``, ``host:port`` or ``[v6]:port``; "" if an HTTP/1.0 client does not say."""
    gone: trio.Event
    """Set when the client has closed, while a route that takes its time runs."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response."""

    status: HTTPStatus
    body: bytes
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=dict)


Handler: TypeAlias = Callable[[Request], Response | Awaitable[Response]]
"""Answers at once, or takes its time."""

Routes: TypeAlias = Mapping[str, Handler]
"""By exact path."""


def text(status: HTTPStatus, body: str) -> Response:
    """A response of plain text."""
    return Response(status, body.encode())


NOT_FOUND = Response(
    HTTPStatus.NOT_FOUND, b"404 page not found\n", headers={"X-Content-Type-Options": "nosniff"}
)


async def serve_http(
    listen_host: str,
    port: int,
    routes: Routes,
    drain: trio.Event,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer requests until ``drain`` is set and those in progress have their answers, which gets
    `tunneld.endpoints.serving.DRAIN_TIMEOUT` seconds. Reports the addresses it listens on.

    Args:
      listen_host: an address or a name; "" means all interfaces, IPv4 and IPv6.
      port: 0 lets the kernel choose, for each address anew.
    Raises:
      RoleError: it cannot be listened on.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=listen_host or None)
    except OSError as exc:
        raise listen_error(f"{listen_host}:{port}", exc) from exc
    await serve_routes(listeners, routes, drain, task_status)


async def serve_routes(
    listeners: Sequence[trio.SocketListener],
    routes: Routes,
    drain: trio.Event,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """As `serve_http`, on ``listeners``, which are closed in the end."""
    service = Service(routes, drain)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.drop_idle)
        await serve(listeners, service.converse, drain, MAX_CONNECTIONS, task_status)


class Service:
    """What the connections of one listener share."""

    def __init__(self, routes: Routes, drain: trio.Event) -> None:
        self.routes = routes
        self.drain = drain
        self.idle: set[trio.CancelScope] = set()
        """Of connections that wait for a request, none of which has come in part."""

    async def converse(self, stream: trio.abc.HalfCloseableStream) -> None:
        await _Connection(self, stream).run()

    async def drop_idle(self) -> None:
        await self.drain.wait()
        for scope in self.idle:
            scope.cancel()


class _Connection:
    """One client's requests, one after the other."""

    def __init__(self, service: Service, stream: trio.abc.HalfCloseableStream) -> None:
        self._service = service
        self._stream = stream
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._idle_timeout = HEAD_TIMEOUT  # who connects means to ask
        self._heads_only = False
        """Whether the request is for the head of the response alone."""

    async def run(self) -> None:
        try:
            while (request := await self._next_request()) is not None:
                await self._answer(request)
                if self._http.our_state is not h11.DONE:
                    break
                self._http.start_next_cycle()
                self._heads_only = False
                self._idle_timeout = IDLE_TIMEOUT
        except h11.RemoteProtocolError as exc:
            await self._send(_refusal(HTTPStatus(exc.error_status_hint)), last=True)
        except trio.TooSlowError:
            await self._send(_refusal(HTTPStatus.REQUEST_TIMEOUT), last=True)
        await finish(self._stream)

    async def _next_request(self) -> h11.Request | None:
        """None if there is none: the client closed, was idle for too long, or we drain.

        Raises:
          h11.RemoteProtocolError: not HTTP, or too large.
          trio.TooSlowError: a head that does not end.
        """
        event = self._http.next_event()
        if event is h11.NEED_DATA and not await self._head_begins():
            return None
        with trio.fail_after(HEAD_TIMEOUT):
            while event is h11.NEED_DATA:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    await self._receive()
        return event if isinstance(event, h11.Request) else None

    async def _head_begins(self) -> bool:
        with trio.move_on_after(self._idle_timeout) as scope:
            self._service.idle.add(scope)
            try:
                if self._service.drain.is_set():
                    return False
                await self._receive()
            finally:
                self._service.idle.discard(scope)
        return not scope.cancelled_caught

    async def _receive(self) -> None:
        self._http.receive_data(bytes(await self._stream.receive_some()))

    async def _answer(self, received: h11.Request) -> None:
        self._heads_only = received.method == b"HEAD"
        has_body = not isinstance(self._http.next_event(), h11.EndOfMessage)
        response = await self._response_to(parse_request(received))
        await self._send(response, last=has_body or self._service.drain.is_set())

    async def _response_to(self, request: Request) -> Response:
        handler = self._service.routes.get(request.path)
        if handler is None or request.method == "CONNECT":
            return NOT_FOUND
        answer = handler(request)
        return answer if isinstance(answer, Response) else await self._watching(request, answer)

    async def _watching(self, request: Request, answer: Awaitable[Response]) -> Response:
        """What ``answer`` comes to; meanwhile the client may go."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, request.gone)
            response = await answer
            nursery.cancel_scope.cancel()
        return response

    async def _watch(self, gone: trio.Event) -> None:
        """Octets mean that the client is there, and are kept for the next request; after them it
        is not looked for any more, so that it cannot make us store more than one read."""
        try:
            octets = bytes(await self._stream.receive_some())
        except trio.BrokenResourceError:
            gone.set()
            return
        self._http.receive_data(octets)
        if not octets:
            gone.set()

    async def _send(self, response: Response, *, last: bool) -> None:
        with trio.move_on_after(SEND_TIMEOUT) as scope:
            await self._stream.send_all(self._serialize(response, last=last))
        if scope.cancelled_caught:
            raise trio.BrokenResourceError(f"response not taken within {SEND_TIMEOUT:g} s")

    def _serialize(self, response: Response, *, last: bool) -> bytes:
        headers = [
            ("Date", formatdate(usegmt=True)),
            ("Content-Length", str(len(response.body))),
            ("Content-Type", response.content_type),
            *response.headers.items(),
        ]
        if last:
            headers.append(("Connection", "close"))
        events: list[h11.Event] = [
            h11.Response(
                status_code=response.status,
                reason=response.status.phrase.encode(),
                headers=headers,
            )
        ]
        if not self._heads_only:
            events.append(h11.Data(data=response.body))
        events.append(h11.EndOfMessage())
        return b"".join(self._http.send(event) or b"" for event in events)


def _refusal(status: HTTPStatus) -> Response:
    return text(status, f"{status} {status.phrase}")


def parse_request(received: h11.Request) -> Request:
    """What is asked for.

    Raises:
      h11.RemoteProtocolError: another version; a target that is neither a path nor an absolute URL
        (RFC 9112 section 3.2); not a host.
    """
    if not received.http_version.startswith(b"1."):
        raise h11.RemoteProtocolError("HTTP/1.1 is spoken here", error_status_hint=505)
    target = received.target.decode("ascii")
    host = dict(received.headers).get(b"host", b"").decode("latin-1")
    if absolute := _ABSOLUTE.fullmatch(target):
        host, target = absolute["host"], absolute["target"] or "/"
    if not target.startswith("/") or not _HOST.fullmatch(host):
        raise h11.RemoteProtocolError("neither path nor URL, or not a host")
    path, _, query = target.partition("?")
    return Request(
        method=received.method.decode("ascii"),
        path=unquote(path),
        target=target,
        query=parse_qs(query, keep_blank_values=True),
        host=host,
        gone=trio.Event(),
    )
