"""The paths under ``/debug/pprof``: what Go's net/http/pprof has, as far as Python has it too.

- ``profile?seconds=30``: where all threads spend their time, on the CPU or waiting, by samples of
  their stacks; for ``go tool pprof``, or as folded stacks with ``&debug=1``.
- ``stacks``: every thread and trio task and what it does now. Go has ``goroutine`` for this.
- ``symbol``, ``trace``: there is nothing to answer, and the answer says so.
"""

import threading
from collections.abc import Mapping, Sequence
from html import escape
from http import HTTPStatus

import trio

from tunneld.adminhttp import TEXT, Request, Response, Routes, text
from tunneld.pprof import serialize_folded, serialize_pprof
from tunneld.stacks import StackProfile, describe_stacks, sample_stacks

DEFAULT_SECONDS = 30
MAX_SECONDS = 300

_INDEX = b"""<!DOCTYPE html>
<html>
<head><title>/debug/pprof/</title></head>
<body>
<h1>/debug/pprof/</h1>
<ul>
<li><a href="profile?seconds=30">profile</a>: where the threads spend their time, for
<code>go tool pprof</code>; <code>seconds</code> is 1 to 300</li>
<li><a href="profile?seconds=30&amp;debug=1">profile as folded stacks</a>, for flame graphs</li>
<li><a href="stacks">stacks</a>: what each thread and task does now</li>
</ul>
</body>
</html>
"""


def profiling_routes() -> Routes:
    """The paths under ``/debug/pprof`` of one listener."""
    profiler = Profiler()
    return {
        "/debug/pprof": lambda _: moved("/debug/pprof/"),
        "/debug/pprof/": lambda _: Response(HTTPStatus.OK, _INDEX, "text/html; charset=utf-8"),
        "/debug/pprof/profile": profiler.profile,
        "/debug/pprof/stacks": lambda _: text(HTTPStatus.OK, describe_stacks()),
        "/debug/pprof/symbol": lambda _: text(
            HTTPStatus.NOT_IMPLEMENTED, "There are no addresses to look up: profiles have names.\n"
        ),
        "/debug/pprof/trace": lambda _: text(
            HTTPStatus.NOT_IMPLEMENTED,
            "Python has no execution tracer; see /debug/pprof/profile and /debug/pprof/stacks.\n",
        ),
    }


def moved(location: str) -> Response:
    """A redirect for good, as Go words it."""
    page = f'<a href="{escape(location)}">Moved Permanently</a>.\n\n'
    return Response(
        HTTPStatus.MOVED_PERMANENTLY,
        page.encode(),
        "text/html; charset=utf-8",
        {"Location": location},
    )


class Profiler:
    """Takes one profile at a time."""

    def __init__(self) -> None:
        self._busy = False

    async def profile(self, request: Request) -> Response:
        """Answers after ``seconds``, or when the client is gone."""
        seconds = _seconds(request.query)
        if seconds is None:
            return text(HTTPStatus.BAD_REQUEST, f"seconds: give 1 to {MAX_SECONDS}\n")
        if self._busy:
            return text(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "Could not enable CPU profiling: cpu profiling already in use\n",
            )
        self._busy = True
        try:
            profile = await _profile_for(seconds, request.gone)
        finally:
            self._busy = False
        if request.query.get("debug", ["0"])[0] not in ("", "0"):
            return Response(HTTPStatus.OK, serialize_folded(profile), TEXT)
        return Response(
            HTTPStatus.OK,
            serialize_pprof(profile),
            "application/octet-stream",
            {"Content-Disposition": 'attachment; filename="profile"'},
        )


def _seconds(query: Mapping[str, Sequence[str]]) -> int | None:
    given = query.get("seconds", [str(DEFAULT_SECONDS)])[0]
    if not given.isascii() or not given.isdecimal() or len(given) > len(str(MAX_SECONDS)):
        return None
    return int(given) if 1 <= int(given) <= MAX_SECONDS else None


async def _profile_for(seconds: int, gone: trio.Event) -> StackProfile:
    stop = threading.Event()

    async def stop_in_time() -> None:
        try:
            with trio.move_on_after(seconds):
                await gone.wait()
        finally:
            stop.set()  # when cancelled too: the thread is waited for

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_in_time)
        return await trio.to_thread.run_sync(sample_stacks, stop)
