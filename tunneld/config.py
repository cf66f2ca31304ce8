"""The daemon's configuration: typed TOML, one `[[role]]` table for each role.

[[role]]
kind = "server"
name = "edge"
frontends = [{ listen = "0.0.0.0:8090", cert = "…", key = "…", client-ca = "…" }]
tunnel = { listen = "0.0.0.0:8091", cert = "…", key = "…", client-ca = "…" }

[[role]]
kind = "agent"
name = "home"
server = "edge.example.org:8091"
"""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

Seconds: TypeAlias = Annotated[float, Meta(gt=0)]
TlsVersion: TypeAlias = Literal["1.2", "1.3"]
Mode: TypeAlias = Literal["any", "grpc", "http-connect"]
Strategy: TypeAlias = Literal["destHost", "defaultRoute", "default"]
Processes: TypeAlias = Annotated[int, Meta(ge=1, le=64)]


class _Table(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", kw_only=True):
    """Base of every table: unknown keys are errors, `snake_case` is written `kebab-case`."""


class Frontend(_Table, frozen=True, kw_only=True):
    """A server's listener for clients: TLS with client certificates, or a UNIX socket."""

    listen: str
    """``host:port``, ``[v6]:port``, ``:port`` for all addresses, or ``unix:/path`` (plain, mode
    0660, no certificates)."""
    cert: str = ""
    key: str = ""
    client_ca: str = ""
    tls_min_version: TlsVersion = "1.2"
    ciphers: tuple[str, ...] = ()
    """Of TLS 1.2, by their IANA names; () allows all that are safe. TLS 1.3 has no unsafe ones."""


class TunnelListener(_Table, frozen=True, kw_only=True):
    """A server's listener for agents, native and konnectivity's: always TLS with client
    certificates."""

    listen: str
    cert: str
    key: str
    client_ca: str
    tls_min_version: TlsVersion = "1.2"
    ciphers: tuple[str, ...] = ()
    """As a frontend's."""


class _RoleTable(_Table, frozen=True, kw_only=True, tag_field="kind"):
    name: str
    namespace: str | None = None
    """Network namespace to run in; None is the daemon's own process."""


class ServerConfig(_RoleTable, frozen=True, kw_only=True, tag="server"):
    """The public side: frontends for clients, one listener for agents."""

    frontends: tuple[Frontend, ...]
    tunnel: TunnelListener
    processes: Processes = 1
    """To spread the load over, one for each core say. Each is a server of its own, with an id of
    its own; the kernel deals connections out to them, and agents connect to all of them."""
    reuse_port: bool = False
    """Whether TCP ports are shared with other servers of this host that say so too
    (SO_REUSEPORT)."""
    server_id: str = ""
    """Unique for each server process; "" draws one at each start."""
    server_count: Annotated[int, Meta(ge=1)] = 1
    """How many servers agents reach by one address; each agent connects to all of them."""
    mode: Mode = "any"
    """What frontends speak: konnectivity's gRPC and CONNECT, or one of them alone."""
    strategies: Annotated[tuple[Strategy, ...], Meta(min_length=1)] = (
        "destHost",
        "defaultRoute",
        "default",
    )
    """How an agent is chosen, tried in order: one that claims the destination, one with a default
    route, any."""
    any_agent_id: bool = False
    """Whether an agent may take an id that its certificate does not name, as konnectivity's do."""
    konnectivity_wording: bool = False
    """Whether an HTTP/1.1 client is told of a missing agent as konnectivity does it: 500, not
    503."""
    dial_timeout: Annotated[float, Meta(ge=0)] = 10.0
    """For an agent's answer; 0 waits for as long as the client does."""
    head_timeout: Seconds = 10.0
    """A client's TLS handshake and CONNECT head must be complete after this."""
    keepalive: Seconds = 10.0
    """A silent tunnel gets a PING after this; one that stays silent as long again is dead."""
    frontend_keepalive: Seconds = 60.0
    """The same for clients that speak HTTP/2; a lost one costs memory only, and PINGs wake mobile
    ones."""
    half_close_grace: Annotated[float, Meta(ge=0)] = 2.0
    """A client that has half-closed a connection through a konnectivity agent, whose protocol knows
    no half-close, gets what the endpoint still sends, until that is silent for so long."""
    first_byte_hold: Annotated[float, Meta(ge=0)] = 0.01
    """Octets of an endpoint that speaks first wait this long behind the 200, since many clients
    fail when something follows it in the same read; a client that sends ends the wait."""
    drain_timeout: Seconds = 30.0


class AgentConfig(_RoleTable, frozen=True, kw_only=True, tag="agent"):
    """The private side: dials out to a server and reaches endpoints for it."""

    server: str
    """``host:port`` of the server's tunnel listener. Several servers may be behind it."""
    cert: str = ""
    key: str = ""
    """"" shows no certificate, for servers that know their agents by a token."""
    ca: str
    processes: Processes = 1
    """To spread the load over; each has a tunnel of its own to each server."""
    server_name: str = ""
    """Name or address the server's certificate must show; "" takes it from ``server``."""
    agent_id: str = ""
    """"" takes the common name of the certificate."""
    identifiers: str = ""
    """What it can reach, as in ``host=a.example&ipv4=10.0.0.1&cidr=10.0.0.0/8&default-route=true``;
    "" claims nothing in particular: it is chosen when no other agent claims the destination."""
    token_path: str = ""
    """File with a bearer token for the servers, read anew for each connection."""
    alpn: tuple[str, ...] = ()
    """Protocol names to offer in TLS ahead of ``rh2`` and ``h2``, for what is in between."""
    connect_timeout: Seconds = 5.0
    """For one dial of an endpoint, name resolution included."""
    first_byte_hold: Annotated[float, Meta(ge=0)] = 0.01
    """Octets of an endpoint that speaks first wait this long behind the answer to a konnectivity
    server's dial, as a server's setting of that name has it."""
    keepalive: Seconds = 10.0
    """Towards a konnectivity server 31 at least: it ends a connection with more PINGs."""
    backoff_min: Seconds = 0.5
    backoff_max: Seconds = 30.0
    sync_interval: Seconds = 1.0
    """Between looks for servers that are missing, while others are connected."""
    sync_interval_cap: Seconds = 10.0
    """Up to which looks that fail stretch that."""
    sync_forever: bool = False
    """Go on looking when all servers that there should be are connected."""
    probe_interval: Seconds = 1.0
    """Accepted as konnectivity's setting, without effect: a loss is an event here."""
    drain_timeout: Seconds = 30.0


class GreeterConfig(_RoleTable, frozen=True, kw_only=True, tag="greeter"):
    """gRPC endpoint ``hello.Greeter/SayHello``."""

    listen: str = "127.0.0.1:50051"


class HttpConfig(_RoleTable, frozen=True, kw_only=True, tag="http"):
    """HTTP endpoint: ``/ok`` and 404."""

    listen: str = "127.0.0.1:8080"


class EchoConfig(_RoleTable, frozen=True, kw_only=True, tag="echo"):
    """TCP endpoint that sends back what it gets, half-close included."""

    listen: str = "127.0.0.1:7"


class DnsConfig(_RoleTable, frozen=True, kw_only=True, tag="dns"):
    """DNS responder for host records, UDP and TCP."""

    listen: str = "127.0.0.1:53"
    records: dict[str, str | tuple[str, ...]] = {}
    """Host name to its IPv4 and IPv6 addresses."""


RoleConfig: TypeAlias = (
    ServerConfig | AgentConfig | GreeterConfig | HttpConfig | EchoConfig | DnsConfig
)


KINDS: dict[str, type[RoleConfig]] = {
    "server": ServerConfig,
    "agent": AgentConfig,
    "greeter": GreeterConfig,
    "http": HttpConfig,
    "echo": EchoConfig,
    "dns": DnsConfig,
}
"""Table of a role by its ``kind``."""


def processes_of(config: RoleConfig) -> int:
    """How many processes run the role beside each other."""
    return config.processes if isinstance(config, ServerConfig | AgentConfig) else 1


def kind_of(config: RoleConfig) -> str:
    """The role's ``kind``, as its table says it."""
    return str(config.__struct_config__.tag)


class Config(_Table, frozen=True, kw_only=True):
    """The whole file."""

    role: tuple[RoleConfig, ...] = ()


def parse_roles(tables: object) -> tuple[RoleConfig, ...]:
    """Typed roles from plain maps, as a topology file has them.

    Raises:
      msgspec.ValidationError: with the path of the offending key.
    """
    return msgspec.convert(tables, tuple[RoleConfig, ...])
