"""A Kubernetes API as far as leases and token reviews go. It asserts that each request is right.

`ApiDouble.answer` is the API itself; `DirectTransport` puts it under a client without a network,
for tests that count in trio's time, and `tests.tunneld.kube.apiwire` behind real sockets.
"""

import json
import re
from collections.abc import AsyncIterator, Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import httpx
import trio

COLLECTION = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

Object: TypeAlias = dict[str, Any]


@dataclass
class Ask:
    """A request as it arrived; names of headers in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any = None

    @property
    def kind(self) -> str:
        """``GET``, ``POST``, ``PUT``, ``DELETE``, or ``LIST``, ``WATCH``, ``REVIEW``."""
        if self.query.get("watch") == "true":
            return "WATCH"
        if self.path == REVIEWS:
            return "REVIEW"
        return "LIST" if (self.method, self.path) == ("GET", COLLECTION) else self.method


@dataclass
class Reply:
    """An answer; of a watch ``chunks`` has its lines, and `BROKEN` cuts it off."""

    status: int
    body: bytes = b""
    chunks: trio.MemoryReceiveChannel[bytes] | None = None
    content_type: str = "application/json"


BROKEN = b"\0broken"
"""A chunk that stands for a connection that breaks."""

Trouble: TypeAlias = Callable[[Ask], Reply | None]


def status(code: int, reason: str, message: str = "told by the double") -> Reply:
    """A failure as the API words it."""
    word = "Success" if code == 200 else "Failure"
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": word,
        "message": message,
        "reason": reason,
        "code": code,
    }
    return Reply(code, json.dumps(body).encode())


@dataclass
class ApiDouble:
    """One API with leases in the namespace kube-system."""

    leases: dict[str, Object] = field(default_factory=dict)
    tokens: dict[str, Object] = field(default_factory=dict)
    """What a review tells of a token: its status."""
    authorization: str = ""
    """The header that each request must have; "" for none."""
    asks: list[Ask] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """Trio times of the asks."""
    version: int = 100
    oldest: int = 0
    """Watches from before this version are told that they are too late."""
    trouble: list[Trouble] = field(default_factory=list)
    """Asked first, each until it gives a reply, and removed then."""
    down: bool = False
    hanging: set[str] = field(default_factory=set)
    """Kinds of asks that are never answered."""
    delay: float = 0
    """Seconds before each answer."""
    watchers: list[trio.MemorySendChannel[bytes]] = field(default_factory=list)
    history: list[tuple[int, bytes]] = field(default_factory=list)

    def kinds(self) -> list[str]:
        return [ask.kind for ask in self.asks]

    def times_of(self, kind: str) -> list[float]:
        pairs = zip(self.asks, self.times, strict=True)
        return [time for ask, time in pairs if ask.kind == kind]

    def fail(self, kind: str, reply: Reply, times: int = 1) -> None:
        """Answer the next ``times`` asks of ``kind`` by ``reply``."""
        self.trouble += [lambda ask: reply if ask.kind == kind else None] * times

    async def answer(self, ask: Ask) -> Reply:
        self.asks.append(ask)
        self.times.append(trio.current_time())
        self._check_headers(ask)
        if ask.kind in self.hanging:
            await trio.sleep_forever()
        await trio.sleep(self.delay)
        for trouble in self.trouble:
            if (reply := trouble(ask)) is not None:
                self.trouble.remove(trouble)
                return reply
        if ask.path == REVIEWS:
            return self._review(ask)
        if ask.path == COLLECTION:
            return self._collection(ask)
        assert ask.path.startswith(f"{COLLECTION}/"), ask.path
        assert not ask.query, ask.query
        return self._object(ask, ask.path.removeprefix(f"{COLLECTION}/"))

    def _check_headers(self, ask: Ask) -> None:
        headers = ask.headers
        assert headers.get("authorization", "") == self.authorization
        assert headers["accept"] == "application/json"
        assert headers["accept-encoding"] == "identity"
        assert headers["user-agent"].startswith("tunneld/")
        expected = None if ask.body is None else "application/json"
        assert headers.get("content-type") == expected
        assert (ask.body is None) == (ask.method == "GET")

    def _review(self, ask: Ask) -> Reply:
        assert ask.method == "POST"
        assert set(ask.body) == {"apiVersion", "kind", "spec"}
        assert ask.body["apiVersion"] == "authentication.k8s.io/v1"
        assert ask.body["kind"] == "TokenReview"
        assert set(ask.body["spec"]) == {"token", "audiences"}
        told = self.tokens.get(ask.body["spec"]["token"], {"error": "no such token"})
        return _json(201, {**ask.body, "status": told})

    def _collection(self, ask: Ask) -> Reply:
        if ask.method == "POST":
            assert not ask.query
            return self._create(ask.body)
        assert ask.method == "GET"
        if ask.kind == "WATCH":
            return self._watch(ask)
        assert set(ask.query) <= {"labelSelector"}
        items = [lease for lease in self.leases.values() if _selected(lease, ask.query)]
        metadata = {"resourceVersion": str(self.version)}
        kind = {"apiVersion": "coordination.k8s.io/v1", "kind": "LeaseList"}
        return _json(200, {**kind, "metadata": metadata, "items": items})

    def _object(self, ask: Ask, name: str) -> Reply:
        if ask.method == "PUT":
            return self._update(name, ask.body)
        if name not in self.leases:
            return status(404, "NotFound", f'leases.coordination.k8s.io "{name}" not found')
        if ask.method == "DELETE":
            return self._delete(name, ask.body)
        assert ask.method == "GET"
        return _json(200, self.leases[name])

    def _create(self, lease: Object) -> Reply:
        _check_lease(lease)
        name = lease["metadata"]["name"]
        assert "resourceVersion" not in lease["metadata"]
        assert lease["metadata"]["namespace"] == "kube-system"
        if name in self.leases:
            return status(409, "AlreadyExists", f'leases "{name}" already exists')
        return _json(201, self.put(lease))

    def _update(self, name: str, lease: Object) -> Reply:
        _check_lease(lease)
        assert lease["metadata"]["name"] == name
        known = self.leases.get(name)
        if known is None:
            return status(404, "NotFound", f'leases.coordination.k8s.io "{name}" not found')
        if lease["metadata"]["resourceVersion"] != known["metadata"]["resourceVersion"]:
            return status(409, "Conflict", "the object has been modified")
        return _json(200, self.put(lease))

    def _delete(self, name: str, options: Object) -> Reply:
        assert set(options) <= {"apiVersion", "kind", "preconditions"}
        assert (options["apiVersion"], options["kind"]) == ("v1", "DeleteOptions")
        known = self.leases[name]["metadata"]["resourceVersion"]
        if options.get("preconditions", {}).get("resourceVersion", known) != known:
            return status(409, "Conflict", "the ResourceVersion in the precondition does not match")
        self.remove(name)
        return status(200, "", "")

    def put(self, lease: Object) -> Object:
        """Store a lease, whoever asks for it, and tell the watches."""
        self.version += 1
        stored = deepcopy(lease)
        stored["metadata"]["resourceVersion"] = str(self.version)
        known = stored["metadata"]["name"] in self.leases
        self.leases[stored["metadata"]["name"]] = stored
        self._tell("MODIFIED" if known else "ADDED", stored)
        return stored

    def remove(self, name: str) -> None:
        """Drop a lease, and tell the watches."""
        self.version += 1
        self._tell("DELETED", self.leases.pop(name))

    def _tell(self, what: str, lease: Object) -> None:
        self.send(event(what, lease), self.version)

    def send(self, line: bytes, version: int = 0) -> None:
        """Send ``line`` to all watches now, and to those that begin before ``version``."""
        self.history.append((version, line))
        for watcher in self.watchers:
            watcher.send_nowait(line)

    def end_watches(self) -> None:
        """As the API does at a watch's time limit."""
        for watcher in self.watchers:
            watcher.close()
        self.watchers.clear()

    def break_watches(self) -> None:
        for watcher in self.watchers:
            watcher.send_nowait(BROKEN)
        self.watchers.clear()

    def _watch(self, ask: Ask) -> Reply:
        assert set(ask.query) <= {
            "allowWatchBookmarks",
            "labelSelector",
            "resourceVersion",
            "timeoutSeconds",
            "watch",
        }
        assert ask.query["allowWatchBookmarks"] == "true"
        assert 300 <= int(ask.query["timeoutSeconds"]) <= 600
        since = int(ask.query["resourceVersion"])
        if since < self.oldest:
            return status(410, "Expired", "too old resource version")
        send, receive = trio.open_memory_channel[bytes](100)
        self.watchers.append(send)
        for version, line in self.history:
            if version > since:
                send.send_nowait(line)
        return Reply(200, chunks=receive)


