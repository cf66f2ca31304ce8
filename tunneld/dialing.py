"""Dials that fail: why, and how each layer says it.

One kind of failure has one HTTP status, one error type of RFC 9209 for ``proxy-status``, and one
code of the control protocol.
"""

import re
from dataclasses import dataclass
from typing import Final

from ctl.messages import ControlError


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of failed dial. Two may look the same to clients."""

    code: str
    """Of the control protocol."""
    status: int
    error: str
    """Of RFC 9209 section 2.3."""


REFUSED = Kind("refused", 502, "connection_refused")
TIMEOUT = Kind("timeout", 504, "connection_timeout")
AGENT_TIMEOUT = Kind("agent_timeout", 504, "http_response_timeout")
"""It is the agent that does not answer."""
UNKNOWN_NAME = Kind("dns", 502, "dns_error")
NAME_TIMEOUT = Kind("dns_timeout", 502, "dns_timeout")
"""No name server answers the agent. RFC 9209 recommends 504; konnectivity's servers say 502."""
UNREACHABLE = Kind("unreachable", 502, "destination_ip_unroutable")
PROHIBITED = Kind("denied", 403, "destination_ip_prohibited")
NO_AGENT = Kind("no_agent", 503, "destination_unavailable")
TUNNEL_LOST = Kind("tunnel_lost", 502, "connection_terminated")
OVERLOADED = Kind("busy", 503, "connection_limit_reached")
BAD_ADDRESS = Kind("bad_request", 502, "http_request_error")
FAILED = Kind("failed", 502, "proxy_internal_response")

_BY_ERROR = {
    kind.error: kind
    for kind in (
        REFUSED,
        TIMEOUT,
        AGENT_TIMEOUT,
        UNKNOWN_NAME,
        NAME_TIMEOUT,
        UNREACHABLE,
        PROHIBITED,
        NO_AGENT,
        TUNNEL_LOST,
        OVERLOADED,
        BAD_ADDRESS,
        FAILED,
    )
}
_BY_STATUS = {
    403: PROHIBITED,
    407: PROHIBITED,
    429: OVERLOADED,
    503: NO_AGENT,
    504: TIMEOUT,
}
MAX_AUTHORITY: Final = 320
"""Characters of ``host:port``, with room for any host and brackets around it."""
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|(?=.{1,253}\Z)[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%[!-~]+)?")
"""A name or an address. Of a name no more than resolvers take for themselves: to glibc's a
backslash begins an escape, so that ``\\115ecret`` would be another way to say ``secret``."""
_MAX_DETAILS = 1_000
"""Characters of a failure's text in ``proxy-status``."""
_ERROR = re.compile(r";\s*error=([a-z_]+)")
_DETAILS = re.compile(r';\s*details="((?:[^"\\]|\\.)*)"')


class DialError(Exception):
    """A dial that failed, by kind; the text says what failed and where, for people."""

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.dial = ""
        """The id of its record, for `tunnelctl trace --last`, once there is one."""
        self.retry_after = 1 if kind is OVERLOADED else 0
        """Seconds after which another try makes sense; 0 if that is not known."""

    def proxy_status(self, by: str) -> str:
        """A ``proxy-status`` header value (RFC 9209): who says so, error type, details."""
        text = str(self)
        if len(text) > _MAX_DETAILS:  # an agent's may be of any length, a header is not
            text = text[:_MAX_DETAILS] + "..."
        details = "".join(c if " " <= c <= "~" else "?" for c in text)
        details = details.replace("\\", "\\\\").replace('"', '\\"')
        dial = f'; dial="{self.dial}"' if self.dial else ""
        return f'{by}; error={self.kind.error}; details="{details}"{dial}'

    @classmethod
    def from_proxy_status(cls, status: int, value: str) -> "DialError":
        """Read what `proxy_status` wrote; without one the status alone decides."""
        error, details = _ERROR.search(value), _DETAILS.search(value)
        kind = _BY_ERROR.get(error.group(1)) if error else None
        if kind is None:
            kind = _BY_STATUS.get(status, FAILED)
        text = re.sub(r"\\(.)", r"\1", details.group(1)) if details else f"status {status}"
        return cls(kind, text)

    @classmethod
    def from_text(cls, text: str) -> "DialError":
        """Read the error text of konnectivity's DIAL_RSP, which is Go's and has no kind."""
        lower = text.lower()
        kinds = (kind for sign, kind in _SIGNS if sign in lower)
        return cls(next(kinds, FAILED), text)

    def to_control(self) -> ControlError:
        """The same for the control protocol."""
        hint = _HINTS.get(self.kind.code, "")
        if self.dial:
            hint = "; ".join(filter(None, [hint, f"steps: tunnelctl trace --last {self.dial}"]))
        return ControlError(self.kind.code, str(self), hint)


