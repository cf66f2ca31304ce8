"""Every error that a user can meet: what it means, where it arises, why, and what to do.

Plain data: `tunnelctl explain` prints it, docs/reference/errors.md is made from it, and a test
holds it against the codes in the sources. Codes are stable; texts are not.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ctl.messages import EXIT_CODES


@dataclass(frozen=True, slots=True)
class Cause:
    """One way in which an error comes about."""

    seen: str
    """What the text says, or what is the matter."""
    action: str
    """What to do about it; commands stand between backquotes."""


@dataclass(frozen=True, slots=True)
class Reply:
    """How a server's frontend says it to an HTTP client."""

    status: int
    error: str
    """Of ``proxy-status``, RFC 9209 section 2.3."""


@dataclass(frozen=True, slots=True)
class Error:
    """A code, as in ``error[CODE]``; or a reason, as it stands in logs and states of roles."""

    code: str
    meaning: str
    where: str
    """Who finds it out: tunnelctl, daemon, server, tunnel, agent, destination."""
    causes: tuple[Cause, ...]
    reply: Reply | None = None
    aliases: tuple[str, ...] = ()
    """Other names under which people meet it."""

    @property
    def exit_code(self) -> int:
        """Of `tunnelctl`."""
        return EXIT_CODES.get(self.code, 1)


