"""A client of the Kubernetes API, for the few kinds of requests that leases and tokens take.

JSON always: the API speaks it whatever ``--kube-api-content-type`` says, and the objects are small.
Needs httpx, so `tunneld.kube.opening` imports this module only when there is an API to ask.
"""

import ipaddress
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from types import TracebackType
from typing import Any

import httpx
import msgspec
import trio

from tunneld import __version__
from tunneld.kube.access import Access
from tunneld.kube.body import MAX_BODY, Body, Watch, parse_object, status_error
from tunneld.kube.errors import KubeError
from tunneld.kube.failures import translated, unanswered
from tunneld.kube.ratelimit import RateLimiter

TIMEOUT = 10.0
"""Seconds for one request and its whole answer; a lease lives 30 and is renewed each 15."""

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Gone",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
"""client-go's words for answers that are no ``Status`` objects, as those of proxies in between."""


class KubeClient:
    """Sends requests to one API; an asynchronous context manager, for one task or many.

    All methods raise `KubeError` when the API refuses, does not answer in time, or cannot be
    reached, and may be cancelled. ``path`` starts with ``/apis/GROUP/``.

    Args:
      qps: requests a second to one group of the API, 0 for 5, less for no limit.
      burst: such requests at once after a pause, 0 for 10.
      timeout: seconds for one request and its answer, without the wait for the limit above.
      transport: replaces the network, for tests.
    """

    def __init__(
        self,
        access: Access,
        *,
        qps: float = 0,
        burst: int = 0,
        timeout: float = TIMEOUT,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._access = access
        # For each group of the API its own: a crowd of agents whose tokens are reviewed shall not
        # keep the server from renewing its lease.
        self._limiters = defaultdict[str, RateLimiter](partial(RateLimiter, qps, burst))
        self._timeout = timeout
        self._http = httpx.AsyncClient(
            verify=access.tls,
            proxy=access.proxy or None,
            trust_env=not _is_loopback(access.server),  # as in Go, no proxy for those
            timeout=None,  # trio's deadlines bound requests as a whole
            limits=httpx.Limits(max_keepalive_connections=20),  # the rate bounds connections
            transport=transport,
        )
        # Replaced as a whole: httpx's own ask for compression, which would unbound bodies.
        self._http.headers = httpx.Headers(
            {
                "accept": "application/json",
                "accept-encoding": "identity",
                "user-agent": f"tunneld/{__version__}",
            }
        )

    async def __aenter__(self) -> "KubeClient":
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.__aexit__(kind, value, traceback)

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        """An object, or a list of them; ``query`` as ``labelSelector``."""
        return await self._request("GET", path, query)

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Have an object made in the collection ``path``, and see what became of it."""
        return await self._request("POST", path, {}, body)

    async def update(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an object; 409 if it is not of the ``resourceVersion`` in ``body`` any more."""
        return await self._request("PUT", path, {}, body)

    async def delete(self, path: str, resource_version: str = "") -> None:
        """Delete an object, if it still is of ``resource_version`` (else 409); "" for any."""
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if resource_version:
            body["preconditions"] = {"resourceVersion": resource_version}
        await self._request("DELETE", path, {}, body)

    @asynccontextmanager
    async def watch(self, path: str, **query: str) -> AsyncIterator[Watch]:
        """Watch the collection ``path``; ``query`` as ``resourceVersion``.

        Entered once the API has accepted. How long to wait for an event is the caller's business.
        """
        await self._limiters[_group(path)].wait()
        request = self._build("GET", path, {**query, "watch": "true"}, None)
        body: Body | None = None
        try:
            with self._bounded(request):
                response = await self._http.send(request, stream=True)
                body = Body(response)
                if not response.is_success:
                    raise _refusal(response, await body.receive_all())
            yield Watch(body)
        finally:
            if body is not None:
                await body.aclose()

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        content: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        await self._limiters[_group(path)].wait()
        request = self._build(method, path, query, content)
        with self._bounded(request):
            response = await self._http.send(request, stream=True)
            body = Body(response)
            try:
                data = await body.receive_all(MAX_BODY)
            finally:
                await body.aclose()
        if not response.is_success:
            raise _refusal(response, data)
        return parse_object(data)

    def _build(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        content: Mapping[str, Any] | None,
    ) -> httpx.Request:
        headers = {}
        if authorization := self._access.authorization():
            headers["authorization"] = authorization
        if content is not None:
            headers["content-type"] = "application/json"
        extensions = {}
        if self._access.server_name:
            extensions["sni_hostname"] = self._access.server_name
        return self._http.build_request(
            method,
            self._access.server + path,
            params={key: value for key, value in query.items() if value},
            content=None if content is None else msgspec.json.encode(content),
            headers=headers,
            extensions=extensions,
        )

    @contextmanager
    def _bounded(self, request: httpx.Request) -> Iterator[None]:
        try:
            with translated(request), trio.fail_after(self._timeout):
                yield
        except trio.TooSlowError as exc:
            raise unanswered(request, f"no answer in {self._timeout:g} s") from exc


def _group(path: str) -> str:
    return path.split("/")[2]


def _refusal(response: httpx.Response, data: bytes) -> KubeError:
    code = response.status_code
    try:
        status = parse_object(data)
    except KubeError:
        status = {}
    if status.get("kind") != "Status":
        status = {"reason": _REASONS.get(code, "")}
    # The answer's own code, not the object's, is what everybody between here and there saw.
    status["code"] = code
    return status_error(status, code, f"the API answered {code} {response.reason_phrase}".rstrip())


def _is_loopback(server: str) -> bool:
    host = httpx.URL(server).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
