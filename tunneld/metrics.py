"""Prometheus' view of `tunneld.telemetry`: konnectivity's metrics to the letter, and our own.

Names, HELP texts, types, labels and buckets are those of apiserver-network-proxy v0.36.0
(pkg/server/metrics, pkg/agent/metrics). ``connection_duration_seconds`` came later, and its HELP
text is ours. Where Go shows a series with its first event, ours may show it as 0 before. ``go_*``
has no counterpart; ``process_*`` is there, and ``python_*``.
"""

from collections.abc import Iterator
from typing import TypeAlias

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tunneld import __version__
from tunneld.exposition import Family
from tunneld.telemetry import AgentTelemetry, ServerTelemetry

SERVER_PREFIX = "konnectivity_network_proxy_server_"
AGENT_PREFIX = "konnectivity_network_proxy_agent_"

Telemetry: TypeAlias = ServerTelemetry | AgentTelemetry

_PACKETS = Family(
    "stream_packets_total",
    "counter",
    "Count of packets processed, by segment and packet type (example: from_client, DIAL_REQ)",
    ("segment", "packet_type"),
)
_ERRORS = Family(
    "stream_errors_total",
    "counter",
    "Count of gRPC stream errors, by segment, grpc Code, packet type. "
    "(example: from_agent, Code.Unavailable, DIAL_RSP)",
    ("segment", "code", "packet_type"),
)
_DIAL_DURATION = Family(
    "dial_duration_seconds", "histogram", "Latency of dial to the remote endpoint in seconds"
)

SERVER_FAMILIES = (
    _DIAL_DURATION,
    Family(
        "frontend_write_duration_seconds",
        "histogram",
        "Latency of write to the frontend in seconds",
    ),
    Family(
        "connection_duration_seconds",
        "histogram",
        "Duration of established end-to-end connections (post-dial) in seconds",
    ),
    Family(
        "grpc_connections",
        "gauge",
        "Number of current grpc connections, partitioned by service method.",
        ("service_method",),
    ),
    Family("http_connections", "gauge", "Number of current HTTP CONNECT connections"),
    Family(
        "ready_backend_connections",
        "gauge",
        "Number of konnectivity agent connected to the proxy server. "
        "DEPRECATED, please use ready_backends",
    ),
    Family(
        "ready_backends",
        "gauge",
        "Number of konnectivity agent connected to the proxy server",
        ("proxy_strategy",),
    ),
    Family("pending_backend_dials", "gauge", "Current number of pending backend dial requests"),
    Family(
        "established_connections",
        "gauge",
        "Current number of established end-to-end connections (post-dial).",
    ),
    Family(
        "full_receive_channels",
        "gauge",
        "Number of current connections blocked by a full receive channel, "
        "partitioned by service method.",
        ("service_method",),
    ),
    Family(
        "dial_failure_count",
        "counter",
        "Number of dial failures observed. Multiple failures can occur for a single dial request.",
        ("reason",),
    ),
    _PACKETS,
    _ERRORS,
    Family(
        "culled_leases_count",
        "counter",
        "Count of expired leases that the lease garbage collection controller has culled.",
    ),
    Family(
        "lease_delete_latency_seconds",
        "histogram",
        "Latency of lease deletion calls by the garbage collection controller in seconds.",
        ("http_status_code",),
    ),
    Family(
        "lease_delete_total",
        "counter",
        "Count of lease delection calls by the garbage collection controller. "
        "Labeled by HTTP status code and reason.",
        ("http_status_code", "reason"),
    ),
    Family(
        "lease_list_latency_seconds",
        "histogram",
        "Latency of lease list calls by the garbage collection controller in seconds.",
        ("http_status_code",),
    ),
    Family(
        "lease_list_total",
        "counter",
        "Count of lease deletion calls by the garbage collection controller. "
        "Labeled by HTTP status code and reason.",
        ("http_status_code", "reason"),
    ),
)
"""Attributes of `ServerTelemetry`; upstream's slips of the pen are part of the interface."""

