"""Who a certificate says its holder is."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the library takes its time, and a program may never ask
    from cryptography import x509


def names_of(certificate: "x509.Certificate") -> list[str]:
    """The ids that a certificate allows its holder to use: the last segments of its URI SANs
    (``home`` of ``spiffe://cluster/agent/home``), or its common name where it has none."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    if uris:
        return [uri.rstrip("/").rsplit("/", 1)[-1] for uri in uris]
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return [str(attribute.value) for attribute in common]


def names_of_der(der: bytes | None) -> list[str]:
    """The same of a TLS peer's certificate; none without one."""
    if not der:
        return []
    from cryptography import x509

    return names_of(x509.load_der_x509_certificate(der))


def names_of_file(path: Path) -> list[str]:
    """The same of the first certificate in a PEM file.

    Raises:
      OSError, ValueError: it can't be read, or is none.
    """
    from cryptography import x509

    return names_of(x509.load_pem_x509_certificate(path.read_bytes()))
