"""What certificate files say: of each certificate and revocation list in them, whose it is and how
long it is good for."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:  # the library takes its time, and a program may never ask
    from cryptography import x509

Use: TypeAlias = Literal["cert", "ca", "crl"]
"""What a file is there for: our own certificate, whom we trust, whom we trust no more."""

PEM_CRL = b"-----BEGIN X509 CRL-----"
"""Begins a revocation list in PEM; what does not contain it is taken for DER."""
_CRL = re.compile(PEM_CRL + rb".*?-----END X509 CRL-----", re.DOTALL)
_SERIAL = 8
"""Digits of a serial number that are enough to tell two apart."""
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Fact:
    """One certificate, or one revocation list."""

    file: str
    use: Use
    subject: str
    """Common name, or all of the name where there is none; of a revocation list its issuer's."""
    serial: int
    """Of a revocation list its number, 0 if it has none."""
    not_after: datetime
    revoked: int = 0
    """Certificates on the revocation list."""

    def to_map(self) -> dict[str, str | float]:
        """As the control protocol has it."""
        return {
            "file": self.file,
            "kind": self.use,
            "subject": self.subject,
            "not_after": self.not_after.timestamp(),
        }

    def __str__(self) -> str:
        until = "for ever" if self.not_after == _NEVER else f"until {self.not_after:%Y-%m-%d %H:%M}"
        if self.use == "crl":
            return f"{self.revoked} revoked of {self.subject!r}, good {until}"
        return f"{self.subject!r} serial {f'{self.serial:x}'[:_SERIAL]}… {until}"


def certificate_facts(file: str, use: Use, data: bytes) -> list[Fact]:
    """Of the certificates in a PEM file: the first for our own, all for those of CAs.

    Raises:
      ValueError: there is none, or one cannot be read.
    """
    from cryptography import x509

    found = x509.load_pem_x509_certificates(data)
    return [_fact(file, use, each) for each in (found[:1] if use == "cert" else found)]


def _fact(file: str, use: Use, certificate: "x509.Certificate") -> Fact:
    return Fact(
        file,
        use,
        name_text(certificate.subject),
        certificate.serial_number,
        certificate.not_valid_after_utc,
    )


def read_crls(data: bytes) -> "list[x509.CertificateRevocationList]":
    """The revocation lists in a file: any number in PEM, or one in DER.

    Raises:
      ValueError: there is none, or one cannot be read.
    """
    from cryptography import x509

    blocks = _CRL.findall(data)
    try:
        if not blocks:
            return [x509.load_der_x509_crl(data)]
        return [x509.load_pem_x509_crl(block) for block in blocks]
    except ValueError as exc:
        raise ValueError("not a certificate revocation list in PEM or DER") from exc


def has_signed(authority: "x509.Certificate", crl: "x509.CertificateRevocationList") -> bool:
    """Whether the list is that CA's."""
    try:
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (TypeError, ValueError):  # a kind of key that signs nothing
        return False


def crl_fact(file: str, crl: "x509.CertificateRevocationList") -> Fact:
    """Of a revocation list."""
    from cryptography import x509

    try:
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        number = 0
    until = crl.next_update_utc or _NEVER
    return Fact(file, "crl", name_text(crl.issuer), number, until, len(crl))


def name_text(name: "x509.Name") -> str:
    """A subject or issuer by its common name, whole where it has none."""
    from cryptography.x509.oid import NameOID

    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else name.rfc4514_string()
