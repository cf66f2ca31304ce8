"""X.509 certificates as the tunnel uses them: making and reading, in memory.

ECDSA P-256 throughout. Each certificate carries what strict verifiers ask for (RFC 5280 section
4.2: critical basic constraints and key usage, key identifiers), so that Go, OpenSSL with
``VERIFY_X509_STRICT`` and GnuTLS take it. Where the files live is the business of `tunneld.pki`.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AGENT_URI = "spiffe://tunneld/agent/"
CLIENT_URI = "spiffe://tunneld/client/"
"""SAN prefixes that bind an agent's or a client's certificate to its name."""

AUTHORITY_DAYS = 3650
LEAF_DAYS = 365
CRL_DAYS = 30
_CLOCK_SKEW = timedelta(hours=1)
"""A certificate is valid this long before it was made: private networks have slow clocks."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""RFC 5280 appendix A.1 allows 64 characters of common name; these are fit for file names and
URIs as they are."""


class Kind(StrEnum):
    """What a certificate is for."""

    CA = "ca"
    SERVER = "server"
    CLIENT = "client"
    AGENT = "agent"
    CRL = "crl"
    """No certificate, but a list of those that are revoked."""


class PkiError(Exception):
    """A certificate cannot be made, read or used; ``hint`` says what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate together with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        """PKCS #8, unencrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


@dataclass(frozen=True, slots=True)
class Request:
    """What a leaf certificate shall say."""

    kind: Kind
    name: str
    """Common name; for an agent its id."""
    sans: tuple[x509.GeneralName, ...]
    days: int = LEAF_DAYS


def check_name(name: str) -> str:
    """``name`` itself, if it can be a common name and a file name.

    Raises:
      PkiError: it cannot.
    """
    if _NAME.fullmatch(name):
        return name
    raise PkiError(
        f"{name!r} cannot be the name of a certificate",
        "use 1 to 64 letters, digits, dots, hyphens or underscores, a letter or digit first",
    )


def parse_san(text: str) -> x509.GeneralName:
    """A subject alternative name: ``DNS:name``, ``IP:address``, ``URI:uri``, or without a prefix an
    address if it reads as one and else a DNS name.

    Raises:
      PkiError: the value does not fit its type.
    """
    prefix, colon, rest = text.partition(":")
    try:
        match prefix.upper() if colon else "":
            case "DNS":
                return _dns_name(rest)
            case "IP":
                return x509.IPAddress(ipaddress.ip_address(rest))
            case "URI":
                return x509.UniformResourceIdentifier(rest)
            case _:
                return _address(text) or _dns_name(text)
    except ValueError as exc:
        raise PkiError(
            f"{text!r} is not a subject alternative name: {exc}",
            "give a host name, an IP address, or DNS:…, IP:…, URI:…",
        ) from exc


def _address(text: str) -> x509.IPAddress | None:
    try:
        return x509.IPAddress(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        return None


def _dns_name(text: str) -> x509.DNSName:
    labels = text.removeprefix("*.").split(".")
    if len(text) > 253 or not all(re.fullmatch(r"[A-Za-z0-9_-]{1,63}", each) for each in labels):
        raise ValueError("neither an address nor a host name")
    return x509.DNSName(text)


def server_request(name: str, hosts: Sequence[str], days: int = LEAF_DAYS) -> Request:
    """For a listener that is reached by any of ``hosts`` (names and addresses)."""
    return Request(Kind.SERVER, check_name(name), _unique(map(parse_san, hosts)), days)


def peer_request(
    kind: Kind, name: str, more_sans: Sequence[str] = (), days: int = LEAF_DAYS
) -> Request:
    """For an agent or a client; the certificate is bound to ``name`` by a URI."""
    prefix = AGENT_URI if kind is Kind.AGENT else CLIENT_URI
    uri = x509.UniformResourceIdentifier(prefix + check_name(name))
    return Request(kind, name, _unique([uri, *map(parse_san, more_sans)]), days)


def _unique(sans: Iterable[x509.GeneralName]) -> tuple[x509.GeneralName, ...]:
    return tuple(dict.fromkeys(sans))


def make_authority(name: str, now: datetime) -> Credential:
    """A self-signed CA that signs leaf certificates only."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name)
    builder = (
        _builder(subject, subject, key, now, now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )
    return Credential(builder.sign(key, hashes.SHA256()), key)


def issue(authority: Credential, request: Request, now: datetime) -> Credential:
    """A leaf certificate, which never outlives its CA.

    Raises:
      PkiError: the CA has expired.
    """
    end = min(now + timedelta(days=request.days), authority.certificate.not_valid_after_utc)
    if end <= now:
        raise PkiError(f"the CA {common_name(authority.certificate)!r} expired on {end:%Y-%m-%d}")
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    builder = (
        _builder(_subject(request.name), issuer.subject, key, now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_purpose(request.kind)]), critical=False)
        .add_extension(x509.SubjectAlternativeName(request.sans), critical=False)
        .add_extension(_authority_key_identifier(issuer), critical=False)
    )
    return Credential(builder.sign(authority.key, hashes.SHA256()), key)


