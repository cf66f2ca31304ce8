"""TLS contexts from the certificate files that the configuration names."""

import base64
import os
import ssl
from collections.abc import Collection, Sequence
from pathlib import Path

from tunneld.certfile import PEM_CRL
from tunneld.role import RoleError

_CIPHERS = {
    f"TLS_ECDHE_{key}_WITH_{cipher}": f"ECDHE-{key}-{name}"
    for key in ("RSA", "ECDSA")
    for cipher, name in (
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
    )
}
"""Names of IANA and of OpenSSL. RFC 9113 section 9.2.2: of TLS 1.2 only ephemeral key exchange
with AEAD ciphers."""
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def server_context(
    cert: str,
    key: str,
    client_ca: str,
    alpn: list[str],
    min_version: str = "1.2",
    ciphers: Collection[str] = (),
    crls: Sequence[str] = (),
    *,
    optional: bool = False,
) -> ssl.SSLContext:
    """For a listener: clients must show a certificate of ``client_ca``.

    Args:
      client_ca: "" to ask for none.
      ciphers: of TLS 1.2, by IANA's names; those not in HTTP/2's use are left out.
      crls: files with certificate revocation lists; with any, there must be one of each CA that
        signs clients' certificates, not expired, or they are refused.
      optional: whether they may show none.
    Raises:
      RoleError: a file is missing, unreadable, or not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED if client_ca else ssl.CERT_NONE
    if client_ca and optional:
        context.verify_mode = ssl.CERT_OPTIONAL
    # No tickets of TLS 1.3: they cost a fifth of each handshake, and clients of ours come with one
    # connection each. With TLS 1.2 sessions can be resumed: see `tunneld.transport.stream`.
    context.num_tickets = 0
    _load(context, cert, key, client_ca)
    load_crls(context, crls)
    _harden(context, alpn, min_version, ciphers)
    return context


def client_context(
    cert: str, key: str, ca: str, alpn: list[str], crls: Sequence[str] = ()
) -> ssl.SSLContext:
    """For dialling: the server's certificate must be of ``ca`` and show the name dialled.

    Args:
      cert: "" to show none.
      ca: "" for the system's.
      crls: as `server_context`.
    Raises:
      RoleError: as `server_context`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load(context, cert, key, ca)
    if not ca:
        context.load_default_certs()
    load_crls(context, crls)
    _harden(context, alpn)
    return context


def _harden(
    context: ssl.SSLContext,
    alpn: list[str],
    min_version: str = "1.2",
    ciphers: Collection[str] = (),
) -> None:
    names = [_CIPHERS[name] for name in ciphers if name in _CIPHERS]
    context.minimum_version = _VERSIONS[min_version if names or not ciphers else "1.3"]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(":".join(names or _CIPHERS.values()))
    context.set_alpn_protocols(alpn)


def _load(context: ssl.SSLContext, cert: str, key: str, ca: str) -> None:
    try:
        if cert:
            # An empty password makes an encrypted key an error where it would ask on the terminal.
            context.load_cert_chain(cert, key or None, password="")
    except (OSError, ssl.SSLError, ValueError) as exc:
        raise _unusable(f"certificate {cert} with key {key or cert}", exc) from exc
    try:
        if ca:
            context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as exc:
        raise _unusable(f"CA certificates {ca}", exc) from exc


def load_crls(context: ssl.SSLContext, crls: Sequence[str]) -> None:
    """Have ``context`` refuse the certificates on these lists, if there are any.

    Raises:
      RoleError: a file cannot be used.
    """
    for crl in crls:
        try:
            _load_crl(context, Path(crl).read_bytes())
        except (OSError, ssl.SSLError) as exc:
            raise _unusable(f"certificate revocation list {crl}", exc) from exc
    if crls:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _load_crl(context: ssl.SSLContext, data: bytes) -> None:
    """OpenSSL takes them from a PEM file only, as Python lets it."""
    if PEM_CRL not in data:
        data = b"%s\n%s-----END X509 CRL-----\n" % (PEM_CRL, base64.encodebytes(data))
    descriptor = os.memfd_create("crl")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(data)
        context.load_verify_locations(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _unusable(what: str, exc: OSError | ValueError) -> RoleError:
    why = (isinstance(exc, OSError) and exc.strerror) or str(exc)
    if isinstance(exc, ssl.SSLError):
        why = f"{exc.reason or exc}: expected PEM files that belong together"
    return RoleError(f"cannot use {what}: {why}; see what there is with: tunnelctl certs list")


def refusal(exc: ssl.SSLError) -> str:
    """Why TLS failed, for people: of a certificate that is not accepted, what is wrong with it."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"TLS: its certificate is not accepted: {exc.verify_message}"
    return f"TLS: {exc.reason or exc}"
