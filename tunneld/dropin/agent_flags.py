"""Flags of proxy-agent, and which combinations of them it refuses."""

import uuid
from dataclasses import dataclass

from tunneld.dropin.checks import (
    MAX_PORT,
    OptionsError,
    check_file,
    check_pair,
    check_profiling,
    check_query,
    check_size,
)
from tunneld.dropin.duration import HOUR, SECOND, format_duration
from tunneld.dropin.flagtable import flag
from tunneld.dropin.govalues import quote
from tunneld.dropin.klogflags import KlogOptions
from tunneld.dropin.pflag import BOOL, DURATION, INT, STRING, STRINGS

IDENTIFIERS = frozenset({"ipv4", "ipv6", "host", "cidr", "default-route"})
_KEEPALIVE = 10 * SECOND
"""What counts if the flag is not given: konnectivity's hour leaves an agent with a dead server."""
SERVER_COUNT_SOURCES = ("", "default", "max")


def _draw_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions(KlogOptions):
    """The flags, one each; durations are in nanoseconds."""

    agent_cert: str = flag(STRING, "", "certificate to show to servers, PEM file; empty: none")
    agent_key: str = flag(STRING, "", "key of --agent-cert, PEM file")
    ca_cert: str = flag(STRING, "", "CA of servers' certificates, PEM file")
    proxy_server_host: str = flag(
        STRING, "127.0.0.1", "name or address of the servers, which their certificates must show"
    )
    proxy_server_port: int = flag(INT, 8091, "TCP port of the servers")
    alpn_proto: tuple[str, ...] = flag(
        STRINGS, (), "protocol names to offer in TLS ahead of our own, with commas between"
    )
    health_server_host: str = flag(STRING, "", "address of --health-server-port; empty: all")
    health_server_port: int = flag(INT, 8093, "TCP port for /healthz, /readyz and /metrics")
    admin_bind_address: str = flag(
        STRING, "127.0.0.1", "address of --admin-server-port; empty: all"
    )
    admin_server_port: int = flag(INT, 8094, "TCP port for profiles")
    enable_profiling: bool = flag(BOOL, False, "serve /debug/pprof on --admin-server-port")
    enable_contention_profiling: bool = flag(
        BOOL, False, "allowed with --enable-profiling only; no effect here: nothing contends"
    )
    agent_id: str = flag(
        STRING,
        "",
        "id of this agent, unique among those of a server",
        environment="PROXY_AGENT_ID",
        draw=_draw_id,
    )
    agent_identifiers: str = flag(
        STRING,
        "",
        "what this agent can reach, as URL query text: "
        "host=a.example&ipv4=192.0.2.1&ipv6=2001:db8::1&cidr=192.0.2.0/24&default-route=true",
    )
    sync_interval: int = flag(
        DURATION, SECOND, "time between attempts to find servers that are missing"
    )
    sync_interval_cap: int = flag(
        DURATION, 10 * SECOND, "what --sync-interval grows to while attempts fail"
    )
    probe_interval: int = flag(
        DURATION,
        SECOND,
        "time between looks at the state of connections; no effect here: a loss is seen at once",
    )
    sync_forever: bool = flag(
        BOOL, False, "go on looking for servers when all are connected, as their number may change"
    )
    keepalive_time: int = flag(
        DURATION,
        HOUR,
        "silence of a server until it gets a PING; at least 10s, and 31s towards konnectivity's",
        unset=_KEEPALIVE,
    )
    service_account_token_path: str = flag(
        STRING, "", "file with the token to show to servers, read anew for each connection"
    )
    warn_on_channel_limit: bool = flag(
        BOOL, False, "warn when a queue is full; no effect here: it is a metric"
    )
    xfr_channel_size: int = flag(
        INT, 150, "packets to queue; no effect here: queues are bounded by octets, per connection"
    )
    count_server_leases: bool = flag(BOOL, False, "count servers by their Leases in Kubernetes")
    lease_namespace: str = flag(STRING, "kube-system", "namespace of Leases")
    lease_label_selector: str = flag(
        STRING,
        "k8s-app=konnectivity-server",
        "selector of Leases to count, by their labels",
        aliases=("lease-label",),
    )
    server_count_source: str = flag(
        STRING,
        "default",
        "default: the number of servers is that of the Leases if these are counted, else what "
        "servers say; max: the larger one",
    )
    kubeconfig: str = flag(
        STRING, "", "how to reach the Kubernetes API; empty: as a pod in the cluster does"
    )
    kube_api_content_type: str = flag(
        STRING,
        "application/vnd.kubernetes.protobuf",
        "format of requests to the Kubernetes API; no effect here: it is JSON",
    )


def check(options: AgentOptions) -> list[str]:
    """Check options, in konnectivity's order.

    Returns:
      Warnings.
    Raises:
      OptionsError: the first that cannot be.
    """
    check_pair(options.agent_cert, options.agent_key, "agent")
    ca = options.ca_cert
    check_file(ca, f"error checking agent CA cert {ca}")
    for owner in ("proxy", "health", "admin"):
        _check_port(getattr(options, f"{owner}_server_port"), f"{owner} server port")
    check_size(options.xfr_channel_size)
    check_profiling(options.enable_profiling, options.enable_contention_profiling)
    _check_intervals(options)
    path = options.service_account_token_path
    check_file(path, f"error checking service account token path {path}")
    _check_identifiers(options.agent_identifiers)
    path = options.kubeconfig
    check_file(path, f"error checking KubeconfigPath {quote(path)}")
    if options.server_count_source not in SERVER_COUNT_SOURCES:
        raise OptionsError(
            "--server-count-source must be one of '', 'default', 'max', "
            f"got {options.server_count_source}"
        )
    return []


def _check_port(port: int, owner: str) -> None:
    if port <= 0:
        raise OptionsError(f"{owner} {port} must be greater than 0")
    if port > MAX_PORT:
        raise OptionsError(f"{owner} {port} must be at most {MAX_PORT}")


def _check_intervals(options: AgentOptions) -> None:
    interval, cap = options.sync_interval, options.sync_interval_cap
    if interval > cap:
        raise OptionsError(
            f"sync interval {format_duration(interval)} must be less than "
            f"sync interval cap {format_duration(cap)}"
        )
    if interval <= 0:  # it would keep us and the servers busy
        raise OptionsError(f"sync interval {format_duration(interval)} must be greater than 0s")


def _check_identifiers(text: str) -> None:
    try:
        check_query(text, IDENTIFIERS)
    except OptionsError as exc:
        raise OptionsError(f"agent address is invalid: {exc}") from exc
