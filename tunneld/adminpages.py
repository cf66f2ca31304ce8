"""What the daemon's admin listener answers: ``/metrics``, ``/healthz``, ``/readyz``."""

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus

import trio

from tunneld.accepting import listen
from tunneld.adminhttp import Handler, Request, Response, Routes, serve_routes, text
from tunneld.health import Check, Health
from tunneld.scrape import CONTENT_TYPE, Scrape


def admin_routes(health: Health, scrape: Scrape) -> Routes:
    """By path. With ``?verbose``, health checks tell each thing that was looked at."""

    async def metrics(_: Request) -> Response:
        return Response(HTTPStatus.OK, (await scrape.text()).encode(), CONTENT_TYPE)

    return {
        "/metrics": metrics,
        "/healthz": _page(health.alive),
        "/readyz": _page(health.ready),
    }


def _page(look: Callable[[], Awaitable[Sequence[Check]]]) -> Handler:
    async def answer(request: Request) -> Response:
        checks = await look()
        failed = [check for check in checks if check.problem]
        status = HTTPStatus.SERVICE_UNAVAILABLE if failed else HTTPStatus.OK
        shown = checks if "verbose" in request.query else failed
        last = "check failed" if failed else "ok"
        return text(status, "".join(f"{line}\n" for line in [*map(_line, shown), last]))

    return answer


def _line(check: Check) -> str:
    return f"[-] {check.name}: {check.problem}" if check.problem else f"[+] {check.name}"


async def serve_admin(
    address: str,
    routes: Routes,
    drain: trio.Event,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer at ``address``, ``host:port`` or ``unix:/path``, until ``drain`` is set.

    Raises:
      RoleError: it cannot be listened on.
    """
    listeners = [
        trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in await listen(address)
    ]
    await serve_routes(listeners, routes, drain, task_status)
