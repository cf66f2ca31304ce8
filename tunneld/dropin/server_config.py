"""The server role's configuration by proxy-server's options."""

from tunneld.config import (
    Frontend,
    Mode,
    Policy,
    ServerConfig,
    Strategy,
    TlsVersion,
    TunnelListener,
)
from tunneld.dropin.duration import HOUR, SECOND, Nanoseconds, seconds
from tunneld.dropin.program import StartError
from tunneld.dropin.server_flags import ANY, GRPC, HTTP_CONNECT, STRATEGIES, ServerOptions

_MODES: dict[str, Mode] = {GRPC: "grpc", HTTP_CONNECT: "http-connect", ANY: "any"}
_HEAD_TIMEOUT = 60.0
"""Seconds for a client's head, konnectivity's limit."""


def server_config(options: ServerOptions) -> ServerConfig:
    """The configuration; the options must have been checked.

    Raises:
      StartError: certificates are missing that only who listens needs.
    """
    return ServerConfig(
        name="proxy-server",
        frontends=(_frontend(options),),
        tunnel=_tunnel(options),
        server_id=options.server_id,
        server_count=max(1, options.server_count),
        mode=_MODES[options.mode],
        strategies=_strategies(options),
        policy=Policy(open=True, metadata="allow"),
        any_agent_id=True,
        konnectivity_wording=True,
        dial_timeout=seconds(options.backend_dial_timeout),
        head_timeout=_HEAD_TIMEOUT,
        keepalive=_keepalive(options.keepalive_time),
        frontend_keepalive=_keepalive(options.frontend_keepalive_time),
    )


def _frontend(options: ServerOptions) -> Frontend:
    if options.uds_name:
        return Frontend(listen=f"unix:{options.uds_name}")
    if not options.server_cert:
        raise StartError(
            "failed to run the frontend server: --server-cert and --server-key must be set"
        )
    return Frontend(
        listen=join_address(options.server_bind_address, options.server_port),
        cert=options.server_cert,
        key=options.server_key,
        client_ca=options.server_ca_cert,
        tls_min_version=_tls_version(options),
        ciphers=options.cipher_suites,
    )


def _tunnel(options: ServerOptions) -> TunnelListener:
    if not options.cluster_cert:
        raise StartError(
            "failed to run the agent server: --cluster-cert and --cluster-key must be set"
        )
    return TunnelListener(
        listen=join_address(options.agent_bind_address, options.agent_port),
        cert=options.cluster_cert,
        key=options.cluster_key,
        client_ca=options.cluster_ca_cert,
        tls_min_version=_tls_version(options),
        ciphers=options.cipher_suites,
    )


def _strategies(options: ServerOptions) -> tuple[Strategy, ...]:
    return tuple(each for name in options.strategies() for each in STRATEGIES if each == name)


def _tls_version(options: ServerOptions) -> TlsVersion:
    return "1.3" if options.tls_min_version == "VersionTLS13" else "1.2"


def _keepalive(silence: Nanoseconds) -> float:
    """Seconds, by the rules of gRPC's servers in Go: 0 stands for two hours."""
    return seconds(max(silence, SECOND) if silence else 2 * HOUR)


def join_address(host: str, port: int) -> str:
    """``host:port`` as the roles' configuration has it; an empty ``host`` is all addresses."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
