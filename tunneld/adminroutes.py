"""What the health and admin listeners of the server and the agent answer: konnectivity's paths.

Statuses and texts are upstream's (cmd/server/app, cmd/agent/app); probes and scripts match them.
"""

from collections.abc import Callable
from http import HTTPStatus

from tunneld.adminhttp import Handler, Request, Response, Routes, text
from tunneld.exposition import CONTENT_TYPE, exposition
from tunneld.metrics import make_registry
from tunneld.profiling import moved, profiling_routes
from tunneld.telemetry import AgentTelemetry, ServerTelemetry


def server_health(ready: Callable[[], bool], telemetry: ServerTelemetry) -> Routes:
    """The server's health listener.

    Args:
      ready: whether the first strategy has an agent.
    """

    def readiness(_request: Request) -> Response:
        if ready():
            return text(HTTPStatus.OK, "ok")
        return text(HTTPStatus.INTERNAL_SERVER_ERROR, "no connection to any proxy agent")

    return _health(readiness, telemetry)


def agent_health(ready: Callable[[], bool], telemetry: AgentTelemetry) -> Routes:
    """The agent's health listener.

    Args:
      ready: whether there is a connection to a server.
    """

    def readiness(request: Request) -> Response:
        if not ready():
            return text(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "[+]ping ok\n[-]server-connected failed: no servers connected\n",
            )
        if "verbose" in request.query:
            return text(HTTPStatus.OK, "[+]ping ok\n[+]server-connected ok\ncheck passed\n")
        return text(HTTPStatus.OK, "ok")

    return _health(readiness, telemetry)


def _health(readiness: Handler, telemetry: ServerTelemetry | AgentTelemetry) -> Routes:
    return {
        "/healthz": lambda _: text(HTTPStatus.OK, "ok"),
        "/readyz": readiness,
        "/ready": readiness,
        "/metrics": _metrics(telemetry),
    }


def _metrics(telemetry: ServerTelemetry | AgentTelemetry) -> Handler:
    registry = make_registry(telemetry)
    return lambda _: Response(HTTPStatus.OK, exposition(registry), CONTENT_TYPE)


def server_admin(telemetry: ServerTelemetry, *, profiling: bool) -> Routes:
    """The server's admin listener, with ``/debug/pprof`` if ``profiling``."""
    return {"/metrics": _metrics(telemetry), **_debug(profiling=profiling)}


def agent_admin(health_port: int, *, profiling: bool) -> Routes:
    """The agent's admin listener, which sends those who want metrics to ``health_port``."""

    def metrics(request: Request) -> Response:
        return moved(f"//{_without_port(request.host)}:{health_port}{request.target}")

    return {"/metrics": metrics, **_debug(profiling=profiling)}


def _debug(*, profiling: bool) -> Routes:
    return profiling_routes() if profiling else {}


def _without_port(host: str) -> str:
    """``host``, ``host:port`` and ``[v6]:port`` without their port; brackets stay."""
    name, colon, port = host.rpartition(":")
    return name if colon and not port.endswith("]") else host