DIALS = (
    Error(
        "no_agent",
        "No agent is connected, or none of those connected takes the dial.",
        "server",
        (
            Cause(
                "none is connected",
                "On the agent's host: `tunnelctl role list` says why it has no tunnel, "
                "`tunnelctl doctor` tries each step of the way to the server.",
            ),
            Cause(
                "those connected are draining or stuck",
                "`tunnelctl agents` says which. Draining ones are being stopped; new tunnels come "
                "by themselves. A stuck one is konnectivity's, and an endpoint behind it does not "
                "read: find that one, or start the agent again.",
            ),
            Cause(
                "none of those connected takes it",
                "None claims the destination, and the server's `strategies` take no other: compare "
                "`identifiers` in `tunnelctl agents` with the destination.",
            ),
        ),
        Reply(503, "destination_unavailable"),
    ),
    Error(
        "denied",
        "A rule forbids it, or the caller is not who may ask.",
        "tunnelctl, daemon, server, agent",
        (
            Cause(
                "… runs as uid N; no permission for the control socket",
                "Run the command as the daemon's user: "
                "`runuser -u tunneld -- tunnelctl --control PATH status`.",
            ),
            Cause(
                "… refused us: TLS: …",
                "The frontend wants a client certificate of its CA: `--cert`, `--key`.",
            ),
            Cause(
                "denied by the server's policy: … (rule …)",
                "`tunnelctl policy test --as CLIENT HOST:PORT` on the server's host shows which "
                "rule decides; `tunnelctl policy explain` shows all of them, with how often each "
                "did. Add an `allow` rule ahead of it to `policy`, or turn to who looks after the "
                "rules.",
            ),
            Cause(
                "… by the agent's policy, or a cloud's metadata address",
                "The agent's own `policy` holds whatever its servers ask for: the same commands on "
                "its host.",
            ),
            Cause(
                "407: a secret is wanted, or is not good",
                "Show one that is in the frontend's `secrets`: `tunnelctl secrets` makes them. Or "
                "show a client certificate.",
            ),
        ),
        Reply(403, "destination_ip_prohibited"),
        aliases=("407",),
    ),
    Error(
        "refused",
        "The agent reached the host, and nothing listens on that port.",
        "destination",
        (
            Cause("the endpoint is down", "Start it; `ss -ltn` on its host shows what listens."),
            Cause(
                "it listens on another address, on loopback only for instance",
                "Have it listen on the address that is dialled, or dial the one it listens on. "
                "`127.0.0.1` as destination is the agent's own host.",
            ),
        ),
        Reply(502, "connection_refused"),
    ),
    Error(
        "timeout",
        "No answer in time.",
        "destination, daemon",
        (
            Cause(
                "dial tcp …: i/o timeout",
                "The endpoint, or the agent's name server, did not answer within the agent's "
                "`connect-timeout`. A firewall there drops packets, or the address is wrong.",
            ),
            Cause(
                "not ready after …", "A role of a lab cannot start; the text says which and why."
            ),
            Cause(
                "the daemon at … did not answer",
                "It is overloaded or stopped (SIGSTOP): see its log, `tunneld status`.",
            ),
        ),
        Reply(504, "connection_timeout"),
    ),
    Error(
        "agent_timeout",
        "The server passed the dial on, and the agent did not answer within `dial-timeout`.",
        "tunnel, agent",
        (
            Cause(
                "the agent's process or host is stuck",
                "`tunnelctl agents` shows state and RTT; a native tunnel that is silent is given "
                "up after two `keepalive`. See the agent's log; start it again.",
            ),
            Cause(
                "`dial-timeout` of the server is less than `connect-timeout` of the agent",
                "Let the server wait longer than its agents do.",
            ),
        ),
        Reply(504, "http_response_timeout"),
    ),
    Error(
        "tunnel_lost",
        "The tunnel ended while the agent was dialling.",
        "tunnel",
        (
            Cause(
                "tunnel of agent … lost amid the dial",
                "Try again: the agent comes back by itself. Why the tunnel ended is in "
                "`tunnelctl role logs` of server and agent.",
            ),
            Cause(
                "the agent gave the dial up",
                "A konnectivity agent closes dials that wait too long; see its log.",
            ),
        ),
        Reply(502, "connection_terminated"),
    ),
    Error(
        "dns",
        "The name does not exist for the agent.",
        "agent",
        (
            Cause(
                "no such host",
                "Names are resolved on the agent's host: try `getent hosts NAME` there.",
            ),
        ),
        Reply(502, "dns_error"),
    ),
    Error(
        "dns_timeout",
        "No name server gave the agent an answer.",
        "agent",
        (
            Cause(
                "server misbehaving (no name server answered)",
                "The resolver in the agent's `/etc/resolv.conf` is gone, cannot be reached, or "
                "fails: try `getent hosts NAME` there.",
            ),
        ),
        Reply(502, "dns_timeout"),
    ),
    Error(
        "unreachable",
        "No way to the server, or from the agent to the endpoint.",
        "tunnelctl, agent, destination",
        (
            Cause(
                "cannot reach the server",
                "Wrong address or port, or the server is down: `tunnelctl doctor` on its host.",
            ),
            Cause(
                "no route to host, network is unreachable",
                "The agent's host has no way there: `ip route get ADDRESS` there.",
            ),
        ),
        Reply(502, "destination_ip_unroutable"),
    ),
    Error(
        "busy",
        "A limit is reached, or somebody else is at it.",
        "daemon, server, agent",
        (
            Cause(
                "Too many open files",
                "Raise `LimitNOFILE=` of the service, or `ulimit -n`; `tunnelctl doctor` compares "
                "limit and need.",
            ),
            Cause(
                "limit reached: … (KEY = N)",
                "A client, an agent or all together use what `limits` of the role lets them: the "
                "text names the key. `tunnelctl conns` shows who has what. Raise it, or use less.",
            ),
            Cause(
                "429: too many wrong secrets came from this address",
                "Wait for as long as `Retry-After` says, then show a good one.",
            ),
            Cause(
                "control connections are open already",
                "Something opens them and does not close them.",
            ),
            Cause("somebody else builds or removes the same lab", "Try again."),
            Cause(
                "the daemon is stopping; tunneld runs where a command wants no daemon",
                "As the hint says.",
            ),
        ),
        Reply(503, "connection_limit_reached"),
        aliases=("429",),
    ),
    Error(
        "bad_request",
        "The request, address, topology or configuration cannot be.",
        "tunnelctl, daemon, server, agent",
        (
            Cause(
                "an address",
                "Addresses are `HOST:PORT`, IPv6 in brackets.",
            ),
            Cause("several servers run here", "Name one: `--server ROLE`."),
            Cause(
                "a configuration file",
                "`tunneld check-config FILE` shows every mistake.",
            ),
        ),
        Reply(502, "http_request_error"),
    ),
    Error(
        "failed",
        "Anything else that went wrong, as the text says.",
        "anywhere",
        (
            Cause(
                "connection reset, lost amid the dial",
                "The connection was cut, at the endpoint or with the tunnel. A transfer that was "
                "cut exits with 1 and never looks complete.",
            ),
            Cause(
                "others need the tunnel (log of an agent or a server)",
                "A slow connection behind a konnectivity agent was closed so that it does not "
                "stall the others.",
            ),
            Cause(
                "tunneld already runs",
                "One daemon for each state directory and socket: stop it, or choose others with "
                "`--state` and `--control`.",
            ),
        ),
        Reply(502, "proxy_internal_response"),
    ),
)
"""What dials end with; and requests of other kinds too, where that fits."""