def event(what: str, value: Object) -> bytes:
    """A line of a watch."""
    return json.dumps({"type": what, "object": value}).encode() + b"\n"


def _json(code: int, value: Object) -> Reply:
    return Reply(code, json.dumps(value).encode())


def _check_lease(lease: Object) -> None:
    assert lease["apiVersion"] == "coordination.k8s.io/v1"
    assert lease["kind"] == "Lease"
    spec = lease["spec"]
    assert lease["metadata"]["name"] == f"konnectivity-proxy-server-{spec['holderIdentity']}"
    assert spec["leaseDurationSeconds"] == 30
    assert MICRO_TIME.fullmatch(spec["renewTime"])


def _selected(lease: Object, query: dict[str, str]) -> bool:
    labels = lease["metadata"].get("labels", {})
    wanted = [each.split("=") for each in query.get("labelSelector", "").split(",") if each]
    return all(labels.get(key) == value for key, value in wanted)


class DirectTransport(httpx.AsyncBaseTransport):
    """Hands requests to the double, without a network."""

    def __init__(self, api: ApiDouble) -> None:
        self._api = api

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        if self._api.down:
            raise httpx.ConnectError("connection refused", request=request)
        content = await request.aread()
        ask = Ask(
            request.method,
            request.url.path,
            dict(request.url.params),
            dict(request.headers),
            json.loads(content) if content else None,
        )
        reply = await self._api.answer(ask)
        return httpx.Response(reply.status, stream=ReplyStream(reply))


class ReplyStream(httpx.AsyncByteStream):
    """The body of a reply, as httpx takes it."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._reply.chunks is None:
            yield self._reply.body
            return
        async for chunk in self._reply.chunks:
            if chunk == BROKEN:
                raise httpx.ReadError("connection reset")
            yield chunk

    async def aclose(self) -> None:
        if self._reply.chunks is not None:
            self._reply.chunks.close()