def make_crl(
    authority: Credential, revoked: Mapping[int, datetime], number: int, now: datetime
) -> x509.CertificateRevocationList:
    """A revocation list, good for `CRL_DAYS` days.

    Args:
      revoked: since when, by serial number.
      number: higher than that of the list before (RFC 5280 section 5.2.3).
    """
    issuer = authority.certificate
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now - _CLOCK_SKEW)
        .next_update(now + timedelta(days=CRL_DAYS))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_authority_key_identifier(issuer), critical=False)
    )
    for serial, since in revoked.items():
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(authority.key, hashes.SHA256())


def renewal_request(certificate: x509.Certificate, days: int = LEAF_DAYS) -> Request:
    """For another certificate that says the same, valid anew."""
    kind = kind_of(certificate)
    return Request(kind, common_name(certificate), _general_names(certificate), days)


def _subject(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "tunneld"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """An ECDSA leaf only signs handshakes (RFC 8422 section 5.10); a CA only certificates."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _purpose(kind: Kind) -> x509.ObjectIdentifier:
    if kind is Kind.SERVER:
        return ExtendedKeyUsageOID.SERVER_AUTH
    return ExtendedKeyUsageOID.CLIENT_AUTH


def _authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:  # a CA that somebody else made
        public = issuer.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier.value)


def read(pem: bytes) -> x509.Certificate:
    """Read a certificate.

    Raises:
      ValueError: not a certificate, or its extensions cannot be read.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError as exc:
        raise ValueError("not a PEM certificate") from exc
    try:
        _ = certificate.extensions  # parsed, and kept, on first use
    except x509.DuplicateExtension as exc:
        raise ValueError(str(exc)) from exc
    return certificate


def load(certificate_pem: bytes, key_pem: bytes) -> Credential:
    """Read a certificate and its key.

    Raises:
      ValueError: unreadable, no EC key, or the two don't belong together.
    """
    certificate = read(certificate_pem)
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except TypeError as exc:  # cryptography's way to say that it is encrypted
        raise ValueError("its key is encrypted") from exc
    except ValueError as exc:
        raise ValueError("its key is not a PEM private key") from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("its key is not an EC key")
    if key.public_key() != certificate.public_key():
        raise ValueError("certificate and key do not belong together")
    return Credential(certificate, key)


def kind_of(certificate: x509.Certificate) -> Kind:
    """What a certificate is for, by its extensions."""
    extensions = certificate.extensions
    try:
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return Kind.CA
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return Kind.CLIENT
    if ExtendedKeyUsageOID.SERVER_AUTH in purposes:
        return Kind.SERVER
    uris = (text for text in sans_of(certificate) if text.startswith(f"URI:{AGENT_URI}"))
    return Kind.AGENT if any(uris) else Kind.CLIENT


def common_name(certificate: x509.Certificate) -> str:
    """The subject's common name, "" if there is none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def sans_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The subject alternative names as `parse_san` reads them, in the certificate's order."""
    return tuple(map(san_text, _general_names(certificate)))


def _general_names(certificate: x509.Certificate) -> tuple[x509.GeneralName, ...]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(extension.value)


def san_text(name: x509.GeneralName) -> str:
    """``DNS:…``, ``IP:…``, ``URI:…``; types that we never make show as their class."""
    match name:
        case x509.DNSName():
            return f"DNS:{name.value}"
        case x509.IPAddress():
            return f"IP:{name.value}"
        case x509.UniformResourceIdentifier():
            return f"URI:{name.value}"
        case _:
            return f"{type(name).__name__}:{name.value}"


def days_left(certificate: x509.Certificate, now: datetime) -> int:
    """Whole days until it expires; negative once it has."""
    return (certificate.not_valid_after_utc - now).days


def why_not_usable(
    certificate: x509.Certificate, authority: x509.Certificate, request: Request
) -> str:
    """What keeps ``certificate`` from serving ``request``, expiry apart; "" if nothing does."""
    if kind_of(certificate) is not request.kind:
        return f"it is of kind {kind_of(certificate)}"
    if request.kind is not Kind.SERVER and common_name(certificate) != request.name:
        return f"it names {common_name(certificate)!r}"
    missing = set(request.sans).difference(_general_names(certificate))
    if missing:
        return "it lacks " + ", ".join(sorted(map(san_text, missing)))
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return "another CA signed it"
    return ""


def utc_now() -> datetime:
    return datetime.now(UTC)