COMMANDS = (
    Error(
        "usage",
        "Reserved; wrong command lines print the usage and exit with 2.",
        "tunnelctl",
        (Cause("the command line is wrong", "`-h` behind each command explains it."),),
    ),
    Error(
        "no_daemon",
        "Nothing listens on the control socket.",
        "tunnelctl",
        (
            Cause("it is not started, or has ended", "`tunneld start`; `tunneld.log` says why."),
            Cause(
                "it runs elsewhere",
                "The text names the socket; `--control` and `TUNNELD_CONTROL` choose another. Root "
                "and each user have different ones.",
            ),
            Cause("it crashed with a lab up", "`tunnelctl ns down` cleans up without a daemon."),
        ),
    ),
    Error(
        "not_found",
        "There is no role, lab or namespace of that name.",
        "daemon",
        (
            Cause("no role …, no lab …, no namespace …", "The hint lists those that are there."),
            Cause("no server role runs here", "The daemon has no server to dial through."),
        ),
    ),
    Error(
        "exists",
        "Something of that name or address is there already.",
        "daemon",
        (
            Cause(
                "a namespace, role or lab of that name is not this lab's, or has another topology",
                "Remove it, or choose another `--name`.",
            ),
        ),
    ),
    Error(
        "forbidden",
        "The kernel does not allow namespaces here.",
        "daemon",
        (
            Cause(
                "a sysctl or a container forbids user namespaces",
                "The hint names the setting; see the page *Run without root*.",
            ),
        ),
    ),
    Error(
        "bad_version",
        "`tunnelctl` and `tunneld` speak different versions of the control protocol.",
        "tunnelctl, daemon",
        (Cause("one was upgraded alone", "Restart the daemon: `tunneld stop`, `tunneld start`."),),
    ),
    Error(
        "unknown_method",
        "The daemon does not know the request.",
        "daemon",
        (Cause("the daemon is older than `tunnelctl`", "Restart the daemon."),),
    ),
    Error(
        "internal",
        "A fault of tunneld.",
        "anywhere",
        (Cause("a bug", "The daemon's log has a traceback; please report it."),),
    ),
)
"""What commands end with, besides."""