_SIGNS = (
    ("limit reached", OVERLOADED),
    ("timeout", TIMEOUT),
    ("deadline exceeded", TIMEOUT),
    ("too many open files", OVERLOADED),
    ("connection refused", REFUSED),
    ("no such host", UNKNOWN_NAME),
    ("server misbehaving", NAME_TIMEOUT),
    ("unreachable", UNREACHABLE),
    ("no route to host", UNREACHABLE),
    ("missing port in address", BAD_ADDRESS),
    ("invalid port", BAD_ADDRESS),
    ("too many colons in address", BAD_ADDRESS),
    ("unknown network", BAD_ADDRESS),
)
"""What tells the kinds apart in Go's texts, the first that occurs."""

_HINTS = {
    "no_agent": "see which agents are connected with: tunnelctl agents",
    "dns": "names are resolved by the agent: check them in its network",
    "refused": "nothing listens on that port of the destination",
    "dns_timeout": "no name server answered the agent: check its resolv.conf, and the way there",
    "timeout": "the agent reached no listener in time: check address, port and firewall there",
    "agent_timeout": "the agent or its tunnel is stuck: see RTT and state in: tunnelctl agents",
    "tunnel_lost": "try again; why the tunnel ended is in: tunnelctl role logs SERVER",
}


def split_authority(authority: str) -> tuple[str, int]:
    """Split ``host:port`` or ``[v6]:port``.

    Raises:
      DialError: `BAD_ADDRESS` or `UNKNOWN_NAME`, in the wording of Go's dialer, which clients of
        konnectivity match.
    """
    if authority.startswith("["):
        host, bracket, rest = authority[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise _bad_address(authority, "missing port in address")
        port = rest[1:]
    else:
        host, colon, port = authority.rpartition(":")
        if not colon:
            raise _bad_address(authority, "missing port in address")
        if ":" in host:
            raise _bad_address(authority, "too many colons in address")
    if not port.isascii() or not port.isdigit() or len(port) > 5 or not 0 < int(port) < 65536:
        raise DialError(BAD_ADDRESS, f"dial tcp: address {port}: invalid port")
    if not is_host(host):
        if host and len(host) <= 253 and all(" " < c <= "~" for c in host):
            raise DialError(UNKNOWN_NAME, f"dial tcp: lookup {host}: no such host")
        shown = host if len(host) <= 40 else f"{host[:40]}… ({len(host)} characters)"
        raise DialError(BAD_ADDRESS, f"dial tcp: host {shown!r}: 1 to 253 visible ASCII characters")
    return host, int(port)


def is_host(text: str) -> bool:
    """Whether a text may be a host: an IPv6 address, or what rules and resolvers take for the same
    name."""
    return _HOST.fullmatch(text) is not None


def check_length(authority: str) -> None:
    """Refuse what is too long for any destination, before anybody keeps it.

    Raises:
      DialError: `BAD_ADDRESS`.
    """
    if len(authority) > MAX_AUTHORITY:
        raise _bad_address(authority, f"more than {MAX_AUTHORITY} characters")


def host_of(address: str) -> str:
    """The host of an address that only its dialer understands fully, as konnectivity takes it."""
    if address.count(":") <= 1:
        return address.partition(":")[0]
    if "[" in address:
        return address.rpartition(":")[0].strip("[]")
    return address


def join_authority(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bad_address(authority: str, why: str) -> DialError:
    shown = authority if len(authority) <= 80 else authority[:80] + "…"
    return DialError(BAD_ADDRESS, f"dial tcp: address {shown}: {why}")
