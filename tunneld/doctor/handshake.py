"""TLS towards a server, as the agent does it; and what is wrong where it does not stand."""

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cryptography import x509

from tunneld import rh2
from tunneld.certificate import common_name, sans_of, utc_now
from tunneld.doctor.certificates import lifetime
from tunneld.doctor.clock import skew
from tunneld.doctor.finding import Finding, failed, passed, warned
from tunneld.doctor.greeting import GreetingError, hear

_MISMATCH = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL."""
_MEANINGS = {
    rh2.ALPN: "a tunneld server: each connection has a flow-control window of its own",
    "h2": "a konnectivity server: all connections share one stream",
}

Open = Callable[[], socket.socket]
"""A new connection to the server, blocking with a timeout. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Server:
    """Whom to greet, and how."""

    title: str
    """For people: its address."""
    name: str
    """What its certificate must show."""
    open: Open
    context: Callable[[], ssl.SSLContext]
    """A new context like the agent's."""


def check_tls(server: Server) -> Iterator[Finding]:
    """Everything about TLS towards one address."""
    begin = time.monotonic()
    try:
        with _shake(server, server.context()) as tls:
            took = time.monotonic() - begin
            yield passed("tls", f"{server.title}: {_facts(tls)}, in {took * 1000:.0f} ms")
            yield passed("server chain", f"{server.title}: signed by a CA that `ca` has")
            yield passed("server name", f"{server.title}: it shows {server.name}")
            yield from _lifetime(server, tls)
            yield from _behind(server, tls)
    except ssl.SSLCertVerificationError as exc:
        yield from _not_trusted(server, exc)
    except ssl.SSLError as exc:
        yield failed("tls", f"{server.title}: {_words(exc)}", _explain(exc))
    except OSError as exc:
        yield failed("tls", f"{server.title}: {_words(exc)}", _OTHER_PROGRAM)


def _behind(server: Server, tls: ssl.SSLSocket) -> Iterator[Finding]:
    """ALPN, and what the server says once it has seen our certificate."""
    picked = tls.selected_alpn_protocol()
    meaning = _MEANINGS.get(picked or "")
    if meaning is None:
        text = f"{server.title}: it picks {picked or 'none'}, expected {' or '.join(_MEANINGS)}"
        yield failed("alpn", text, "the address is not that of a server's `tunnel` listener")
        return
    yield passed("alpn", f"{server.title}: {picked}, {meaning}")
    try:
        greeting = hear(tls)
    except ssl.SSLError as exc:
        text = f"{server.title}: it refuses this agent: {_words(exc)}"
        yield failed("admission", text, _explain(exc))
        return
    except (OSError, GreetingError) as exc:
        yield failed("admission", f"{server.title}: {_words(exc)}", "see the server's log")
        return
    who = f", server id {greeting.server_id[:64]}" if greeting.server_id else ""
    yield passed("admission", f"{server.title}: it lets this agent speak{who}")
    if greeting.date:
        yield skew("clock skew", "the server", greeting.date, greeting.came)


def _not_trusted(server: Server, error: ssl.SSLCertVerificationError) -> Iterator[Finding]:
    """Tell apart what is wrong with the server's certificate, looking at it without trust."""
    mismatch = error.verify_code in _MISMATCH
    chain = _chain_error(server) if mismatch else error
    try:
        with _shake(server, _trusting(server.context())) as tls:
            certificate = _certificate(tls)
            facts = _facts(tls)
    except (OSError, ValueError) as exc:
        text = f"{server.title}: {error.verify_message}; looked at without trust: {_words(exc)}"
        yield failed("tls", text, "see: tunnelctl explain CERTIFICATE_VERIFY_FAILED")
        return
    yield passed("tls", f"{server.title}: {facts}")
    issuer = certificate.issuer.rfc4514_string()
    if chain:
        text = f"{server.title}: {chain.verify_message}; its certificate was issued by {issuer}"
        yield failed("server chain", text, _chain_advice(chain))
    else:
        yield passed("server chain", f"{server.title}: signed by a CA that `ca` has")
    if mismatch or not shows(certificate, server.name):
        names = ", ".join(sans_of(certificate)) or common_name(certificate) or "no name"
        yield failed(
            "server name",
            f"{server.title}: it shows {names}, expected {server.name}",
            "set `server-name`, or make a certificate with that name",
        )
    else:
        yield passed("server name", f"{server.title}: it shows {server.name}")
    yield lifetime("server certificate", server.title, certificate, utc_now())


def shows(certificate: x509.Certificate, name: str) -> bool:
    """Whether a certificate is for a host: RFC 6125, a wildcard being the whole first label."""
    wanted = name.rstrip(".").lower()
    try:
        return f"IP:{ipaddress.ip_address(wanted)}" in sans_of(certificate)
    except ValueError:
        pass  # a name
    above = wanted.partition(".")[2]
    names = [each.removeprefix("DNS:").lower() for each in sans_of(certificate)]
    return wanted in names or (bool(above) and f"*.{above}" in names)


def _shake(server: Server, context: ssl.SSLContext) -> ssl.SSLSocket:
    sock = server.open()
    try:
        return context.wrap_socket(sock, server_hostname=server.name)
    except BaseException:
        sock.close()
        raise


def _trusting(context: ssl.SSLContext, mode: ssl.VerifyMode = ssl.CERT_NONE) -> ssl.SSLContext:
    context.check_hostname = False
    context.verify_mode = mode
    return context


def _chain_error(server: Server) -> ssl.SSLCertVerificationError | None:
    """What is wrong with the chain, whatever name it shows."""
    try:
        _shake(server, _trusting(server.context(), ssl.CERT_REQUIRED)).close()
    except ssl.SSLCertVerificationError as exc:
        return exc
    except OSError:
        return None  # a network that comes and goes is told of by others
    return None


def _lifetime(server: Server, tls: ssl.SSLSocket) -> Iterator[Finding]:
    try:
        yield lifetime("server certificate", server.title, _certificate(tls), utc_now())
    except ValueError as exc:  # OpenSSL takes it, and the library that reads it here does not
        text = f"{server.title}: its certificate cannot be read: {exc}"
        yield warned("server certificate", text, "have its CA make one that follows RFC 5280")


def _certificate(tls: ssl.SSLSocket) -> x509.Certificate:
    """The peer's.

    Raises:
      ValueError: it cannot be read.
    """
    certificate = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
    try:
        _ = certificate.extensions  # parsed, and kept, on first use
    except x509.DuplicateExtension as exc:
        raise ValueError(str(exc)) from exc
    return certificate


def _facts(tls: ssl.SSLSocket) -> str:
    cipher = tls.cipher()
    return f"{tls.version()} with {cipher[0] if cipher else 'no cipher'}"


def _words(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLError):
        return f"TLS: {exc.reason or exc}"
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)


def _explain(exc: ssl.SSLError) -> str:
    return f"see: tunnelctl explain {exc.reason}" if exc.reason else _OTHER_PROGRAM


def _chain_advice(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == 10:  # X509_V_ERR_CERT_HAS_EXPIRED
        return "make a new certificate on the server's host"
    if error.verify_code == 9:  # X509_V_ERR_CERT_NOT_YET_VALID
        return "one of the two clocks is wrong: compare date -u on both hosts"
    return "let `ca` have the CA that signed it; is something in between that takes TLS apart?"


_OTHER_PROGRAM = "what answers is no server's `tunnel` listener, or something in between cuts it"
