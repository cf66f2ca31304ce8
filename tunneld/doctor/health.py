"""Health ports: of konnectivity's programs, or any that answers ``/healthz`` and ``/readyz``."""

import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse

from ctl.address import AddressError
from tunneld.doctor.clock import skew
from tunneld.doctor.finding import Finding, failed, passed, warned
from tunneld.doctor.network import knock, why_not

_MAX_BODY = 512
_PATHS = ("healthz", "readyz")


def check_health(address: str) -> Iterator[Finding]:
    """Ask both, and compare clocks.

    Args:
      address: ``host:port``, or ``unix:/path``.
    """
    date, came = "", 0.0
    for path in _PATHS:
        try:
            status, text, said = _get(address, path)
        except (OSError, HTTPException, AddressError) as exc:
            why = why_not(exc) if isinstance(exc, OSError) else f"no HTTP: {exc!r}"
            advice = "is the program up, is this its health port, may this host reach it?"
            yield failed("health port", f"{address}: {why}", advice)
            return
        date, came = said or date, time.time()
        shown = f"{address}/{path} says {status}{f': {text}' if text else ''}"
        if status == 200:
            yield passed(path, shown)
        elif path == "readyz":
            yield warned(path, shown, "it is up and cannot work yet: see its log")
        else:
            yield failed(path, shown, "see the program's log")
    if date:
        yield skew("clock skew", address, date, came)


def _get(address: str, path: str) -> tuple[int, str, str]:
    """Status, first line of the body, and date."""
    connection = HTTPConnection("localhost")
    try:
        connection.sock = knock(address)
        connection.request("GET", f"/{path}")
        response: HTTPResponse = connection.getresponse()
        body = response.read(_MAX_BODY).decode("utf-8", "replace").strip()
        return response.status, body.partition("\n")[0][:120], response.headers.get("Date", "")
    finally:
        connection.close()
