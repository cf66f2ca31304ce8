"""What types alone can't tell about who may use a listener: secrets, users, networks."""

import ipaddress
import pwd
from collections.abc import Iterator, Sequence
from pathlib import Path

from ctl.address import AddressError, parse_address, parse_listen_address
from tunneld.config import Forward, Frontend
from tunneld.schema import Problem, join
from tunneld.secretsfile import SecretsError, load


def secrets_problems(file: str, path: str) -> Iterator[Problem]:
    """Mistakes in a file of secrets; "" is none."""
    if file:
        try:
            load(Path(file))
        except SecretsError as exc:
            yield Problem(path, str(exc))


def users_problems(users: Sequence[str], path: str) -> Iterator[Problem]:
    """Users that this machine does not know."""
    for index, user in enumerate(users):
        if user.isascii() and user.isdigit():
            continue
        try:
            pwd.getpwnam(user)
        except (KeyError, ValueError):  # the latter for a NUL in it
            shown = repr(user[:80])
            message = f"there is no user {shown} here; give a name or a number"
            yield Problem(f"{path}[{index}]", message)


def plain_problems(frontend: Frontend, path: str) -> Iterator[Problem]:
    """Mistakes in a frontend on TCP without TLS."""
    try:
        host = parse_listen_address(frontend.listen).host
    except AddressError:
        return  # reported by others
    if not _is_loopback(host):
        yield Problem(
            join(path, "plain"),
            f"{frontend.listen} can be reached from elsewhere, and what is said there is not"
            " encrypted; listen on a loopback address, as 127.0.0.1, or give cert and key",
        )
    tls = ("cert", "key", "client_ca", "crl", "ciphers")
    for key in (key for key in tls if getattr(frontend, key)):
        where = join(path, key.replace("_", "-"))
        yield Problem(where, "is not for a plain frontend; remove it, or plain")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def forward_problems(forward: Forward, path: str) -> Iterator[Problem]:
    """Mistakes in a forward, but for its listener."""
    try:
        parse_address(forward.to)
    except AddressError as exc:
        yield Problem(join(path, "to"), str(exc))
    if len(forward.agent) > 253:
        yield Problem(join(path, "agent"), f"{len(forward.agent)} characters, limit 253")
    if forward.allow_from and forward.listen.startswith("unix:"):
        yield Problem(join(path, "allow-from"), "is not for a UNIX socket: its mode is; remove it")
    for index, network in enumerate(forward.allow_from):
        try:
            ipaddress.ip_network(network)
        except ValueError as exc:
            yield Problem(f"{path}.allow-from[{index}]", str(exc))
