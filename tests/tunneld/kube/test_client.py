"""Requests to an API: what is sent, what failures become, and the limits of time and rate."""

import ssl

import httpx
import pytest
import trio

from tests.tunneld.kube.apidouble import (
    COLLECTION,
    REVIEWS,
    ApiDouble,
    DirectTransport,
    Reply,
    ReplyStream,
    event,
    status,
)
from tests.tunneld.kube.samples import lease_object
from tunneld.kube.access import Access, BearerToken
from tunneld.kube.client import KubeClient
from tunneld.kube.errors import KubeError

NAME = "konnectivity-proxy-server-a"
PATH = f"{COLLECTION}/{NAME}"


def new_lease(server: str) -> dict[str, object]:
    lease = lease_object(server)
    del lease["metadata"]["resourceVersion"]
    return lease


async def test_objects_are_created_read_updated_listed_and_deleted(
    api: ApiDouble, client: KubeClient
) -> None:
    created = await client.create(COLLECTION, new_lease("a"))
    assert await client.get(PATH) == created
    updated = await client.update(PATH, created)
    assert updated["metadata"]["resourceVersion"] == "102"
    listed = await client.get(COLLECTION, labelSelector="k8s-app=konnectivity-server")
    assert listed["items"] == [updated]
    await client.delete(PATH, "102")
    assert api.leases == {}


async def test_a_deletion_may_depend_on_the_version(api: ApiDouble, client: KubeClient) -> None:
    api.put(lease_object("a"))
    with pytest.raises(KubeError) as caught:
        await client.delete(PATH, "5")
    assert (caught.value.status, caught.value.reason) == (409, "Conflict")
    await client.delete(PATH)
    assert [ask.body for ask in api.asks] == [
        {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"resourceVersion": "5"},
        },
        {"apiVersion": "v1", "kind": "DeleteOptions"},
    ]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (status(404, "NotFound", "no such lease"), (404, "NotFound", "no such lease")),
        (status(422, "Invalid", "bad name"), (422, "Invalid", "bad name")),
        (Reply(503, b"<html>busy</html>"), (503, "ServiceUnavailable")),
        (Reply(502, b""), (502, "")),
        (Reply(401, b'{"message": "go away"}'), (401, "Unauthorized")),
        (Reply(302, b""), (302, "")),
        (Reply(200, b"OK"), (0, "")),
        (Reply(200, b"[]"), (0, "")),
    ],
)
async def test_what_is_no_success_becomes_an_error(
    api: ApiDouble, client: KubeClient, reply: Reply, error: tuple[object, ...]
) -> None:
    api.fail("LIST", reply)
    with pytest.raises(KubeError) as caught:
        await client.get(COLLECTION)
    seen = (caught.value.status, caught.value.reason, str(caught.value))
    assert seen[: len(error)] == error
    assert seen[2]


async def test_an_answer_without_a_text_is_described(api: ApiDouble, client: KubeClient) -> None:
    api.fail("LIST", Reply(503, b"<html>busy</html>"))
    with pytest.raises(KubeError, match="the API answered 503 Service Unavailable"):
        await client.get(COLLECTION)


async def test_a_slow_answer_is_given_up_after_ten_seconds(
    autojump_clock: object, api: ApiDouble, client: KubeClient
) -> None:
    api.delay = 11
    with pytest.raises(KubeError) as caught:
        await client.get(COLLECTION)
    assert trio.current_time() == pytest.approx(10)
    assert caught.value.status == 0
    assert str(caught.value) == f'Get "https://api.test{COLLECTION}": no answer in 10 s'


async def test_an_answer_that_drips_is_given_up_too(
    autojump_clock: object, api: ApiDouble, client: KubeClient
) -> None:
    send, receive = trio.open_memory_channel[bytes](100)
    api.fail("LIST", Reply(200, chunks=receive))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip, send)
        with pytest.raises(KubeError, match="no answer in 10 s"):
            await client.get(COLLECTION)
        nursery.cancel_scope.cancel()
    assert trio.current_time() == pytest.approx(10)


async def drip(send: trio.MemorySendChannel[bytes]) -> None:
    async with send:
        while True:
            await send.send(b" ")
            await trio.sleep(0.5)


