"""What the programs count about themselves: plain attributes, cheap enough for the data path.

`ServerTelemetry` and `AgentTelemetry` have an attribute for each metric of konnectivity's programs,
named as the metric without its ``konnectivity_network_proxy_server_`` or ``…_agent_``, so that
dashboards and alerts for those work here too. Beyond them, a few of our own, exposed with
``tunneld_server_`` or ``tunneld_agent_`` in front:

- ``tunneld_carried_bytes_total``: payload octets of connections, by direction (`TO_AGENT`,
  `FROM_AGENT`; the same words on both sides);
- ``tunneld_overrun_connections_total``: connections closed because their queue overran, by the
  segment that did not take its octets (server: `TO_CLIENT`, `TO_AGENT`; agent: `TO_ENDPOINT`,
  `FROM_AGENT`);
- ``tunneld_refused_dials_total``: dials refused for a limit, by its key in the configuration;
- ``tunneld_stalls``: streams whose flow control lets nothing out while octets wait, exposed as
  ``stalled_agents`` or ``stalled_servers`` now, and ``stalled_seconds_total`` in all.

Whoever knows of an event counts it in place: ``telemetry.http_connections += 1``,
``telemetry.stream_packets_total[TO_AGENT, "DATA"] += 1``. Gauges are set or moved both ways.
Nothing is locked: one thread counts. `tunneld.metrics` turns these objects into Prometheus' text.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

FROM_CLIENT = "from_client"
TO_CLIENT = "to_client"
FROM_AGENT = "from_agent"
TO_AGENT = "to_agent"
TO_ENDPOINT = "to_endpoint"
"""Segments of a tunnel. An agent sends on `FROM_AGENT` and receives on `TO_AGENT`, as a server
receives and sends on them; `TO_ENDPOINT` is a word of ours."""

PROXY = "Proxy"
CONNECT = "Connect"
"""Service methods: of fronts, of agents."""

NO_PACKET = "Unknown"
"""The packet type of an error that came instead of a packet."""

NO_AGENT = "no_agent"
ERROR_RESPONSE = "error_response"
UNRECOGNIZED_RESPONSE = "unrecognized_response"
SEND_RESPONSE = "send_rsp"
BACKEND_CLOSE = "backend_close"
BACKEND_DIAL_TIMEOUT = "backend_dial_timeout"
FRONTEND_CLOSE = "frontend_close"
"""Reasons of a server's failed dials: no agent to choose; the agent says why; an answer to no dial
of ours; the answer could not be passed on; the agent went or gave up; the server's limit; the front
gave up."""

DIAL_TIMEOUT = "timeout"
DIAL_UNKNOWN = "unknown"
"""Reasons of an agent's failed dials: its limit; anything else."""

TO_SERVER = "to_server"
FROM_SERVER = "from_server"
"""Directions of an agent's failures."""

AGENT_LIMITS = ("connections", "pending", "rate")
SERVER_LIMITS = (
    "connections",
    *(f"{whose}-{what}" for whose in ("client", "agent") for what in AGENT_LIMITS),
)
DESCRIPTORS = "descriptors"
MEMORY = "memory"
"""What dials are refused for: keys of the tables of limits; what the process may have."""

CLIENTS = "clients"
AGENTS = "agents"
"""Listeners of a server."""

SERVER_DIAL_BOUNDS = (1e-06, 1e-05, 1e-04, 0.005, 0.025, 0.1, 0.5, 2.5, 12.5)
SERVER_LIFE_BOUNDS = (1, 5, 15, 30, 60, 300, 900, 1800, 3600, 14400, 43200, 86400)
AGENT_DIAL_BOUNDS = (0.005, 0.025, 0.1, 0.5, 2.5, 10, 30)
DEFAULT_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Upper bounds in seconds of the buckets; the last are the defaults of Prometheus' Go library."""


