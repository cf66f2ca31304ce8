"""The health and admin listeners' paths, statuses and bodies, which are konnectivity's."""

from http import HTTPStatus

import pytest
import trio

from tunneld.adminhttp import Request, Response, Routes
from tunneld.adminroutes import agent_admin, agent_health, server_admin, server_health
from tunneld.telemetry import AgentTelemetry, ServerTelemetry

PPROF = {
    "/debug/pprof",
    "/debug/pprof/",
    "/debug/pprof/profile",
    "/debug/pprof/stacks",
    "/debug/pprof/symbol",
    "/debug/pprof/trace",
}

NOT_CONNECTED = b"[+]ping ok\n[-]server-connected failed: no servers connected\n"


def get(routes: Routes, path: str, query: str = "", host: str = "x:8094") -> Response:
    """What a route that answers at once has for a path."""
    target = f"{path}?{query}" if query else path
    request = Request("GET", path, target, {query: [""]} if query else {}, host, trio.Event())
    response = routes[path](request)
    assert isinstance(response, Response)
    return response


def status_and_body(response: Response) -> tuple[int, bytes]:
    return response.status, response.body


def test_each_listener_has_its_paths() -> None:
    health = {"/healthz", "/readyz", "/ready", "/metrics"}
    assert server_health(bool, ServerTelemetry()).keys() == health
    assert agent_health(bool, AgentTelemetry()).keys() == health
    assert server_admin(ServerTelemetry(), profiling=False).keys() == {"/metrics"}
    assert agent_admin(8093, profiling=False).keys() == {"/metrics"}
    assert server_admin(ServerTelemetry(), profiling=True).keys() == {"/metrics"} | PPROF
    assert agent_admin(8093, profiling=True).keys() == {"/metrics"} | PPROF


def test_health_is_ok_whether_ready_or_not() -> None:
    for routes in (
        server_health(lambda: False, ServerTelemetry()),
        agent_health(lambda: False, AgentTelemetry()),
    ):
        assert status_and_body(get(routes, "/healthz")) == (200, b"ok")


@pytest.mark.parametrize("path", ["/readyz", "/ready"])
def test_server_is_ready_as_long_as_it_has_an_agent(path: str) -> None:
    agents = [1]
    routes = server_health(lambda: bool(agents), ServerTelemetry())
    assert status_and_body(get(routes, path)) == (200, b"ok")
    agents.clear()
    assert status_and_body(get(routes, path)) == (500, b"no connection to any proxy agent")


@pytest.mark.parametrize("path", ["/readyz", "/ready"])
@pytest.mark.parametrize(
    ("connected", "query", "status", "body"),
    [
        (True, "", 200, b"ok"),
        (True, "verbose", 200, b"[+]ping ok\n[+]server-connected ok\ncheck passed\n"),
        (True, "other", 200, b"ok"),
        (False, "", 503, NOT_CONNECTED),
        (False, "verbose", 503, NOT_CONNECTED),
    ],
)
def test_agent_is_ready_as_long_as_it_has_a_server(
    path: str, connected: bool, query: str, status: int, body: bytes
) -> None:
    routes = agent_health(lambda: connected, AgentTelemetry())
    assert status_and_body(get(routes, path, query)) == (status, body)


def test_server_shows_metrics_on_both_listeners() -> None:
    telemetry = ServerTelemetry()
    listeners = (
        server_health(bool, telemetry),
        server_admin(telemetry, profiling=False),
    )
    telemetry.http_connections = 3
    for routes in listeners:
        response = get(routes, "/metrics")
        assert response.status == HTTPStatus.OK
        assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
        assert b"\nkonnectivity_network_proxy_server_http_connections 3\n" in response.body


def test_agent_shows_metrics_on_its_health_listener() -> None:
    telemetry = AgentTelemetry()
    routes = agent_health(bool, telemetry)
    telemetry.open_server_connections = 2
    body = get(routes, "/metrics").body
    assert b"\nkonnectivity_network_proxy_agent_open_server_connections 2\n" in body


@pytest.mark.parametrize(
    ("host", "location"),
    [
        ("x:8094", "//x:8093/metrics"),
        ("x", "//x:8093/metrics"),
        ("[::1]:8094", "//[::1]:8093/metrics"),
        ("[::1]", "//[::1]:8093/metrics"),
        ("", "//:8093/metrics"),
    ],
)
def test_agent_sends_scrapers_of_its_admin_listener_to_the_health_listener(
    host: str, location: str
) -> None:
    response = get(agent_admin(8093, profiling=False), "/metrics", host=host)
    assert response.status == HTTPStatus.MOVED_PERMANENTLY
    assert response.headers == {"Location": location}
    assert response.body.decode() == f'<a href="{location}">Moved Permanently</a>.\n\n'
    assert response.content_type == "text/html; charset=utf-8"


def test_redirect_keeps_the_query() -> None:
    response = get(agent_admin(8093, profiling=False), "/metrics", "a")
    assert response.headers == {"Location": "//x:8093/metrics?a"}
