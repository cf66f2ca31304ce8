"""A server, or an endpoint: its certificates, and whether its listeners answer, or could be
opened."""

import os
import socket
import ssl
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from ctl.address import AddressError, parse_listen_address
from tunneld.certificate import common_name
from tunneld.config import RoleConfig
from tunneld.doctor.certificates import (
    SERVER,
    authority,
    own_certificate,
    read_chain,
    revocations,
)
from tunneld.doctor.finding import Finding, failed, noted, passed, warned
from tunneld.doctor.holders import holder_of
from tunneld.doctor.listeners import INHERITED, UNIX, Listening, address_of, listeners_of
from tunneld.doctor.network import knock, why_not
from tunneld.doctor.running import Check
from tunneld.listening import listen_advice
from tunneld.secretsfile import SecretsError, load


def listener_checks(config: RoleConfig, addresses: Sequence[str] | None) -> Iterator[Check]:
    """What to look at for a role that listens, in its own network namespace.

    Args:
      addresses: where it listens, as it says itself; None while it does not run.
    """
    every = list(listeners_of(config))
    for each in every:
        if each.cert or each.secrets:
            yield Check(f"{each.title} certificate", config.name, partial(check_files, each))
        if addresses is None:
            yield Check(each.title, config.name, partial(check_free, each.title, each.listen))
        else:
            address = address_of(each, every, addresses)
            answers = partial(check_answers, each, address, config.name)
            yield Check(each.title, config.name, answers)


def check_files(listening: Listening) -> Iterator[Finding]:
    """Its certificate, and what it checks others by."""
    each = listening
    if each.cert:
        name = f"{each.title} certificate"
        yield from own_certificate(name, each.cert, each.key, each.client_ca, SERVER)
    if each.client_ca:
        yield from authority(f"{each.title} client-ca", each.client_ca)
    for path in each.crl:
        yield revocations(f"{each.title} crl", path)
    if each.secrets:
        yield _secrets(f"{each.title} secrets", Path(each.secrets))


def _secrets(check: str, path: Path) -> Finding:
    try:
        number = len(load(path))
    except SecretsError as exc:
        return failed(check, str(exc), "see: tunnelctl secrets --help")
    return passed(check, f"{path} has {number}")


def check_answers(listening: Listening, address: str | None, role: str) -> Iterator[Finding]:
    """Whether a listener that should be there answers, with the certificate of its file."""
    title = listening.title
    if address is None:
        yield noted(title, f"{listening.listen}: which address that is cannot be told")
        return
    try:
        served = _shake(address) if listening.cert else _knock(address)
    except (OSError, AddressError) as exc:
        why = why_not(exc) if isinstance(exc, OSError) else str(exc)
        yield failed(title, f"{address}: {why}", f"see: tunnelctl role logs {role}")
        return
    yield passed(title, f"{address} answers{' with TLS' if served else ''}")
    if served and (other := _other_than(served, listening.cert)):
        yield warned(
            f"{title} certificate",
            f"{address} shows another certificate than {listening.cert} has now ({other})",
            f"have it read again: tunnelctl role restart {role}",
        )


def _other_than(served: bytes, path: str) -> str:
    """Whose certificate the file holds, if it is not the one that is served; else ""."""
    try:
        on_disk = read_chain(path)[0]
    except (OSError, ValueError):
        return ""  # told of with the files
    same = served == on_disk.public_bytes(Encoding.DER)
    return "" if same else common_name(on_disk) or "no common name"


def _knock(address: str) -> bytes:
    """Connect, and no more.

    Raises:
      OSError, AddressError: there is nobody.
    """
    knock(address).close()
    return b""


def _shake(address: str) -> bytes:
    """The certificate that a listener shows. Our end of TLS 1.3's handshake is complete before
    the server misses a certificate of ours.

    Raises:
      OSError, AddressError: there is nobody, or no TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["rh2", "h2", "http/1.1"])
    with knock(address) as sock, context.wrap_socket(sock) as tls:
        return tls.getpeercert(binary_form=True) or b""


def check_free(title: str, listen: str) -> Iterator[Finding]:
    """Whether a server that does not run could listen there."""
    if listen.startswith(INHERITED):
        yield noted(title, f"{listen} is opened by systemd")
        return
    if listen.startswith(UNIX):
        yield _unix_free(title, Path(listen.removeprefix(UNIX)))
        return
    port = 0
    try:
        host, port = parse_listen_address(listen)
        infos = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, where in infos:
            _try(family, kind, protocol, where)
    except AddressError as exc:
        yield failed(title, str(exc), "correct `listen`")
    except OSError as exc:
        holder = holder_of(port)
        advice = f"{holder} has it: stop that, or choose another" if holder else listen_advice(exc)
        yield failed(title, f"cannot listen on {listen}: {exc.strerror or exc}", advice)
    else:
        yield passed(title, f"{listen} is free to listen on")


def _try(family: int, kind: int, protocol: int, where: tuple[object, ...]) -> None:
    with socket.socket(family, kind, protocol) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(1)


def _unix_free(title: str, path: Path) -> Finding:
    if not path.parent.is_dir():
        return failed(title, f"{path.parent} does not exist", f"make it: mkdir -p {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return failed(title, f"{path.parent} cannot be written to", "choose another directory")
    return passed(title, f"{path} can be made")
