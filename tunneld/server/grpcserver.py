"""gRPC calls that a server takes: one method for each port, as konnectivity has it."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import structlog
import trio

from frames import Headers
from frames.grpc import (
    CONTENT_TYPE,
    GrpcError,
    Request,
    Status,
    check_request,
    trailers,
    trailers_only,
    unimplemented,
)
from frames.grpcstatus import quoted
from tunneld.streamend import StreamEnd

log = structlog.get_logger(__name__)

Handler: TypeAlias = Callable[[StreamEnd, Request], Awaitable[None]]
"""Serves one call, and raises `GrpcError` for another end than OK."""


class GrpcServer:
    """Serves ``/service/method`` by ``handler``, and refuses other calls as Go does."""

    def __init__(self, service: str, method: str, handler: Handler) -> None:
        self._service = service.encode()
        self._method = method.encode()
        self._handler = handler

    async def serve(self, end: StreamEnd, headers: Headers) -> None:
        """Serve one call to its end."""
        error = GrpcError(Status.OK, "")
        try:
            await self._call(end, headers)
        except GrpcError as exc:
            error = exc
        except trio.Cancelled:
            error = GrpcError(Status.UNAVAILABLE, "the server is shutting down")
            raise
        except Exception:  # a bug: it ends this call alone
            log.exception("call failed", service=self._service.decode())
            error = GrpcError(Status.INTERNAL, "internal error")
        finally:
            _end(end, error)

    async def _call(self, end: StreamEnd, headers: Headers) -> None:
        request = check_request(headers)
        if (request.service, request.method) != (self._service, self._method):
            raise unimplemented(request, {self._service})
        if request.encoding not in (b"", b"identity"):  # before any message, as Go
            name = quoted(request.encoding)
            text = f"grpc: Decompressor is not installed for grpc-encoding {name}"
            raise GrpcError(Status.UNIMPLEMENTED, text)
        await self._handler(end, request)


def is_call(headers: Headers) -> bool:
    """Whether a request means to be a gRPC call."""
    return dict(headers).get(b"content-type", b"").startswith(CONTENT_TYPE)


def _end(end: StreamEnd, error: GrpcError) -> None:
    if end.stream.head_sent:
        end.end(trailers(error.status, error.message))
    else:
        head = trailers_only(error.status, error.message, http_status=error.http_status)
        end.end(head)
