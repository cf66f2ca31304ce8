"""Flags of proxy-server, and which combinations of them it refuses."""

import uuid
from dataclasses import dataclass

from tunneld.config import Strategy
from tunneld.dropin.checks import (
    HIGHEST_PORT,
    LOWEST_PORT,
    MAX_PORT,
    OptionsError,
    check_file,
    check_pair,
    check_profiling,
    check_size,
)
from tunneld.dropin.duration import HOUR, SECOND, format_duration
from tunneld.dropin.flagtable import flag
from tunneld.dropin.govalues import quote
from tunneld.dropin.klogflags import KlogOptions
from tunneld.dropin.pflag import BOOL, DURATION, FLOAT32, INT, STRING, STRINGS

GRPC = "grpc"
HTTP_CONNECT = "http-connect"
ANY = "any"
"""Values of ``--mode``; the last is ours, and what counts if the flag is not given."""
_KEEPALIVE = 10 * SECOND
_FRONTEND_KEEPALIVE = 60 * SECOND
"""What counts if the flags are not given: konnectivity's hour lets a dead agent take dials."""

STRATEGIES: tuple[Strategy, ...] = ("default", "destHost", "defaultRoute")

TLS_VERSIONS = ("VersionTLS10", "VersionTLS11", "VersionTLS12", "VersionTLS13")
OLD_TLS_VERSIONS = TLS_VERSIONS[:2]

