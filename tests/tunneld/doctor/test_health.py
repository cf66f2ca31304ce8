"""Health ports that are well, that are not ready, and that are none."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.tunneld.doctor.samples import verdicts
from tests.tunneld.doctor.test_handshake import serving
from tunneld.doctor.health import check_health


@contextmanager
def health_port(statuses: dict[str, int], date: str | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.get(self.path, 404))
            self.end_headers()
            self.wfile.write(b"text\nmore")

        def date_time_string(self, timestamp: float | None = None) -> str:
            return date or super().date_time_string(timestamp)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("statuses", "found"),
    [
        ({"/healthz": 200, "/readyz": 200}, ["pass", "pass", "pass"]),
        ({"/healthz": 200, "/readyz": 500}, ["pass", "warn", "pass"]),
        ({"/readyz": 200}, ["fail", "pass", "pass"]),
    ],
)
def test_both_paths_are_asked_and_the_clock_compared(
    statuses: dict[str, int], found: list[str]
) -> None:
    with health_port(statuses) as address:
        seen = verdicts(check_health(address))
    assert seen == list(zip(["healthz", "readyz", "clock skew"], found, strict=True))


def test_a_clock_that_is_wrong_there_is_told() -> None:
    with health_port({"/healthz": 200}, "Thu, 01 Jan 1970 00:00:00 GMT") as address:
        assert verdicts(check_health(address))[-1] == ("clock skew", "fail")


def test_what_is_no_health_port_fails() -> None:
    assert verdicts(check_health("unix:/nosuch/socket")) == [("health port", "fail")]
    assert verdicts(check_health("127.0.0.1:1")) == [("health port", "fail")]
    with serving(None, b"SSH-2.0-nonsense\r\n") as (host, port):
        assert verdicts(check_health(f"{host}:{port}")) == [("health port", "fail")]
