"""What types alone can't tell about role tables: addresses, files, and how roles fit together."""

import ipaddress
import re
import ssl
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ctl.address import AddressError, parse_listen_address
from ctl.paths import MAX_SOCKET_PATH
from tunneld.accesscheck import (
    forward_problems,
    plain_problems,
    secrets_problems,
    users_problems,
)
from tunneld.config import (
    AdminConfig,
    AgentConfig,
    DnsConfig,
    Forward,
    Frontend,
    RoleConfig,
    ServerConfig,
    TunnelListener,
    WebsocketListener,
)
from tunneld.identifiers import IdentifiersError, parse_identifiers
from tunneld.inherited import SYSTEMD
from tunneld.limitcheck import limit_problems
from tunneld.policycheck import policy_problems
from tunneld.proxyurl import ENVIRONMENT, parse_proxy
from tunneld.schema import Problem, join
from tunneld.serverurl import is_request_path, parse_server

UNIX_PREFIX = "unix:"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Role and namespace names: fit for file names, options and log lines as they are."""


def role_problems(role: RoleConfig, path: str) -> Iterator[Problem]:
    """Mistakes in one role; its paths must be absolute already."""
    yield from _name_problems(role.name, join(path, "name"))
    if role.namespace is not None:
        yield from _name_problems(role.namespace, join(path, "namespace"))
    yield from _systemd_problems(role, path)
    if isinstance(role, ServerConfig | AgentConfig):
        yield from policy_problems(role.policy, join(path, "policy"))
        yield from limit_problems(role.limits, join(path, "limits"))
    if isinstance(role, ServerConfig):
        yield from _server_problems(role, path)
    elif isinstance(role, AgentConfig):
        yield from _agent_problems(role, path)
    else:
        yield from _listener_problems(role.listen, join(path, "listen"))
    if isinstance(role, DnsConfig):
        yield from _record_problems(role, path)


def admin_problems(admin: AdminConfig, path: str) -> Iterator[Problem]:
    """Mistakes in where Prometheus and health checks ask."""
    where = join(path, "listen")
    if admin.listen.startswith(UNIX_PREFIX):
        if len(admin.listen) - len(UNIX_PREFIX) > MAX_SOCKET_PATH:
            yield Problem(where, f"a socket's path has {MAX_SOCKET_PATH} octets at most")
        return
    try:
        host = parse_listen_address(admin.listen).host
    except AddressError as exc:
        yield Problem(where, str(exc))
        return
    if not admin.open and not _is_loopback(host):
        text = f"{admin.listen!r} is not a loopback address, and others could read it"
        yield Problem(where, f"{text}: set open = true if they may")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def group_problems(placed: Sequence[tuple[RoleConfig, str]]) -> Iterator[Problem]:
    """Mistakes between roles, each with its path: two of one name, two listeners on one address."""
    yield from _repeated([(role.name, join(at, "name")) for role, at in placed])
    listeners = [
        (f"{listen}{f' in {role.namespace}' if role.namespace else ''}", where)
        for role, at in placed
        for listen, where in listeners_of(role, at)
        if not listen.endswith(":0") and not _is_shared(role, listen)
    ]
    yield from _repeated(listeners)


def _is_shared(role: RoleConfig, listen: str) -> bool:
    """Whether others may listen there too."""
    return isinstance(role, ServerConfig) and role.reuse_port and not listen.startswith(UNIX_PREFIX)


def _repeated(values: Iterable[tuple[str, str]]) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for value, where in values:
        if value in first:
            yield Problem(where, f"{value!r} is taken by {first[value]}, choose another")
        first.setdefault(value, where)


def listeners_of(role: RoleConfig, path: str) -> list[tuple[str, str]]:
    """Address and place of each listener; UDP and TCP of the DNS role count as one."""
    if isinstance(role, AgentConfig):
        return []
    if not isinstance(role, ServerConfig):
        return [(role.listen, join(path, "listen"))]
    frontends = enumerate(role.frontends)
    websocket = [role.websocket] if role.websocket is not None else []
    return [
        *((each.listen, f"{path}.frontends[{index}].listen") for index, each in frontends),
        *(
            (each.listen, f"{path}.forwards[{index}].listen")
            for index, each in enumerate(role.forwards)
        ),
        (role.tunnel.listen, f"{path}.tunnel.listen"),
        *((each.listen, f"{path}.websocket.listen") for each in websocket),
    ]


def _name_problems(name: str, path: str) -> Iterator[Problem]:
    if not _NAME.fullmatch(name):
        yield Problem(
            path,
            f"{name[:80]!r} is no name, expected 1-64 letters, digits, '.', '_' or '-'"
            " that begin with a letter or digit",
        )


def _systemd_problems(role: RoleConfig, path: str) -> Iterator[Problem]:
    for listen, where in listeners_of(role, path):
        if not listen.startswith(SYSTEMD):
            continue
        if listen == SYSTEMD:
            yield Problem(where, f"{listen!r} has no name; expected {SYSTEMD}NAME")
        if role.namespace is not None:
            yield Problem(where, f"{listen}: inherited sockets are of the daemon's own namespace")


def _server_problems(role: ServerConfig, path: str) -> Iterator[Problem]:
    if not role.frontends:
        yield Problem(join(path, "frontends"), "is empty, expected at least one { listen = … }")
    for index, frontend in enumerate(role.frontends):
        yield from _frontend_problems(frontend, f"{path}.frontends[{index}]")
    for index, forward in enumerate(role.forwards):
        yield from _forward_problems(forward, f"{path}.forwards[{index}]")
    names = enumerate(each.name for each in role.forwards)
    yield from _repeated((name, f"{path}.forwards[{index}].name") for index, name in names)
    yield from _listener_problems(role.tunnel.listen, f"{path}.tunnel.listen")
    if role.processes > 1:
        yield from _shared_problems(role, path)
    if not role.tunnel.client_ca and not role.tunnel.secrets:
        yield Problem(f"{path}.tunnel.client-ca", f"is missing, {_WHO} agents are")
    yield from _tls_listener_problems(role.tunnel, f"{path}.tunnel")
    if role.websocket is not None:
        yield from _websocket_problems(role.websocket, f"{path}.websocket")


def _websocket_problems(listener: WebsocketListener, path: str) -> Iterator[Problem]:
    yield from _listener_problems(listener.listen, f"{path}.listen")
    if not is_request_path(listener.path):
        shown = repr(listener.path[:80])
        message = f"{shown}: expected '/' and visible ASCII characters, as in /tunnel"
        yield Problem(f"{path}.path", message)
    if listener.cert or listener.key:
        yield from _pair_problems(listener.cert, listener.key, path)
    for index, text in enumerate(listener.trusted_proxies):
        try:
            ipaddress.ip_network(text)
        except ValueError as exc:
            yield Problem(f"{path}.trusted-proxies[{index}]", str(exc))


def _shared_problems(role: ServerConfig, path: str) -> Iterator[Problem]:
    for listen, where in listeners_of(role, path):
        if listen.endswith(":0"):
            yield Problem(where, f"{listen}: {role.processes} processes need a port to share")


_WHO = "as is secrets: one of them has to tell who"


def _frontend_problems(frontend: Frontend, path: str) -> Iterator[Problem]:
    if frontend.listen.startswith(UNIX_PREFIX):
        yield from _unix_problems(frontend, path)
        return
    if frontend.listen.startswith(SYSTEMD) and not any(value for _, value in _tls_keys(frontend)):
        yield from secrets_problems(frontend.secrets, join(path, "secrets"))
        yield from users_problems(frontend.users, join(path, "users"))
        if frontend.plain:
            message = f"{frontend.listen} may be reached from elsewhere; listen on 127.0.0.1:PORT"
            yield Problem(join(path, "plain"), message)
        return  # a UNIX socket perhaps: that is seen when it is there
    yield from _listener_problems(frontend.listen, join(path, "listen"))
    if frontend.users:
        yield Problem(join(path, "users"), "is for UNIX sockets, which know their users; remove it")
    if frontend.plain:
        yield from plain_problems(frontend, path)
        yield from secrets_problems(frontend.secrets, join(path, "secrets"))
        return
    missing = [key for key, value in _tls_keys(frontend)[:2] if not value]
    for key in missing:
        yield Problem(join(path, key), "is missing, a frontend on TCP that is not plain needs it")
    if not frontend.client_ca and not frontend.secrets:
        yield Problem(join(path, "client-ca"), f"is missing, {_WHO} clients are")
    if not missing:
        yield from _tls_listener_problems(frontend, path)


def _unix_problems(frontend: Frontend, path: str) -> Iterator[Problem]:
    yield from _unix_listen_problems(frontend.listen, join(path, "listen"))
    for key, value in _tls_keys(frontend):
        if value:
            yield Problem(join(path, key), "is not for a UNIX socket, which is plain; remove it")
    if frontend.crl:
        yield Problem(join(path, "crl"), "is not for a UNIX socket, which is plain; remove it")
    yield from secrets_problems(frontend.secrets, join(path, "secrets"))
    yield from users_problems(frontend.users, join(path, "users"))


def _forward_problems(forward: Forward, path: str) -> Iterator[Problem]:
    yield from _name_problems(forward.name, join(path, "name"))
    if forward.listen.startswith(UNIX_PREFIX):
        yield from _unix_listen_problems(forward.listen, join(path, "listen"))
    else:
        yield from _listener_problems(forward.listen, join(path, "listen"))
    yield from forward_problems(forward, path)


def _unix_listen_problems(listen: str, path: str) -> Iterator[Problem]:
    socket_path = Path(listen.removeprefix(UNIX_PREFIX))
    length = len(str(socket_path).encode("utf-8", "surrogateescape"))
    if length > MAX_SOCKET_PATH:
        yield Problem(path, f"socket path of {length} octets, limit {MAX_SOCKET_PATH}")
    elif not socket_path.parent.is_dir():
        yield Problem(path, f"directory {socket_path.parent} does not exist, make it first")


def _tls_keys(listener: Frontend | TunnelListener) -> list[tuple[str, str]]:
    return [("cert", listener.cert), ("key", listener.key), ("client-ca", listener.client_ca)]


def _tls_listener_problems(listener: Frontend | TunnelListener, path: str) -> Iterator[Problem]:
    yield from _pair_problems(listener.cert, listener.key, path)
    if listener.client_ca:
        yield from _ca_problems(listener.client_ca, join(path, "client-ca"))
    elif listener.crl:
        yield Problem(join(path, "crl"), "is of no use without client-ca; remove it")
    yield from secrets_problems(listener.secrets, join(path, "secrets"))
    yield from _crl_problems(listener.crl, join(path, "crl"))


def _agent_problems(role: AgentConfig, path: str) -> Iterator[Problem]:
    yield from _dialout_problems(role, path)
    try:
        parse_identifiers(role.identifiers)
    except IdentifiersError as exc:
        yield Problem(join(path, "identifiers"), str(exc))
    if role.backoff_min > role.backoff_max:
        message = f"{role.backoff_min} is more than backoff-max, {role.backoff_max}"
        yield Problem(join(path, "backoff-min"), message)
    if role.sync_interval > role.sync_interval_cap:
        message = f"{role.sync_interval} is more than sync-interval-cap, {role.sync_interval_cap}"
        yield Problem(join(path, "sync-interval"), message)
    yield from _alpn_problems(role.alpn, join(path, "alpn"))
    yield from _credential_problems(role, path)
    yield from _ca_problems(role.ca, join(path, "ca"))
    yield from _crl_problems(role.crl, join(path, "crl"))


def _dialout_problems(role: AgentConfig, path: str) -> Iterator[Problem]:
    try:
        parse_server(role.server)
    except AddressError as exc:
        yield Problem(join(path, "server"), str(exc))
    if role.http_proxy not in ("", ENVIRONMENT):
        try:
            parse_proxy(role.http_proxy)
        except AddressError as exc:
            yield Problem(join(path, "http-proxy"), str(exc))
    if role.http_proxy_credentials:
        yield from _file_problems(role.http_proxy_credentials, join(path, "http-proxy-credentials"))
    if role.websocket_ca:
        yield from _ca_problems(role.websocket_ca, join(path, "websocket-ca"))
    if role.http_proxy_ca:
        yield from _ca_problems(role.http_proxy_ca, join(path, "http-proxy-ca"))


def _alpn_problems(names: Sequence[str], path: str) -> Iterator[Problem]:
    for index, name in enumerate(names):
        if not 0 < len(name.encode()) < 256:
            yield Problem(f"{path}[{index}]", f"{name[:80]!r} must have 1 to 255 octets")


def _credential_problems(role: AgentConfig, path: str) -> Iterator[Problem]:
    """An agent shows a certificate, a token, or both."""
    if role.cert or role.key:
        yield from _pair_problems(role.cert, role.key, path)
    elif not role.agent_id:
        yield Problem(join(path, "agent-id"), "is missing, there is no cert to take it from")
    if role.token_path:
        yield from _file_problems(role.token_path, join(path, "token-path"))


def _listener_problems(listen: str, path: str) -> Iterator[Problem]:
    if listen.startswith(SYSTEMD):
        return
    try:
        parse_listen_address(listen)
    except AddressError as exc:
        yield Problem(path, str(exc))


def _record_problems(role: DnsConfig, path: str) -> Iterator[Problem]:
    for name, value in role.records.items():
        where = f"{path}.records.{name}"
        addresses = [value] if isinstance(value, str) else value
        if not addresses:
            yield Problem(where, "has no address")
        for address in addresses:
            try:
                ipaddress.ip_address(address)
            except ValueError as exc:
                yield Problem(where, f"{exc}")


def _pair_problems(cert: str, key: str, path: str) -> Iterator[Problem]:
    problems = [
        *_file_problems(cert, join(path, "cert")),
        *_file_problems(key, join(path, "key")),
    ]
    yield from problems
    if not problems:
        yield from _unusable_pair(cert, key, join(path, "cert"))


def _unusable_pair(cert: str, key: str, path: str) -> Iterator[Problem]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        # An empty password makes an encrypted key an error where it would ask on the terminal.
        context.load_cert_chain(cert, key, password="")
    except (ssl.SSLError, ValueError) as exc:
        reason = getattr(exc, "reason", None) or exc
        yield Problem(path, f"{cert} and {key} are no PEM certificate and its key: {reason}")


def _ca_problems(ca: str, path: str) -> Iterator[Problem]:
    problems = list(_file_problems(ca, path))
    yield from problems
    if problems:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as exc:
        yield Problem(path, f"{ca} holds no PEM certificate: {exc.reason or exc}")


def _crl_problems(crls: Sequence[str], path: str) -> Iterator[Problem]:
    if not crls:
        return
    # Imported here, since it brings trio along.
    from tunneld.role import RoleError
    from tunneld.tlscontext import load_crls

    for index, crl in enumerate(crls):
        where = f"{path}[{index}]"
        problems = list(_file_problems(crl, where))
        yield from problems
        if not problems:
            try:
                load_crls(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), [crl])
            except RoleError as exc:
                yield Problem(where, str(exc))


def _file_problems(name: str, path: str) -> Iterator[Problem]:
    if not name:
        yield Problem(path, "is empty, expected a file name")
        return
    try:
        with Path(name).open("rb"):
            pass
    except OSError as exc:
        yield Problem(path, f"cannot read {name}: {exc.strerror}")
    except ValueError as exc:  # a NUL in it
        yield Problem(path, f"{name!r} is no file name: {exc}")