REASONS = (
    Error(
        "agent_rejected",
        "The server does not let an agent join: `agent refused` in its log; the agent's state has "
        "it as `ended by the other end: …` or `the server says: …`.",
        "server",
        (
            Cause(
                "agent id … is not one its certificate (or token) allows",
                "Let `agent-id` be the name in the certificate, or make one for that id: "
                "`tunnelctl certs issue agent ID`.",
            ),
            Cause(
                "its claims are not granted",
                "The server's `policy.agents` does not let this certificate or token take that id, "
                "or claim those `identifiers`: extend the grant, or claim less.",
            ),
            Cause(
                "it shows no token that is known here, and no certificate",
                "Make one on the server's host with `tunnelctl secrets`, and put it into the "
                "agent's `token-path`.",
            ),
            Cause(
                "expected one agent ID, at most one set of agent identifiers",
                "The agent, konnectivity's or another, says too much or too little of itself.",
            ),
            Cause("no answer to who it is", "What connected is no agent of ours, or is stuck."),
            Cause(
                "it offers no ALPN protocol of rh2, h2",
                "What connected is no agent; or something in between takes TLS apart.",
            ),
            Cause("it is connected already", "Harmless: the agent ends one of two tunnels."),
        ),
    ),
    Error(
        "CERTIFICATE_VERIFY_FAILED",
        "The agent, or the client, does not accept the server's certificate.",
        "agent, tunnelctl",
        (
            Cause(
                "unable to get (local) issuer certificate, self-signed certificate",
                "`ca` is another one than signed the server's certificate; or something in between "
                "takes TLS apart. `tunnelctl doctor` names the issuer.",
            ),
            Cause(
                "Hostname mismatch, IP address mismatch",
                "The certificate does not show the name in `server`: set `server-name`, or make "
                "one with that name: `tunnelctl certs issue server NAME`.",
            ),
            Cause("certificate has expired", "Make a new one on the server's host."),
            Cause("certificate is not yet valid", "One of the two clocks is wrong."),
        ),
    ),
    Error(
        "TLSV1_ALERT_UNKNOWN_CA",
        "The other end does not accept our certificate: its CA is another one.",
        "server",
        (
            Cause(
                "the listener's `client-ca` is another one than signed the certificate",
                "Clients and agents have CAs of their own; compare with `tunnelctl certs list`.",
            ),
        ),
    ),
    Error(
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "The listener wants a client certificate, and none was shown.",
        "server",
        (Cause("no certificate is configured", "Set `cert` and `key`; `--cert` and `--key`."),),
    ),
    Error(
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "The other end says that our certificate has expired.",
        "server",
        (
            Cause(
                "it has", "Make a new one: `tunnelctl certs issue`; `tunnelctl doctor` shows it."
            ),
            Cause("the server's clock is ahead", "`timedatectl` there."),
        ),
    ),
    Error(
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "The other end says that our certificate has been revoked.",
        "server",
        (Cause("it is on the server's list (CRL)", "Make a new one."),),
    ),
    Error(
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "The other end cannot use our certificate.",
        "server",
        (Cause("it is damaged, or not what it should be", "`tunnelctl doctor` checks it."),),
        aliases=("SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", "TLSV1_ALERT_DECRYPT_ERROR"),
    ),
    Error(
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "The two ends have no version of TLS in common.",
        "server, agent",
        (Cause("`tls-min-version` of the listener", "Use 1.2 there, or a newer client."),),
        aliases=("UNSUPPORTED_PROTOCOL",),
    ),
    Error(
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "The two ends have no cipher in common.",
        "server, agent",
        (Cause("`ciphers` of the listener", "Allow more, or leave it out."),),
        aliases=("NO_SHARED_CIPHER",),
    ),
    Error(
        "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
        "The two ends have no protocol in common (ALPN).",
        "server, agent",
        (
            Cause(
                "the address is a frontend, or another program",
                "Agents connect to the port of `tunnel`, clients to that of `frontends`.",
            ),
        ),
    ),
    Error(
        "WRONG_VERSION_NUMBER",
        "What answers does not speak TLS.",
        "server, agent",
        (
            Cause(
                "another program listens there; or a proxy answers in plain text",
                "Check address and port; `ss -ltnp` on the server's host names what listens.",
            ),
        ),
        aliases=("HTTP_REQUEST", "UNEXPECTED_EOF_WHILE_READING"),
    ),
)
"""No codes of ours: words in states of roles and in logs that are worth an explanation."""


def errors() -> Iterator[Error]:
    """Everything that has a code of ours."""
    yield from DIALS
    yield from COMMANDS


def find(name: str) -> list[Error]:
    """What goes by ``name``: a code, an error of ``proxy-status``, a reason of TLS, an HTTP status,
    or an exit code; the closest first."""
    wanted = name.strip().strip("[]").lower()
    everything = [*errors(), *REASONS]
    by_code = [each for each in everything if wanted in _names(each)]
    if by_code or not wanted.isdigit():
        return by_code
    number = int(wanted)
    by_status = [each for each in errors() if each.reply and each.reply.status == number]
    return by_status or [each for each in errors() if number and each.exit_code == number]


def _names(error: Error) -> set[str]:
    names = {error.code.lower(), *map(str.lower, error.aliases)}
    return names | ({error.reply.error} if error.reply else set())
