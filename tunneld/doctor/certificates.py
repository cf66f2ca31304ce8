"""Certificate files: own certificate and key, CAs, and how long all of them last."""

import ssl
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from tunneld.certfile import PEM_CRL
from tunneld.certificate import common_name, days_left, utc_now
from tunneld.doctor.finding import Finding, failed, passed, warned
from tunneld.pki import RENEW_DAYS

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
_PURPOSES = {CLIENT: "a TLS client", SERVER: "a TLS server"}
_RENEW = "make a new one (tunnelctl certs issue --force, or your own CA), and put it in place"


def own_certificate(
    check: str, cert: str, key: str, ca: str, purpose: ObjectIdentifier
) -> Iterator[Finding]:
    """A certificate of ours and what belongs to it.

    Args:
      check: begins the names of the findings.
      key: "" for one in the file of the certificate.
      ca: CA certificates that may have issued it; "" for none at hand.
    """
    try:
        chain = read_chain(cert)
    except (OSError, ValueError) as exc:
        yield failed(check, f"cannot read {cert}: {reason(exc)}", "put a PEM certificate there")
        return
    leaf = chain[0]
    yield lifetime(check, f"{cert}: {common_name(leaf) or 'no common name'}", leaf, utc_now())
    yield _chain(f"{check} chain", chain, ca)
    yield from _purpose(f"{check} purpose", leaf, purpose)
    yield _key(f"{check} key", cert, key or cert)
    yield from _mode(f"{check} key mode", key or cert)


def authority(check: str, path: str) -> Iterator[Finding]:
    """A file of CA certificates, of which the one that lasts least is told about."""
    try:
        found = read_chain(path)
    except (OSError, ValueError) as exc:
        yield failed(check, f"cannot read {path}: {reason(exc)}", "put the CA's PEM file there")
        return
    now = utc_now()
    alive = [each for each in found if days_left(each, now) >= 0]
    soonest = min(alive or found, key=lambda each: each.not_valid_after_utc)
    more = f", one of {len(found)}" if len(found) > 1 else ""
    yield lifetime(check, f"{path}: {common_name(soonest)}{more}", soonest, now)


def revocations(check: str, path: str) -> Finding:
    """A certificate revocation list, PEM or DER. One that is out of date refuses everybody."""
    try:
        octets = Path(path).read_bytes()
        read = x509.load_pem_x509_crl if PEM_CRL in octets else x509.load_der_x509_crl
        found = read(octets)
    except (OSError, ValueError) as exc:
        return failed(check, f"cannot read {path}: {reason(exc)}", "put the CA's list there")
    end = found.next_update_utc
    if end is None:
        return passed(check, f"{path}: {len(found)} revoked, without an end")
    text = f"{path}: {len(found)} revoked, next update due {end:%Y-%m-%d %H:%M} UTC"
    if end < utc_now():
        return failed(check, text, "get a new list from the CA: with this one all are refused")
    return passed(check, text)


def lifetime(check: str, what: str, certificate: x509.Certificate, now: datetime) -> Finding:
    """Whether a certificate is valid now, and in a month."""
    end, left = certificate.not_valid_after_utc, days_left(certificate, now)
    if certificate.not_valid_before_utc > now:
        begin = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        return failed(check, f"{what}, not valid before {begin}", "is this host's clock right?")
    if end < now:
        return failed(check, f"{what}, expired on {end:%Y-%m-%d}", _RENEW)
    until = f"{what}, {left} days left (until {end:%Y-%m-%d})"
    if left < RENEW_DAYS:
        return warned(check, until, _RENEW)
    return passed(check, until)


def read_chain(path: str) -> list[x509.Certificate]:
    """The certificates of a PEM file, one at least.

    Raises:
      OSError, ValueError: it can't be read, or holds none.
    """
    return x509.load_pem_x509_certificates(Path(path).read_bytes())


def issuer_among(
    certificate: x509.Certificate, candidates: Sequence[x509.Certificate]
) -> x509.Certificate | None:
    """The one that has signed it."""
    for each in candidates:
        try:
            certificate.verify_directly_issued_by(each)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return each
    return None


def reason(exc: Exception) -> str:
    """Of a file that cannot be used, for people."""
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return str(exc).partition(".")[0] or type(exc).__name__


def _chain(check: str, chain: Sequence[x509.Certificate], ca: str) -> Finding:
    """Whether the issuer is one of ``ca``, or in the file itself."""
    try:
        roots = read_chain(ca) if ca else []
    except (OSError, ValueError):
        roots = []  # told of on its own
    certificate, seen = chain[0], 1
    while (root := issuer_among(certificate, roots)) is None:
        above = issuer_among(certificate, chain[seen:])
        if above is None:
            break
        certificate, seen = above, seen + 1
    issuer = certificate.issuer.rfc4514_string()
    if root is not None:
        return passed(check, f"issued by {issuer}, which is in {ca}")
    if not roots:
        return passed(check, f"issued by {issuer}")
    # No mistake: the CA of those who check it may be another one than that which we check by.
    return passed(
        check, f"issued by {issuer}, not in {ca}: the other end knows whether it is right"
    )


def _purpose(check: str, leaf: x509.Certificate, purpose: ObjectIdentifier) -> Iterator[Finding]:
    try:
        allowed = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if purpose not in allowed and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in allowed:
        text = f"its extended key usage does not allow {_PURPOSES[purpose]}"
        yield failed(check, text, "use the right certificate: tunnelctl certs list shows kinds")


def _key(check: str, cert: str, key: str) -> Finding:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        # An empty password makes an encrypted key an error where it would ask on the terminal.
        context.load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as exc:
        why = getattr(exc, "reason", None) or reason(exc)
        return failed(check, f"{key} does not go with {cert}: {why}", "put the right key there")
    return passed(check, f"{key} belongs to the certificate")


def _mode(check: str, key: str) -> Iterator[Finding]:
    try:
        mode = Path(key).stat().st_mode & 0o777
    except OSError:
        return  # told of as a key that does not go with its certificate
    if mode & 0o077:
        text = f"{key} has mode {mode:04o}: others than its owner may use it"
        yield warned(check, text, f"chmod 600 {key}")
    else:
        yield passed(check, f"{key} has mode {mode:04o}")
