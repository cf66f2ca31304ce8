"""The paths under ``/debug/pprof``: what they answer, and that profiles end and clean up."""

import gzip
import itertools
from collections.abc import Awaitable, Mapping
from http import HTTPStatus

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tunneld.adminhttp import Request, Response
from tunneld.profiling import Profiler, moved, profiling_routes
from tunneld.stacks import thread_stacks


def request(path: str, gone: trio.Event, **query: str) -> Request:
    fields: Mapping[str, list[str]] = {key: [value] for key, value in query.items()}
    return Request("GET", path, path, fields, "x", gone)


def get(path: str) -> Response:
    """What a path that answers at once has."""
    response = profiling_routes()[path](request(path, trio.Event()))
    assert isinstance(response, Response)
    return response


def profile(profiler: Profiler, gone: trio.Event, **query: str) -> Awaitable[Response]:
    return profiler.profile(request("/debug/pprof/profile", gone, **query))


def gone_at_once() -> trio.Event:
    """Of a client that does not wait: its profile is over as soon as it has begun."""
    gone = trio.Event()
    gone.set()
    return gone


def is_sampling() -> bool:
    """Whether a thread is in the sampler."""
    frames = itertools.chain.from_iterable(stack.frames for stack in thread_stacks())
    return "tunneld.stacks.sample_stacks" in [frame.function for frame in frames]


def test_index_is_behind_a_redirect_and_links_to_what_there_is() -> None:
    redirect = get("/debug/pprof")
    assert redirect.status == HTTPStatus.MOVED_PERMANENTLY
    assert redirect.headers == {"Location": "/debug/pprof/"}
    index = get("/debug/pprof/")
    assert index.status == HTTPStatus.OK
    assert index.content_type == "text/html; charset=utf-8"
    for link in (b'href="profile?seconds=30"', b'href="stacks"'):
        assert link in index.body


def test_redirect_page_escapes_what_it_repeats() -> None:
    assert moved("//x'/").body == b'<a href="//x&#x27;/">Moved Permanently</a>.\n\n'


@pytest.mark.parametrize("path", ["/debug/pprof/symbol", "/debug/pprof/trace"])
def test_what_python_does_not_have_says_so(path: str) -> None:
    response = get(path)
    assert response.status == HTTPStatus.NOT_IMPLEMENTED
    assert response.body.endswith(b".\n")


async def test_stacks_show_the_tasks_of_now() -> None:
    assert b" of task " in get("/debug/pprof/stacks").body


async def test_profile_is_a_file_for_pprof() -> None:
    response = await profile(Profiler(), gone_at_once())
    assert response.status == HTTPStatus.OK
    assert response.content_type == "application/octet-stream"
    assert response.headers == {"Content-Disposition": 'attachment; filename="profile"'}
    assert b"nanoseconds" in gzip.decompress(response.body)


@pytest.mark.parametrize(("debug", "folded"), [("1", True), ("0", False), ("", False)])
async def test_profile_is_text_for_those_who_ask(debug: str, folded: bool) -> None:
    response = await profile(Profiler(), gone_at_once(), debug=debug)
    assert response.content_type.startswith("text/plain;") is folded


@pytest.mark.parametrize("seconds", ["0", "301", "-1", "1.5", "x", "", "٣", "9" * 5000])
async def test_profile_of_no_sensible_time_is_refused(seconds: str) -> None:
    response = await profile(Profiler(), gone_at_once(), seconds=seconds)
    assert (response.status, response.body) == (400, b"seconds: give 1 to 300\n")


@pytest.mark.parametrize(("query", "seconds"), [({}, 30), ({"seconds": "7"}, 7)])
async def test_profile_lasts_as_long_as_asked(
    query: dict[str, str], seconds: int, autojump_clock: MockClock
) -> None:
    started = trio.current_time()
    await profile(Profiler(), trio.Event(), **query)
    assert trio.current_time() - started == pytest.approx(seconds)


async def test_second_profile_at_a_time_is_refused_as_in_go() -> None:
    profiler, gone = Profiler(), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(profile, profiler, gone)
        await wait_all_tasks_blocked()
        response = await profile(profiler, gone_at_once())
        gone.set()
    assert response.status == HTTPStatus.INTERNAL_SERVER_ERROR
    assert b"already in use" in response.body
    assert (await profile(profiler, gone_at_once())).status == HTTPStatus.OK


async def test_cancelled_profile_ends_its_thread_and_makes_room() -> None:
    profiler = Profiler()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(profile, profiler, trio.Event())
        with trio.fail_after(10):
            while not is_sampling():
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert not is_sampling()
    assert (await profile(profiler, gone_at_once())).status == HTTPStatus.OK
