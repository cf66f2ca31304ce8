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
MOST = 1 << 50
"""Of whatever is counted."""
Count: TypeAlias = Annotated[int, Meta(ge=0, le=MOST)]
PerSecond: TypeAlias = Annotated[float, Meta(ge=0, le=1e9)]
Processes: TypeAlias = Annotated[int, Meta(ge=1, le=64)]


class _Table(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", kw_only=True):
    """Base of every table: unknown keys are errors, `snake_case` is written `kebab-case`."""


class Frontend(_Table, frozen=True, kw_only=True):
    """A server's listener for clients: TLS, a UNIX socket, or plain TCP on loopback. A client shows
    a certificate or a secret, as the frontend wants it; a UNIX socket knows its user."""

    listen: str
    """``host:port``, ``[v6]:port``, ``:port`` for all addresses, ``systemd:NAME`` for the sockets
    that the daemon was started with under that name, or ``unix:/path`` (plain, mode
    0660, no certificates)."""
    cert: str = ""
    key: str = ""
    client_ca: str = ""
    secrets: str = ""
    """File of hashed secrets (`tunnelctl secrets`): a client without a certificate shows one, by
    ``proxy-authorization`` or as user name and password of SOCKS5. With ``client_ca``, a
    certificate will do as well."""
    users: tuple[str, ...] = ()
    """Of a UNIX socket: names or numbers of the users who may use it, and need no secret; () for
    all whom the file's mode lets in."""
    plain: bool = False
    """Whether a frontend on TCP speaks without TLS, on loopback addresses only."""
    crl: tuple[str, ...] = ()
    """Files with certificate revocation lists, PEM or DER: a certificate on one of them is refused,
    and its connections end. With any, each CA that signs clients' certificates needs one that has
    not expired."""
    tls_min_version: TlsVersion = "1.2"
    ciphers: tuple[str, ...] = ()
    """Of TLS 1.2, by their IANA names; () allows all that are safe. TLS 1.3 has no unsafe ones."""


class TunnelListener(_Table, frozen=True, kw_only=True):
    """A server's listener for agents, native and konnectivity's: always TLS. An agent shows a
    certificate or a token."""

    listen: str
    cert: str
    key: str
    client_ca: str = ""
    secrets: str = ""
    """File of hashed secrets (`tunnelctl secrets`), by whose tokens agents are known that show no
    certificate. Without ``client_ca`` there are no others."""
    crl: tuple[str, ...] = ()
    """As a frontend's, of the agents' certificates."""
    tls_min_version: TlsVersion = "1.2"
    ciphers: tuple[str, ...] = ()
    """As a frontend's."""


class DestinationRule(_Table, frozen=True, kw_only=True):
    """A rule about destinations. All that it says must be true of a dial, for each key one of its
    values; the first rule that fits decides."""

    action: Literal["allow", "deny"]
    host: tuple[str, ...] = ()
    """Names that are asked for, ``*`` for any characters; a dial of an address fits none."""
    cidr: tuple[str, ...] = ()
    """Networks and addresses, as ``10.0.0.0/8``: of the address that is dialled, so also of one
    that a name resolves to."""
    port: tuple[int | str, ...] = ()
    """Ports and ranges, as ``443`` and ``"8000-8099"``."""
    name: str = ""
    """For those who read logs; "" is the rule's number."""


class Rule(DestinationRule, frozen=True, kw_only=True):
    """A server's rule: who may reach what, through which agents."""

    client: tuple[str, ...] = ()
    """Who asks, ``*`` for any characters: ``cert:NAME``, ``user:NAME``, ``secret:NAME``,
    ``forward:NAME``, ``control``, ``anonymous``."""
    agent: tuple[str, ...] = ()
    """Agent ids, ``*`` for any characters."""


class AgentGrant(_Table, frozen=True, kw_only=True):
    """What agents may say of themselves, by what proves who they are."""

    identity: tuple[str, ...]
    """``cert:NAME`` or ``secret:NAME``, ``*`` for any characters."""
    id: tuple[str, ...] = ()
    """Agent ids they may take, ``*`` for any characters; none stand for those that the certificate
    or token names."""
    host: tuple[str, ...] = ()
    """Names they may claim, as a rule's ``host``."""
    cidr: tuple[str, ...] = ()
    """Networks in which all addresses and networks must lie that they claim."""
    default_route: bool = False
    """Whether they may claim what nobody else does."""


class DestinationPolicy(_Table, frozen=True, kw_only=True):
    """Which destinations an agent dials, whatever its servers ask for."""

    open: bool = False
    """Whether, without any rule, everything is allowed. With rules, what none allows is denied."""
    metadata: Literal["deny", "allow"] = "deny"
    """Whether rules that are about more than a cloud's metadata addresses, and ``open``, allow
    those as well. A rule whose ``cidr`` lies within them always does."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """``shadow`` denies nothing, and logs what would be denied."""
    rules: tuple[DestinationRule, ...] = ()


class Policy(_Table, frozen=True, kw_only=True):
    """Which clients reach which destinations, and what agents may say of themselves."""

    open: bool = False
    """Whether, without any rule, every client reaches everything, and an agent may claim anything.
    With rules, what none allows is denied."""
    metadata: Literal["deny", "allow"] = "deny"
    """Whether rules that are about more than a cloud's metadata addresses, and ``open``, allow
    those as well. A rule whose ``cidr`` lies within them always does."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """``shadow`` denies nothing to clients, and logs what would be denied."""
    rules: tuple[Rule, ...] = ()
    agents: tuple[AgentGrant, ...] = ()
    """Once there is one, agents that none is about are refused."""


class LimitsFor(_Table, frozen=True, kw_only=True):
    """Limits of each of some clients; what is not said here is as for all others."""

    client: Annotated[tuple[str, ...], Meta(min_length=1)]
    """As a rule's ``client``."""
    connections: Count | None = None
    pending: Count | None = None
    rate: PerSecond | None = None
    burst: Count | None = None
    bandwidth: Count | None = None
    """As ``client-connections`` and so on."""


class Limits(_Table, frozen=True, kw_only=True):
    """How much clients, agents and all together may use of a server, or of each of its processes.
    0 is no limit. A dial too many fails at once, with 503."""

    connections: Count = 0
    """Of all clients together, at once, dials under way included."""
    client_connections: Count = 0
    """Of one client, by its identity (as a rule's ``client``), wherever it connects from."""
    client_pending: Count = 10_000
    """Its dials under way."""
    client_rate: PerSecond = 0.0
    """Its new dials a second, on average; those that fail are dials too."""
    client_burst: Count = 0
    """New dials that may come at once after a quiet time; 0 stands for those of one second."""
    client_bandwidth: Count = 0
    """Octets a second, each way, of all its connections together."""
    agent_connections: Count = 0
    agent_pending: Count = 0
    agent_rate: PerSecond = 0.0
    agent_burst: Count = 0
    agent_bandwidth: Count = 0
    """The same of one agent, by its id, through all its tunnels."""
    for_: tuple[LimitsFor, ...] = msgspec.field(default=(), name="for")
    """Clients with limits of their own; of several that fit, the first."""


class AgentLimits(_Table, frozen=True, kw_only=True):
    """How much all servers together may use of an agent, or of each of its processes. 0 is no
    limit. A dial too many fails at once, with 503."""

    connections: Count = 0
    """To endpoints at once, dials under way included."""
    pending: Count = 0
    """Dials under way."""
    rate: PerSecond = 0.0
    """New dials a second, on average."""
    burst: Count = 0
    """New dials that may come at once after a quiet time; 0 stands for those of one second."""


class WebsocketListener(_Table, frozen=True, kw_only=True):
    """A server's listener for agents whose tunnel comes in a WebSocket. TLS of the tunnel listener
    goes on inside, so it may itself be plain, behind a web server."""

    listen: str
    path: str = "/tunnel"
    """Of the URL that agents ask for."""
    cert: str = ""
    key: str = ""
    """For TLS of its own, where no web server is in front; no client certificates are asked for."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks whose ``X-Forwarded-For`` is believed. It is for people: what an agent
    may do never depends on its address."""


class Forward(_Table, frozen=True, kw_only=True):
    """A server's listener for one endpoint of an agent's network: whoever connects is connected
    there, and says nothing to the server."""

    name: str
    """What rules and logs call its connections: ``forward:NAME``."""
    listen: str
    """``host:port`` as a frontend's, or ``unix:/path``; without TLS."""
    to: str
    """``host:port``, resolved by the agent."""
    agent: str = ""
    """The agent id to go through; "" chooses as for any dial."""
    proxy_protocol: bool = False
    """Whether the endpoint is told the client's address, by a header of the PROXY protocol,
    version 2, ahead of everything else."""
    allow_from: tuple[str, ...] = ()
    """Networks and addresses whose clients are served; () for all."""


class _RoleTable(_Table, frozen=True, kw_only=True, tag_field="kind"):
    name: str
    namespace: str | None = None
    """Network namespace to run in; None is the daemon's own process."""


class ServerConfig(_RoleTable, frozen=True, kw_only=True, tag="server"):
    """The public side: frontends for clients, one listener for agents."""

    frontends: tuple[Frontend, ...]
    tunnel: TunnelListener
    forwards: tuple[Forward, ...] = ()
    websocket: WebsocketListener | None = None
    """A second listener for agents, where only HTTP gets through."""
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
    policy: Policy = Policy()
    limits: Limits = Limits()
    any_agent_id: bool = False
    """Whether an agent may take an id that its certificate does not name, as konnectivity's do."""
    konnectivity_wording: bool = False
    """Whether an HTTP/1.1 client is told of a missing agent as konnectivity does it: 500, not
    503."""
    dial_timeout: Annotated[float, Meta(ge=0)] = 10.0
    """For an agent's answer; 0 waits for as long as the client does."""
    agent_wait: Annotated[float, Meta(ge=0)] = 0.0
    """That a dial waits for an agent to come back where there is none for it; 0 fails at once."""
    head_timeout: Seconds = 10.0
    """A client's TLS handshake and CONNECT head must be complete after this; an agent's TLS
    handshake, and as long again behind that konnectivity's must call Connect."""
    max_handshakes: Annotated[int, Meta(ge=1)] = 1000
    """Clients that have not asked for anything yet, at once; as many connections that are no agents
    yet. For one more the oldest goes, of the address that has most of them. Never more than a
    quarter of the descriptors that the process may have."""
    keepalive: Seconds = 10.0
    """A silent tunnel gets a PING after this; one that stays silent as long again is dead."""
    frontend_keepalive: Seconds = 60.0
    """The same for clients that speak HTTP/2; a lost one costs memory only, and PINGs wake mobile
    ones."""
    half_close_grace: Annotated[float, Meta(ge=0)] = 2.0
    """A client that has half-closed a connection through a konnectivity agent, whose protocol knows
    no half-close, gets what the endpoint still sends, until that is silent for so long."""
    idle_timeout: Annotated[float, Meta(ge=0)] = 0.0
    """A connection that carries nothing either way for so long is reset, and a client that speaks
    HTTP/2 and has asked for nothing gets a GOAWAY; 0 lets them be. Peers that are gone are found by
    TCP keepalive and PINGs, and shells and watches may be silent for a day."""
    half_closed_timeout: Annotated[float, Meta(ge=0)] = 3600.0
    """A connection that has ended one way, and carries nothing the other way for so long, is reset;
    0 lets it be."""
    max_connection_age: Annotated[float, Meta(ge=0)] = 0.0
    """A connection that is older is reset, whatever it does; 0 for any age."""
    first_byte_hold: Annotated[float, Meta(ge=0)] = 0.01
    """Octets of an endpoint that speaks first wait this long behind the 200, since many clients
    fail when something follows it in the same read; a client that sends ends the wait."""
    audit: str = ""
    """File for a line of JSON about each connection and failed dial (docs/reference/audit.md); ""
    for none."""
    drain_timeout: Seconds = 30.0


class AgentConfig(_RoleTable, frozen=True, kw_only=True, tag="agent"):
    """The private side: dials out to a server and reaches endpoints for it."""

    server: str
    """``host:port`` of the server's tunnel listener, or ``wss://host[:port]/path`` of its
    WebSocket; ``ws://`` without a web server's TLS. Several servers may be behind it."""
    websocket_ca: str = ""
    """CA of the web server's certificate, for ``wss://``; "" stands for the system's."""
    http_proxy: str = ""
    """``http://[user:password@]host:port`` or ``https://…`` to connect through; ``environment``
    takes it from HTTPS_PROXY, ALL_PROXY and NO_PROXY; "" for none."""
    http_proxy_credentials: str = ""
    """File with ``user:password``, read anew for each connection, in place of those in the URL."""
    http_proxy_ca: str = ""
    """CA of the certificate of an ``https://`` proxy; "" stands for the system's."""
    cert: str = ""
    key: str = ""
    """"" shows no certificate, for servers that know their agents by a token."""
    ca: str
    crl: tuple[str, ...] = ()
    """Files with certificate revocation lists, PEM or DER, of the servers' certificates; as a
    server's frontend has it."""
    processes: Processes = 1
    """To spread the load over; each has a tunnel of its own to each server."""
    server_name: str = ""
    """Name or address the server's certificate must show; "" takes it from ``server``."""
    agent_id: str = ""
    """"" takes the common name of the certificate."""
    identifiers: str = ""
    """What it can reach, as in ``host=a.example&ipv4=10.0.0.1&cidr=10.0.0.0/8&default-route=true``;
    "" claims nothing in particular: it is chosen when no other agent claims the destination."""
    policy: DestinationPolicy = DestinationPolicy()
    limits: AgentLimits = AgentLimits()
    token_path: str = ""
    """File with a token for the servers, read anew for each connection. To a server that challenges
    it, the agent proves that it knows the token; to others it shows it."""
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
    audit: str = ""
    """As a server's."""
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


class LogConfig(_Table, frozen=True, kw_only=True):
    """What the daemon's log looks like."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged; ``TUNNELD_LOG_LEVEL`` in the environment goes before it."""


class AdminConfig(_Table, frozen=True, kw_only=True):
    """Where Prometheus and health checks ask: ``/metrics``, ``/healthz``, ``/readyz``."""

    listen: str
    """``host:port``, or ``unix:/path``. Whoever reaches it reads which agents and files there
    are."""
    open: bool = False
    """Whether ``listen`` may be more than a loopback address."""


class Config(_Table, frozen=True, kw_only=True):
    """The whole file."""

    log: LogConfig = LogConfig()
    admin: AdminConfig | None = None
    """None where nobody asks over HTTP; ``tunnelctl metrics`` is there all the same."""
    watch: bool = True
    """Whether changes of this file, and of those that the roles name, take effect by themselves,
    within some seconds; else with ``tunnelctl reload`` or SIGHUP alone."""
    buffer_memory: Count = 0
    """Octets that may wait in a process because nobody takes them, before streams' windows become
    smaller and new dials are refused; those with ``processes`` share it. 0 is a quarter of the
    memory of the machine, or of the control group, and 64 MiB at least."""
    role: tuple[RoleConfig, ...] = ()


def parse_roles(tables: object) -> tuple[RoleConfig, ...]:
    """Typed roles from plain maps, as a topology file has them.

    Raises:
      msgspec.ValidationError: with the path of the offending key.
    """
    return msgspec.convert(tables, tuple[RoleConfig, ...])