_EXCHANGES = ("TLS_ECDHE_RSA_WITH_", "TLS_ECDHE_ECDSA_WITH_")
CIPHERS = tuple(
    exchange + cipher
    for exchange in _EXCHANGES
    for cipher in ("AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256")
)
CBC_CIPHERS = tuple(
    exchange + cipher
    for exchange in _EXCHANGES
    for cipher in ("AES_128_CBC_SHA", "AES_256_CBC_SHA")
)
"""Accepted by Go, but not in HTTP/2's use (RFC 9113 section 9.2.2)."""
TLS13_CIPHERS = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""Accepted without effect, as by Go."""


def _draw_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions(KlogOptions):
    """The flags, one each; durations are in nanoseconds."""

    server_cert: str = flag(STRING, "", "certificate to show to clients, PEM file")
    server_key: str = flag(STRING, "", "key of --server-cert, PEM file")
    server_ca_cert: str = flag(
        STRING, "", "CA whose certificates clients must show, PEM file; needed unless --uds-name"
    )
    cluster_cert: str = flag(STRING, "", "certificate to show to agents, PEM file")
    cluster_key: str = flag(STRING, "", "key of --cluster-cert, PEM file")
    cluster_ca_cert: str = flag(
        STRING,
        "",
        "CA whose certificates agents must show, PEM file; empty asks agents for none",
    )
    mode: str = flag(
        STRING,
        GRPC,
        "what clients speak: grpc (ProxyService), http-connect, or any of both at once",
        unset=ANY,
    )
    uds_name: str = flag(
        STRING, "", "UNIX socket for clients in place of TCP and TLS; with --server-port=0"
    )
    delete_existing_uds_file: bool = flag(
        BOOL, True, "first remove what exists in the place of --uds-name"
    )
    server_port: int = flag(INT, 8090, "TCP port for clients; 0 with --uds-name")
    server_bind_address: str = flag(STRING, "", "address of --server-port; empty: all")
    agent_port: int = flag(INT, 8091, "TCP port for agents")
    agent_bind_address: str = flag(STRING, "", "address of --agent-port; empty: all")
    admin_port: int = flag(INT, 8095, "TCP port for /metrics and profiles")
    admin_bind_address: str = flag(
        STRING, "127.0.0.1", "address of --admin-port; empty: 127.0.0.1 too"
    )
    health_port: int = flag(INT, 8092, "TCP port for /healthz, /readyz and /metrics")
    health_bind_address: str = flag(STRING, "", "address of --health-port; empty: all")
    keepalive_time: int = flag(
        DURATION,
        HOUR,
        "silence of an agent until it gets a PING; at least 1s",
        unset=_KEEPALIVE,
    )
    frontend_keepalive_time: int = flag(
        DURATION,
        HOUR,
        "silence of a gRPC client until it gets a PING; at least 1s",
        unset=_FRONTEND_KEEPALIVE,
    )
    enable_profiling: bool = flag(BOOL, False, "serve /debug/pprof on --admin-port")
    enable_contention_profiling: bool = flag(
        BOOL, False, "allowed with --enable-profiling only; no effect here: nothing contends"
    )
    server_id: str = flag(
        STRING,
        "",
        "id of this server, unique among those that agents connect to",
        environment="PROXY_SERVER_ID",
        draw=_draw_id,
    )
    server_count: int = flag(INT, 1, "how many servers there are: what agents are told")
    agent_namespace: str = flag(
        STRING,
        "",
        "namespace of agents' service account; turns the check of agents' tokens on, together "
        "with --agent-service-account and --authentication-audience",
    )
    agent_service_account: str = flag(STRING, "", "service account of agents' tokens")
    authentication_audience: str = flag(STRING, "", "audience that agents' tokens must be for")
    kubeconfig: str = flag(
        STRING, "", "how to reach the Kubernetes API; empty: as a pod in the cluster does"
    )
    kubeconfig_qps: float = flag(
        FLOAT32, 0.0, "requests per second to the Kubernetes API in the long run; 0: 5"
    )
    kubeconfig_burst: int = flag(INT, 0, "requests to the Kubernetes API at once; 0: 10")
    kube_api_content_type: str = flag(
        STRING,
        "application/vnd.kubernetes.protobuf",
        "format of requests to the Kubernetes API; no effect here: it is JSON",
    )
    proxy_strategies: str = flag(
        STRING,
        "default",
        "ways to choose an agent, tried in this order: " + ", ".join(STRATEGIES),
    )
    cipher_suites: tuple[str, ...] = flag(
        STRINGS,
        (),
        "TLS 1.2 cipher suites to allow, by their names in Go, with commas between; empty: those "
        "that HTTP/2 allows, and no others can be",
    )
    tls_min_version: str = flag(
        STRING,
        "",
        "least version of TLS: VersionTLS12 or VersionTLS13; empty: the former; VersionTLS10 and "
        "VersionTLS11 are taken for it",
    )
    xfr_channel_size: int = flag(
        INT, 10, "packets to queue; no effect here: queues are bounded by octets, per connection"
    )
    enable_lease_controller: bool = flag(
        BOOL, False, "keep a Lease in Kubernetes, by which agents count servers"
    )
    lease_namespace: str = flag(STRING, "kube-system", "namespace of Leases")
    lease_label: str = flag(
        STRING, "k8s-app=konnectivity-server", "labels of Leases, key=value with commas between"
    )
    graceful_shutdown_timeout: int = flag(
        DURATION,
        0,
        "how long connections may go on after the first SIGTERM or SIGINT, with agents kept "
        "connected and /readyz failing; 0 closes them at once",
    )
    backend_dial_timeout: int = flag(
        DURATION, 0, "how long an agent may take for a dial; 0 is no limit"
    )
    warn_on_channel_limit: bool = flag(
        BOOL,
        True,
        "no effect",
        deprecated="This behavior is now thread safe and always on. "
        "This flag will be removed in a future release.",
    )

    @property
    def authenticates(self) -> bool:
        """Whether agents are known by tokens."""
        return bool(
            self.agent_namespace or self.agent_service_account or self.authentication_audience
        )

    def strategies(self) -> tuple[str, ...]:
        """``--proxy-strategies`` as a list."""
        return tuple(filter(None, self.proxy_strategies.split(",")))


def check(options: ServerOptions) -> list[str]:
    """Check options, in konnectivity's order.

    Returns:
      Warnings.
    Raises:
      OptionsError: the first that cannot be.
    """
    check_pair(options.server_cert, options.server_key, "server")
    ca = options.server_ca_cert
    check_file(ca, f"error checking server CA cert {ca}")
    check_pair(options.cluster_cert, options.cluster_key, "cluster")
    ca = options.cluster_ca_cert
    check_file(ca, f"error checking cluster CA cert {ca}")
    if options.mode not in (GRPC, HTTP_CONNECT, ANY):
        raise OptionsError(
            f"mode must be set to either 'grpc' or 'http-connect' not {quote(options.mode)}"
        )
    _check_transport(options)
    warnings = _check_ports(options)
    check_profiling(options.enable_profiling, options.enable_contention_profiling)
    _check_authentication(options)
    path = options.kubeconfig
    check_file(path, f"checking KubeconfigPath {quote(path)}")
    _check_strategies(options)
    check_size(options.xfr_channel_size)
    warnings += _check_tls(options)
    if options.enable_lease_controller:
        _check_labels(options.lease_label)
    _check_durations(options)
    return warnings


def _check_transport(options: ServerOptions) -> None:
    if not options.uds_name:
        if not options.server_ca_cert:
            raise OptionsError("server ca cert must be set when in TCP mode (uds-name is empty)")
        return
    if options.server_port != 0:
        raise OptionsError(f"server port should be set to 0 not {options.server_port} for UDS")
    for name in ("key", "cert", "ca_cert"):
        if getattr(options, f"server_{name}"):
            raise OptionsError(f"server {name.replace('_', ' ')} should not be set for UDS")


def _check_ports(options: ServerOptions) -> list[str]:
    ports = [
        (options.server_port, "server"),
        (options.agent_port, "agent"),
        (options.admin_port, "admin"),
        (options.health_port, "health"),
    ]
    if options.uds_name:
        del ports[0]
    warnings = []
    for port, owner in ports:
        if port > HIGHEST_PORT:
            kind, impossible = "ephemeral", port > MAX_PORT
        elif port < LOWEST_PORT:
            kind, impossible = "reserved", port < 0
        else:
            continue
        text = f"please do not try to use {kind} port {port} for the {owner} port"
        if impossible:
            raise OptionsError(text)
        warnings.append(text)
    return warnings


def _check_authentication(options: ServerOptions) -> None:
    if not options.authenticates:
        return
    if options.cluster_ca_cert:
        raise OptionsError("--cluster-ca-cert can not be used when agent authentication is enabled")
    for name in ("agent_namespace", "agent_service_account", "authentication_audience"):
        if not getattr(options, name):
            flag_name = name.replace("_", "-")
            raise OptionsError(
                f"--{flag_name} cannot be empty when agent authentication is enabled"
            )


def _check_strategies(options: ServerOptions) -> None:
    if not options.proxy_strategies:
        raise OptionsError("ProxyStrategies cannot be empty")
    strategies = options.strategies()
    for each in strategies:
        if each not in STRATEGIES:
            raise OptionsError(f"invalid proxy strategies: unknown proxy strategy: {each}")
    if not strategies:
        raise OptionsError("invalid proxy strategies: proxy strategies cannot be empty")


def _check_tls(options: ServerOptions) -> list[str]:
    version = options.tls_min_version
    if version and version not in TLS_VERSIONS:
        raise OptionsError(
            f"unsupported TLS version {quote(version)}, supported values are: "
            + ", ".join(TLS_VERSIONS)
        )
    warnings = []
    if version in OLD_TLS_VERSIONS:
        warnings.append(f"--tls-min-version={version} is insecure: VersionTLS12 it is")
    for cipher in options.cipher_suites:
        if cipher in CBC_CIPHERS:
            warnings.append(f"cipher suite {cipher} is left out: HTTP/2 does not allow it")
        elif cipher not in CIPHERS and cipher not in TLS13_CIPHERS:
            raise OptionsError(
                f"cipher suite {cipher} not supported, doesn't exist or considered as insecure"
            )
    return warnings


def _check_labels(text: str) -> None:
    from tunneld.kube import parse_labels  # imported only where leases are kept

    try:
        parse_labels(text)
    except ValueError as exc:
        raise OptionsError(str(exc)) from exc


def _check_durations(options: ServerOptions) -> None:
    for name in ("graceful_shutdown_timeout", "backend_dial_timeout"):
        value = getattr(options, name)
        if value < 0:
            flag_name = name.replace("_", "-")
            raise OptionsError(f"{flag_name} must be >= 0, got {format_duration(value)}")
