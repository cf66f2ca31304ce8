"""Bodies that are cut anywhere, too long, or not what they should be."""

from collections.abc import AsyncIterator, Sequence

import httpx
import pytest
import trio

from tests.tunneld.kube.apidouble import event
from tunneld.kube.body import Body, Watch, parse_object, status_error
from tunneld.kube.errors import KubeError


class Chunks(httpx.AsyncByteStream):
    """Gives chunks out, and then ends, or goes on for ever."""

    def __init__(self, chunks: Sequence[bytes], *, endless: bool = False) -> None:
        self.chunks = chunks
        self.endless = endless
        self.given = 0
        self.ended = False
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while True:
                for chunk in self.chunks:
                    await trio.lowlevel.checkpoint()
                    self.given += len(chunk)
                    yield chunk
                if not self.endless:
                    break
        finally:
            self.ended = True

    async def aclose(self) -> None:
        self.closed = True


def body_of(chunks: Chunks) -> Body:
    request = httpx.Request("GET", "https://api.test/")
    return Body(httpx.Response(200, stream=chunks, request=request))


async def test_a_whole_body_is_all_of_its_chunks() -> None:
    body = body_of(Chunks([b"ab", b"", b"cd"]))
    assert await body.receive_all() == b"abcd"
    await body.aclose()


async def test_a_body_over_the_limit_is_refused_before_it_is_stored() -> None:
    chunks = Chunks([bytes(100)], endless=True)
    body = body_of(chunks)
    with pytest.raises(KubeError, match="more than 1000 octets"):
        await body.receive_all(1000)
    assert chunks.given == 1100
    await body.aclose()
    assert chunks.ended
    assert chunks.closed


async def test_a_body_of_just_the_limit_is_taken() -> None:
    body = body_of(Chunks([bytes(500), bytes(500)]))
    assert len(await body.receive_all(1000)) == 1000
    await body.aclose()


async def test_a_body_that_nobody_read_is_closed_quietly() -> None:
    chunks = Chunks([b"x"], endless=True)
    await body_of(chunks).aclose()
    assert chunks.closed


async def receive(text: bytes, size: int) -> list[tuple[str, object]]:
    body = body_of(Chunks([text[at : at + size] for at in range(0, len(text), size)]))
    watch = Watch(body)
    events: list[tuple[str, object]] = []
    while (seen := await watch.receive()) is not None:
        events.append((seen.type, seen.object))
    await body.aclose()
    return events


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
async def test_events_do_not_depend_on_how_octets_are_cut(size: int) -> None:
    text = event("ADDED", {"a": 1}) + b"\n" + event("DELETED", {"b": "ü"}) + b' {"type": "CUT'
    assert await receive(text, size) == [("ADDED", {"a": 1}), ("DELETED", {"b": "ü"})]


async def test_an_event_over_the_limit_is_refused_before_it_is_stored() -> None:
    chunks = Chunks([bytes(100)], endless=True)
    body = body_of(chunks)
    with pytest.raises(KubeError, match="event of the watch has more than 1000 octets"):
        await Watch(body, 1000).receive()
    assert chunks.given == 1100
    await body.aclose()


async def test_an_error_event_is_raised_with_its_code() -> None:
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    body = body_of(Chunks([event("ERROR", status)]))
    with pytest.raises(KubeError, match="too old") as caught:
        await Watch(body).receive()
    assert (caught.value.status, caught.value.reason) == (410, "Expired")
    await body.aclose()


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"\xff", b'{"a": "\xff"}', b'{"a": "\\ud800"}', b"[" * 100_000, b"[1]", b"1"],
)
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(KubeError, match="the API's answer is not") as caught:
        parse_object(data)
    assert caught.value.status == 0


def test_a_status_may_say_nothing() -> None:
    error = status_error({"code": None, "reason": None}, 500, "it failed")
    assert (error.status, error.reason, str(error)) == (500, "", "it failed")