async def test_a_huge_answer_is_refused(
    api: ApiDouble, client: KubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.fail("LIST", Reply(200, bytes((16 << 20) + 1)))
    with pytest.raises(KubeError, match="the API's answer has more than 16777216 octets"):
        await client.get(COLLECTION)


async def test_a_refused_connection_is_an_error_without_a_status(
    api: ApiDouble, client: KubeClient
) -> None:
    api.down = True
    with pytest.raises(KubeError) as caught:
        await client.update(PATH, lease_object("a"))
    assert caught.value.status == 0
    assert str(caught.value) == f'Put "https://api.test{PATH}": connection refused'


async def test_requests_keep_to_the_rate(autojump_clock: object, api: ApiDouble) -> None:
    access = Access("test", "https://api.test", ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    async with KubeClient(access, qps=2, burst=3, transport=DirectTransport(api)) as client:
        for _ in range(4):
            await client.get(COLLECTION)
        async with client.watch(COLLECTION, **WATCH):
            pass
    assert api.times == pytest.approx([0, 0, 0, 0.5, 1])


async def test_a_crowd_of_token_reviews_does_not_hold_up_a_lease(
    autojump_clock: object, api: ApiDouble
) -> None:
    access = Access("test", "https://api.test", ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    spec = {"token": "abc", "audiences": ["tunnel"]}
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    async with (
        KubeClient(access, transport=DirectTransport(api)) as client,
        trio.open_nursery() as nursery,
    ):
        for _ in range(100):
            nursery.start_soon(client.create, REVIEWS, review)
        await trio.testing.wait_all_tasks_blocked()
        await client.create(COLLECTION, new_lease("a"))
        assert trio.current_time() == 0
    assert trio.current_time() == pytest.approx(90 / 5)


WATCH = {"allowWatchBookmarks": "true", "timeoutSeconds": "300", "resourceVersion": "100"}


async def test_a_watch_gives_events_until_it_ends(api: ApiDouble, client: KubeClient) -> None:
    async with client.watch(COLLECTION, **WATCH) as watch:
        stored = api.put(lease_object("a"))
        seen = await watch.receive()
        assert seen is not None
        assert (seen.type, seen.object) == ("ADDED", stored)
        api.end_watches()
        assert await watch.receive() is None


async def test_a_watch_may_be_left_amid_an_event(api: ApiDouble, client: KubeClient) -> None:
    async with client.watch(COLLECTION, **WATCH) as watch:
        api.send(event("BOOKMARK", {}) + b'{"type": ')
        await watch.receive()
        with trio.move_on_after(0):
            await watch.receive()


async def test_a_watch_that_breaks_is_an_error(api: ApiDouble, client: KubeClient) -> None:
    async with client.watch(COLLECTION, **WATCH) as watch:
        api.break_watches()
        with pytest.raises(KubeError, match="connection reset"):
            await watch.receive()


async def test_a_watch_that_is_refused_is_an_error(api: ApiDouble, client: KubeClient) -> None:
    api.oldest = 1000
    with pytest.raises(KubeError, match="too old resource version") as caught:
        async with client.watch(COLLECTION, **WATCH):
            pass
    assert caught.value.status == 410


async def test_a_watch_that_is_not_answered_is_given_up(
    autojump_clock: object, api: ApiDouble, client: KubeClient
) -> None:
    api.hanging = {"WATCH"}
    with pytest.raises(KubeError, match="no answer in 10 s"):
        async with client.watch(COLLECTION, **WATCH):
            pass
    assert trio.current_time() == pytest.approx(10)


async def test_a_watch_has_no_limit_of_time_once_it_is_open(
    autojump_clock: object, api: ApiDouble, client: KubeClient
) -> None:
    async with client.watch(COLLECTION, **WATCH) as watch:
        with trio.move_on_after(1000) as scope:
            await watch.receive()
    assert scope.cancelled_caught


async def test_authorization_a_name_for_tls_and_nothing_empty_are_sent(api: ApiDouble) -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, stream=ReplyStream(Reply(200, b"{}")))

    access = Access(
        "test",
        "https://api.test/prefix",
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        server_name="kubernetes",
        authorization=BearerToken("abc"),
    )
    async with KubeClient(access, transport=httpx.MockTransport(answer)) as client:
        await client.get("/apis/x", labelSelector="a in (b,c)", resourceVersion="")
    [request] = requests
    assert request.url == "https://api.test/prefix/apis/x?labelSelector=a+in+%28b%2Cc%29"
    assert request.extensions["sni_hostname"] == "kubernetes"
    assert request.headers["authorization"] == "Bearer abc"