class Histogram:
    """How many observations fell into each bucket, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Iterable[float]) -> None:
        self.bounds = tuple(bounds)
        """Upper bounds of the buckets, inclusive, ascending."""
        self.counts = [0] * (len(self.bounds) + 1)
        """Observations of each bucket alone; the last are those over all bounds."""
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count ``value``."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Histograms(dict[str, Histogram]):
    """A histogram for each value of a label, made when it is first asked for."""

    def __init__(self, bounds: Iterable[float]) -> None:
        super().__init__()
        self._bounds = tuple(bounds)

    def __missing__(self, label: str) -> Histogram:
        histogram = self[label] = Histogram(self._bounds)
        return histogram


class Stalls:
    """How many are stalled now, and seconds stalled in all; two that stall at once count twice."""

    __slots__ = ("_clock", "_counted_to", "_seconds", "count")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counted_to = clock()
        self._seconds = 0.0
        self.count = 0

    def begin(self) -> None:
        """One more is stalled from now on."""
        self.seconds()
        self.count += 1

    def end(self) -> None:
        """One of them is not any more."""
        self.seconds()
        self.count -= 1

    def seconds(self) -> float:
        """Seconds stalled until now, those included that still are."""
        now = self._clock()
        self._seconds += self.count * (now - self._counted_to)
        self._counted_to = now
        return self._seconds


def _by_method() -> dict[str, int]:
    return {PROXY: 0, CONNECT: 0}


def _zeros(*labels: str) -> Callable[[], Counter[str]]:
    """A counter that shows the values it is known to take before they happen: the rate of a series
    that only appears with its first event misses that event."""
    return lambda: Counter(dict.fromkeys(labels, 0))


def _no_backends() -> dict[str, int]:
    return {}


@dataclass(slots=True, eq=False)
class ServerTelemetry:
    """Counts of one server. Durations are in seconds."""

    dial_duration_seconds: Histogram = field(default_factory=partial(Histogram, SERVER_DIAL_BOUNDS))
    """From DIAL_REQ to a DIAL_RSP without an error."""

    frontend_write_duration_seconds: Histogram = field(
        default_factory=partial(Histogram, SERVER_DIAL_BOUNDS)
    )
    """Of one write to a front."""

    connection_duration_seconds: Histogram = field(
        default_factory=partial(Histogram, SERVER_LIFE_BOUNDS)
    )
    """From the end of the dial to the end of the connection."""

    grpc_connections: dict[str, int] = field(default_factory=_by_method)
    """Open RPCs by service method: `PROXY`, `CONNECT`."""

    http_connections: int = 0
    """CONNECT requests in progress or established."""

    ready_backend_connections: int = 0
    """Identifiers in the strategy that an agent last came to or went from; deprecated upstream."""

    ready_backends: Callable[[], dict[str, int]] = _no_backends
    """Asked when shown: identifiers with an agent, for each configured strategy, 0 included."""

    pending_backend_dials: int = 0
    established_connections: int = 0

    full_receive_channels: dict[str, int] = field(default_factory=_by_method)
    """Readers that wait because a queue is full, by service method."""

    dial_failure_count: Counter[str] = field(
        default_factory=_zeros(
            NO_AGENT,
            ERROR_RESPONSE,
            UNRECOGNIZED_RESPONSE,
            SEND_RESPONSE,
            BACKEND_CLOSE,
            BACKEND_DIAL_TIMEOUT,
            FRONTEND_CLOSE,
        )
    )
    """By reason; one dial may fail more than once."""

    stream_packets_total: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By segment and packet type (``DIAL_REQ`` …)."""

    stream_errors_total: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By segment, gRPC code (Go's name: ``Canceled``, ``Unavailable`` …) and packet type, which is
    `NO_PACKET` when receiving. A stream that ends with status 0 is no error."""

    culled_leases_count: int = 0
    """Expired leases deleted."""

    lease_delete_latency_seconds: Histograms = field(
        default_factory=partial(Histograms, DEFAULT_BOUNDS)
    )
    """By HTTP status code, as text: ``lease_delete_latency_seconds["200"].observe(0.01)``."""

    lease_delete_total: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By HTTP status code and reason (Kubernetes' word such as ``NotFound``; empty for success)."""

    lease_list_latency_seconds: Histograms = field(
        default_factory=partial(Histograms, DEFAULT_BOUNDS)
    )
    """By HTTP status code."""

    lease_list_total: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By HTTP status code and reason."""

    tunneld_carried_bytes_total: Counter[str] = field(default_factory=_zeros(TO_AGENT, FROM_AGENT))
    tunneld_overrun_connections_total: Counter[str] = field(
        default_factory=_zeros(TO_CLIENT, TO_AGENT)
    )
    tunneld_refused_dials_total: Counter[str] = field(
        default_factory=_zeros(*SERVER_LIMITS, DESCRIPTORS, MEMORY)
    )
    """By limit."""
    tunneld_stalls: Stalls = field(default_factory=Stalls)
    """Agents whose stream is blocked."""

    tunneld_dial_failures: Counter[str] = field(default_factory=Counter)
    """By error code (`tunneld.dialing.Kind.code`)."""

    tunneld_dial_seconds: Histogram = field(default_factory=partial(Histogram, DEFAULT_BOUNDS))
    """Of dials that succeed."""

    tunneld_handshake_failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By listener (`CLIENTS`, `AGENTS`) and reason."""


@dataclass(slots=True, eq=False)
class AgentTelemetry:
    """Counts of one agent. Durations are in seconds."""

    dial_duration_seconds: Histogram = field(default_factory=partial(Histogram, AGENT_DIAL_BOUNDS))
    """Of dials to endpoints that succeed."""

    server_connection_failure_count: Counter[str] = field(
        default_factory=_zeros(TO_SERVER, FROM_SERVER)
    )
    """Failures to send or receive by direction: `TO_SERVER`, `FROM_SERVER`; deprecated upstream."""

    endpoint_dial_failure_total: Counter[str] = field(
        default_factory=_zeros(DIAL_TIMEOUT, DIAL_UNKNOWN)
    )
    """By reason."""

    open_server_connections: int = 0
    known_server_count: int = 0
    """Servers there should be; 0 before it is known."""

    open_endpoint_connections: int = 0

    stream_packets_total: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By segment (`FROM_AGENT`, `TO_AGENT`) and packet type (``DIAL_REQ`` …)."""

    stream_errors_total: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By segment, gRPC code and packet type, as the server's."""

    lease_lists_total: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By HTTP response code and reason (Kubernetes' word; empty for success)."""

    lease_watches_total: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By HTTP response code and reason."""

    lease_list_latency_seconds: Histograms = field(
        default_factory=partial(Histograms, AGENT_DIAL_BOUNDS)
    )
    """By HTTP response code, as text."""

    tunneld_carried_bytes_total: Counter[str] = field(default_factory=_zeros(TO_AGENT, FROM_AGENT))
    tunneld_overrun_connections_total: Counter[str] = field(
        default_factory=_zeros(TO_ENDPOINT, FROM_AGENT)
    )
    tunneld_refused_dials_total: Counter[str] = field(
        default_factory=_zeros(*AGENT_LIMITS, DESCRIPTORS, MEMORY)
    )
    """By limit."""
    tunneld_stalls: Stalls = field(default_factory=Stalls)
    """Servers towards which the stream is blocked."""

    tunneld_dial_failures: Counter[str] = field(default_factory=Counter)
    """As a server's."""

    tunneld_dial_seconds: Histogram = field(default_factory=partial(Histogram, DEFAULT_BOUNDS))
    """As a server's."""
