"""An agent: its certificate, and the way to its servers, step by step."""

import ssl
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from ctl.address import AddressError
from tunneld.config import AgentConfig
from tunneld.doctor.certificates import CLIENT, authority, own_certificate
from tunneld.doctor.environment import check_environment
from tunneld.doctor.finding import Finding, failed, noted, passed
from tunneld.doctor.handshake import Open, Server, check_tls
from tunneld.doctor.network import Connecting, Resolver, connect
from tunneld.doctor.roundabout import open_roundabout
from tunneld.doctor.running import Check
from tunneld.proxyurl import proxy_for
from tunneld.role import RoleError
from tunneld.serverurl import ServerUrl, parse_server
from tunneld.tlscontext import client_context

_ALPN = ("rh2", "h2")


def agent_checks(config: AgentConfig, environ: Mapping[str, str]) -> Iterator[Check]:
    """What to look at for an agent, in its own network namespace.

    Args:
      environ: variables of its process.
    """
    yield Check("certificate", config.name, partial(check_files, config))
    yield Check("server", config.name, partial(check_way, config, environ))


def check_files(config: AgentConfig) -> Iterator[Finding]:
    """What it shows, and what it checks its servers by."""
    if config.cert:
        yield from own_certificate("certificate", config.cert, config.key, config.ca, CLIENT)
    if config.token_path:
        yield _token(Path(config.token_path))
    yield from authority("ca", config.ca)


def check_way(config: AgentConfig, environ: Mapping[str, str]) -> Iterator[Finding]:
    """From the environment to the server's greeting; stops where nothing leads further."""
    try:
        server = parse_server(config.server)
    except AddressError as exc:
        yield failed("server", str(exc), "correct `server`")
        return
    yield from check_environment(config.http_proxy, server.address, environ)
    try:
        proxy = proxy_for(config.http_proxy, server.address, environ)
    except AddressError:
        return  # told of with the environment
    if proxy is not None:
        yield noted("proxy", f"{proxy} resolves {server.address.host}, and connects to it")
    resolver = Resolver(proxy.address if proxy else server.address)
    yield from resolver.check()
    connecting = Connecting(resolver.places)
    yield from connecting.check()
    if not connecting.reached:
        return
    tls = partial(_tls, config, server)
    if proxy is None and not server.scheme:
        for place in connecting.reached:
            yield from tls(str(place), partial(connect, place))
        return
    title = f"{server}{f' through {proxy}' if proxy else ''}"
    open_ = partial(open_roundabout, config, server, environ)
    try:
        open_().close()
    except OSError as exc:
        yield failed("way", f"{title}: {exc}", "see the log of what is in between")
        return
    yield passed("way", title)
    yield from tls(title, open_)


def _tls(config: AgentConfig, server: ServerUrl, title: str, open_: Open) -> Iterator[Finding]:
    name = config.server_name or server.address.host
    yield from check_tls(Server(title, name, open_, partial(_context, config)))


def _context(config: AgentConfig) -> ssl.SSLContext:
    """As the agent's.

    Raises:
      OSError: a file is no good, of which `check_files` tells.
    """
    try:
        return client_context(config.cert, config.key, config.ca, [*config.alpn, *_ALPN])
    except RoleError as exc:
        raise OSError(str(exc)) from exc


def _token(path: Path) -> Finding:
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, ValueError) as exc:
        return failed("token", f"cannot read {path}: {exc}", "put the token there")
    if not token:
        return failed("token", f"{path} is empty", "put the token there")
    return passed("token", f"{path} has one, of {len(token)} characters")