AGENT_FAMILIES = (
    _DIAL_DURATION,
    Family(
        "server_connection_failure_count",
        "counter",
        "Count of failures to send to or receive from the proxy server, labeled by the direction "
        "(from_server or to_server). DEPRECATED, please use stream_events_error_total",
        ("direction",),
    ),
    Family(
        "endpoint_dial_failure_total",
        "counter",
        "Number of failures dialing the remote endpoint, by reason (example: timeout).",
        ("reason",),
    ),
    Family("open_server_connections", "gauge", "Current number of open server connections."),
    Family(
        "known_server_count",
        "gauge",
        "Current number of servers agent is trying to connect to.",
    ),
    Family("open_endpoint_connections", "gauge", "Current number of open endpoint connections."),
    _PACKETS,
    _ERRORS,
    Family(
        "lease_lists_total",
        "counter",
        "Count of server lease list calls made by the agent to the k8s apiserver, "
        "labeled by HTTP response code and reason",
        ("http_response_code", "reason"),
    ),
    Family(
        "lease_watches_total",
        "counter",
        "Count of server lease watch calls made by the agent to the k8s apiserver, "
        "labeled by HTTP response code and reason",
        ("http_response_code", "reason"),
    ),
    Family(
        "lease_list_latency_seconds",
        "histogram",
        "Latency of server lease listing in seconds",
        ("http_response_code",),
    ),
)
"""Attributes of `AgentTelemetry`."""

_CARRIED = Family(
    "carried_bytes_total",
    "counter",
    "Payload of tunnelled connections, by direction (to_agent, from_agent).",
    ("direction",),
)
_OVERRUN = Family(
    "overrun_connections_total",
    "counter",
    "Connections closed because their queue overran, by the segment that did not take its data.",
    ("segment",),
)


_REFUSED = Family(
    "refused_dials_total",
    "counter",
    "Dials that were refused for a limit, by its key in the configuration, or for the descriptors "
    "or the memory of the process.",
    ("limit",),
)


class TelemetryCollector(Collector):
    """Shows one telemetry object to a registry."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def collect(self) -> Iterator[Metric]:
        of_server = isinstance(self._telemetry, ServerTelemetry)
        prefix = SERVER_PREFIX if of_server else AGENT_PREFIX
        for family in SERVER_FAMILIES if of_server else AGENT_FAMILIES:
            yield family.metric(prefix, getattr(self._telemetry, family.name))
        yield from _own_metrics(self._telemetry)


def _own_metrics(telemetry: Telemetry) -> Iterator[Metric]:
    if isinstance(telemetry, ServerTelemetry):
        prefix, peers = "tunneld_server_", "agents"
    else:
        prefix, peers = "tunneld_agent_", "servers"
    stalls = telemetry.tunneld_stalls
    stalled = Family(
        f"stalled_{peers}",
        "gauge",
        f"Number of {peers} whose stream takes no data though some waits.",
    )
    stalled_seconds = Family(
        "stalled_seconds_total",
        "counter",
        f"Seconds that the streams of {peers} took no data though some waited.",
    )
    yield _CARRIED.metric(prefix, telemetry.tunneld_carried_bytes_total)
    yield _OVERRUN.metric(prefix, telemetry.tunneld_overrun_connections_total)
    yield _REFUSED.metric(prefix, telemetry.tunneld_refused_dials_total)
    yield stalled.metric(prefix, stalls.count)
    yield stalled_seconds.metric(prefix, stalls.seconds())


class BuildCollector(Collector):
    """Shows the version of this program."""

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily(
            "tunneld_build_info", "The version of tunneld; always 1.", labels=["version"]
        )
        build.add_metric([__version__], 1)
        yield build


def make_registry(telemetry: Telemetry) -> CollectorRegistry:
    """What a program shows: ``telemetry``, the version, the process and the interpreter."""
    registry = CollectorRegistry()
    registry.register(TelemetryCollector(telemetry))
    registry.register(BuildCollector())
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
