"""Who a certificate says its holder is."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the library takes its time, and a program may never ask
    from cryptography import x509

_CLIENT = "spiffe://tunneld/client/"
_AGENT = "spiffe://tunneld/agent/"
_KEPT = 4096
"""Certificates whose holders are remembered: parsing takes its time, and clients come again."""


def names_of(certificate: "x509.Certificate") -> list[str]:
    """The agent ids that a certificate allows its holder to use: the last segments of its URI SANs
    (``home`` of ``spiffe://cluster/agent/home``), or its common name where it has none. A URI that
    makes it a client's of ours names no agent, should one CA sign both."""
    uris, common = _uris_and_common_names(certificate)
    if uris:
        return [uri.rstrip("/").rsplit("/", 1)[-1] for uri in uris if not uri.startswith(_CLIENT)]
    return common


def foreign_uris_of(certificate: "x509.Certificate") -> list[str]:
    """The URI SANs that are not ours, as they are: where others make the certificates, two agents
    may have one last segment."""
    uris, _ = _uris_and_common_names(certificate)
    return [uri for uri in uris if not uri.startswith((_CLIENT, _AGENT))]


def client_of(certificate: "x509.Certificate") -> str:
    """The client that a certificate names: ``NAME`` of ``spiffe://tunneld/client/NAME``, another
    URI SAN as it is, its common name where it has none; "" if it names nobody."""
    uris, common = _uris_and_common_names(certificate)
    ours = [uri.removeprefix(_CLIENT) for uri in uris if uri.startswith(_CLIENT)]
    return next(iter([*ours, *uris, *common]), "")


def _uris_and_common_names(certificate: "x509.Certificate") -> tuple[list[str], list[str]]:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return uris, [str(attribute.value) for attribute in common]


def agent_of_der(der: bytes | None) -> tuple[list[str], list[str]]:
    """`names_of` and `foreign_uris_of` a TLS peer's certificate; none without one.

    Raises:
      ValueError: it can't be read.
    """
    if not der:
        return [], []
    from cryptography import x509

    certificate = x509.load_der_x509_certificate(der)
    return names_of(certificate), foreign_uris_of(certificate)


@lru_cache(_KEPT)
def client_of_der(der: bytes) -> str:
    """`client_of` a TLS peer's certificate.

    Raises:
      ValueError: it can't be read.
    """
    from cryptography import x509

    return client_of(x509.load_der_x509_certificate(der))


def names_of_file(path: Path) -> list[str]:
    """`names_of` the first certificate in a PEM file.

    Raises:
      OSError, ValueError: it can't be read, or is none.
    """
    from cryptography import x509

    return names_of(x509.load_pem_x509_certificate(path.read_bytes()))
