"""Our exposition against what apiserver-network-proxy v0.36.0 shows, to the letter.

The tables below were taken from its programs' ``/metrics`` and, for what needs leases or gRPC
fronts to appear there, from its source (pkg/server/metrics, pkg/agent/metrics, and
konnectivity-client/pkg/common/metrics). ``connection_duration_seconds`` is of a later version; its
name and buckets are upstream's, its HELP text is ours.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tunneld import __version__
from tunneld.exposition import exposition
from tunneld.metrics import AGENT_FAMILIES, SERVER_FAMILIES, make_registry
from tunneld.telemetry import AgentTelemetry, ServerTelemetry, Stalls

FAST = "1e-06 1e-05 0.0001 0.005 0.025 0.1 0.5 2.5 12.5 +Inf"
LIVES = "1 5 15 30 60 300 900 1800 3600 14400 43200 86400 +Inf"
DIALS = "0.005 0.025 0.1 0.5 2.5 10 30 +Inf"
DEFAULT = "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 +Inf"


@dataclass(frozen=True)
class Shown:
    """What a scraper sees of a metric."""

    type: str
    help: str
    labels: str = ""
    buckets: str = ""


PACKETS = Shown(
    "counter",
    "Count of packets processed, by segment and packet type (example: from_client, DIAL_REQ)",
    "packet_type segment",
)
ERRORS = Shown(
    "counter",
    "Count of gRPC stream errors, by segment, grpc Code, packet type. "
    "(example: from_agent, Code.Unavailable, DIAL_RSP)",
    "code packet_type segment",
)

SERVER = {
    "dial_duration_seconds": Shown(
        "histogram", "Latency of dial to the remote endpoint in seconds", "", FAST
    ),
    "frontend_write_duration_seconds": Shown(
        "histogram", "Latency of write to the frontend in seconds", "", FAST
    ),
    "connection_duration_seconds": Shown(
        "histogram",
        "Duration of established end-to-end connections (post-dial) in seconds",
        "",
        LIVES,
    ),
    "grpc_connections": Shown(
        "gauge",
        "Number of current grpc connections, partitioned by service method.",
        "service_method",
    ),
    "http_connections": Shown("gauge", "Number of current HTTP CONNECT connections"),
    "ready_backend_connections": Shown(
        "gauge",
        "Number of konnectivity agent connected to the proxy server. "
        "DEPRECATED, please use ready_backends",
    ),
    "ready_backends": Shown(
        "gauge",
        "Number of konnectivity agent connected to the proxy server",
        "proxy_strategy",
    ),
    "pending_backend_dials": Shown("gauge", "Current number of pending backend dial requests"),
    "established_connections": Shown(
        "gauge", "Current number of established end-to-end connections (post-dial)."
    ),
    "full_receive_channels": Shown(
        "gauge",
        "Number of current connections blocked by a full receive channel, "
        "partitioned by service method.",
        "service_method",
    ),
    "dial_failure_count": Shown(
        "counter",
        "Number of dial failures observed. Multiple failures can occur for a single dial request.",
        "reason",
    ),
    "stream_packets_total": PACKETS,
    "stream_errors_total": ERRORS,
    "culled_leases_count": Shown(
        "counter",
        "Count of expired leases that the lease garbage collection controller has culled.",
    ),
    "lease_delete_latency_seconds": Shown(
        "histogram",
        "Latency of lease deletion calls by the garbage collection controller in seconds.",
        "http_status_code",
        DEFAULT,
    ),
    "lease_delete_total": Shown(
        "counter",
        "Count of lease delection calls by the garbage collection controller. "
        "Labeled by HTTP status code and reason.",
        "http_status_code reason",
    ),
    "lease_list_latency_seconds": Shown(
        "histogram",
        "Latency of lease list calls by the garbage collection controller in seconds.",
        "http_status_code",
        DEFAULT,
    ),
    "lease_list_total": Shown(
        "counter",
        "Count of lease deletion calls by the garbage collection controller. "
        "Labeled by HTTP status code and reason.",
        "http_status_code reason",
    ),
}

AGENT = {
    "dial_duration_seconds": Shown(
        "histogram", "Latency of dial to the remote endpoint in seconds", "", DIALS
    ),
    "server_connection_failure_count": Shown(
        "counter",
        "Count of failures to send to or receive from the proxy server, labeled by the direction "
        "(from_server or to_server). DEPRECATED, please use stream_events_error_total",
        "direction",
    ),
    "endpoint_dial_failure_total": Shown(
        "counter",
        "Number of failures dialing the remote endpoint, by reason (example: timeout).",
        "reason",
    ),
    "open_server_connections": Shown("gauge", "Current number of open server connections."),
    "known_server_count": Shown(
        "gauge", "Current number of servers agent is trying to connect to."
    ),
    "open_endpoint_connections": Shown("gauge", "Current number of open endpoint connections."),
    "stream_packets_total": PACKETS,
    "stream_errors_total": ERRORS,
    "lease_lists_total": Shown(
        "counter",
        "Count of server lease list calls made by the agent to the k8s apiserver, "
        "labeled by HTTP response code and reason",
        "http_response_code reason",
    ),
    "lease_watches_total": Shown(
        "counter",
        "Count of server lease watch calls made by the agent to the k8s apiserver, "
        "labeled by HTTP response code and reason",
        "http_response_code reason",
    ),
    "lease_list_latency_seconds": Shown(
        "histogram", "Latency of server lease listing in seconds", "http_response_code", DIALS
    ),
}

OWN = {
    "carried_bytes_total": ("counter", "direction"),
    "overrun_connections_total": ("counter", "segment"),
    "refused_dials_total": ("counter", "limit"),
    "stalled_seconds_total": ("counter", ""),
}


def scrape(telemetry: ServerTelemetry | AgentTelemetry) -> str:
    return exposition(make_registry(telemetry)).decode()


def server() -> ServerTelemetry:
    """Something has happened to every metric."""
    telemetry = ServerTelemetry()
    telemetry.ready_backends = lambda: {"default": 2, "destHost": 0}
    telemetry.stream_packets_total["to_agent", "DIAL_REQ"] += 1
    telemetry.stream_errors_total["from_agent", "Unavailable", "Unknown"] += 1
    telemetry.lease_delete_total["200", ""] += 1
    telemetry.lease_list_total["403", "Forbidden"] += 1
    telemetry.lease_delete_latency_seconds["200"].observe(0.02)
    telemetry.lease_list_latency_seconds["403"].observe(0.02)
    return telemetry


def agent() -> AgentTelemetry:
    telemetry = AgentTelemetry()
    telemetry.stream_packets_total["to_agent", "DIAL_REQ"] += 1
    telemetry.stream_errors_total["to_agent", "Canceled", "Unknown"] += 1
    telemetry.lease_lists_total["200", ""] += 1
    telemetry.lease_watches_total["200", ""] += 1
    telemetry.lease_list_latency_seconds["200"].observe(0.02)
    return telemetry


def shown_by(text: str, prefix: str) -> Iterator[tuple[str, Shown]]:
    """What a text shows, family by family, by its lines alone."""
    for part in re.split(r"^# HELP ", text, flags=re.MULTILINE)[1:]:
        head, kind, *samples = part.splitlines()
        name, help_text = head.split(" ", 1)
        if not name.startswith(prefix):
            continue
        assert kind.startswith(f"# TYPE {name} ")
        suffixes = ("_bucket", "_sum", "_count") if kind.endswith(" histogram") else ("",)
        labels: set[str] = set()
        buckets: dict[str, None] = {}  # in order
        for sample in samples:
            found = re.fullmatch(r"([a-z_]+)(?:{(.*)})? [^ ]+", sample)
            assert found is not None
            assert found[1] in [name + suffix for suffix in suffixes]
            pairs = dict(re.findall(r'([a-z_]+)="([^"]*)"', found[2] or ""))
            if "le" in pairs:
                buckets[pairs.pop("le")] = None
            labels.add(" ".join(pairs))
        assert len(labels) == 1
        yield (
            name.removeprefix(prefix),
            Shown(kind.rsplit(" ", 1)[1], help_text, labels.pop(), " ".join(buckets)),
        )


@pytest.mark.parametrize(
    ("telemetry", "prefix", "upstream"),
    [
        (server(), "konnectivity_network_proxy_server_", SERVER),
        (agent(), "konnectivity_network_proxy_agent_", AGENT),
    ],
    ids=["server", "agent"],
)
def test_every_metric_of_konnectivity_is_shown_as_it_shows_it(
    telemetry: ServerTelemetry | AgentTelemetry, prefix: str, upstream: Mapping[str, Shown]
) -> None:
    assert dict(shown_by(scrape(telemetry), prefix)) == upstream


@pytest.mark.parametrize(
    ("telemetry", "prefix", "stalled"),
    [
        (server(), "tunneld_server_", "stalled_agents"),
        (agent(), "tunneld_agent_", "stalled_servers"),
    ],
    ids=["server", "agent"],
)
def test_our_own_metrics_have_a_prefix_of_their_own(
    telemetry: ServerTelemetry | AgentTelemetry, prefix: str, stalled: str
) -> None:
    ours = {name: (each.type, each.labels) for name, each in shown_by(scrape(telemetry), prefix)}
    assert ours == OWN | {stalled: ("gauge", "")}


@pytest.mark.parametrize("telemetry", [server(), agent()], ids=["server", "agent"])
def test_a_parser_of_prometheus_understands_all_of_it(
    telemetry: ServerTelemetry | AgentTelemetry,
) -> None:
    names = {each.name for each in text_string_to_metric_families(scrape(telemetry))}
    assert {"process_cpu_seconds", "process_open_fds", "python_info", "tunneld_build_info"} < names
    assert not [name for name in names if name.endswith("_created")]


@pytest.mark.parametrize(
    ("families", "kind"), [(SERVER_FAMILIES, ServerTelemetry), (AGENT_FAMILIES, AgentTelemetry)]
)
def test_every_attribute_is_shown(
    families: tuple[object, ...], kind: type[ServerTelemetry | AgentTelemetry]
) -> None:
    attributes = {field.name for field in fields(kind)}
    assert {getattr(family, "name", "") for family in families} == {
        name for name in attributes if not name.startswith("tunneld_")
    }


def samples(telemetry: ServerTelemetry | AgentTelemetry) -> dict[str, float]:
    lines = [line for line in scrape(telemetry).splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_unlabelled_metrics_and_known_labels_are_zero_from_the_start() -> None:
    values = samples(ServerTelemetry())
    ours = {name: value for name, value in values.items() if name.startswith("konnectivity_")}
    assert not any(ours.values())
    for name in (
        "http_connections",
        "ready_backend_connections",
        "pending_backend_dials",
        "established_connections",
        "culled_leases_count",
        "dial_duration_seconds_count",
        'dial_failure_count{reason="no_agent"}',
        'grpc_connections{service_method="Proxy"}',
    ):
        assert f"konnectivity_network_proxy_server_{name}" in ours


def test_scrape_shows_what_was_counted_since() -> None:
    telemetry = ServerTelemetry()
    registry = make_registry(telemetry)
    exposition(registry)
    telemetry.http_connections += 2
    telemetry.dial_failure_count["error_response"] += 1
    telemetry.dial_duration_seconds.observe(0.3)
    telemetry.tunneld_carried_bytes_total["to_agent"] += 1 << 40
    text = exposition(registry).decode()
    for line in (
        "konnectivity_network_proxy_server_http_connections 2",
        'konnectivity_network_proxy_server_dial_failure_count{reason="error_response"} 1',
        'konnectivity_network_proxy_server_dial_duration_seconds_bucket{le="0.1"} 0',
        'konnectivity_network_proxy_server_dial_duration_seconds_bucket{le="0.5"} 1',
        "konnectivity_network_proxy_server_dial_duration_seconds_sum 0.3",
        'tunneld_server_carried_bytes_total{direction="to_agent"} 1099511627776',
    ):
        assert f"\n{line}\n" in text


def test_stalls_are_shown_while_they_last() -> None:
    telemetry = ServerTelemetry()
    times = iter([0.0, 1.0, 3.5])
    telemetry.tunneld_stalls = Stalls(lambda: next(times))
    telemetry.tunneld_stalls.begin()
    values = samples(telemetry)
    assert values["tunneld_server_stalled_agents"] == 1
    assert values["tunneld_server_stalled_seconds_total"] == 2.5


def test_server_and_agent_of_one_process_do_not_clash() -> None:
    both = samples(ServerTelemetry()).keys() & samples(AgentTelemetry()).keys()
    assert not [
        name for name in both if name.startswith(("konnectivity", "tunneld_s", "tunneld_a"))
    ]


def test_version_is_shown() -> None:
    assert samples(AgentTelemetry())[f'tunneld_build_info{{version="{__version__}"}}'] == 1


def test_histograms_count_what_is_over_all_bounds() -> None:
    telemetry = AgentTelemetry()
    telemetry.dial_duration_seconds.observe(31)
    values = samples(telemetry)
    name = "konnectivity_network_proxy_agent_dial_duration_seconds"
    assert (values[f'{name}_bucket{{le="30"}}'], values[f'{name}_bucket{{le="+Inf"}}']) == (0, 1)
    assert values[f"{name}_count"] == 1
