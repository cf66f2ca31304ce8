"""TLS contexts from the certificate files that the configuration names."""

import ssl
from collections.abc import Collection

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
) -> ssl.SSLContext:
    """For a listener: clients must show a certificate of ``client_ca``.

    Args:
      client_ca: "" to ask for none.
      ciphers: of TLS 1.2, by IANA's names; those not in HTTP/2's use are left out.
    Raises:
      RoleError: a file is missing, unreadable, or not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED if client_ca else ssl.CERT_NONE
    # No tickets: they cost a fifth of each handshake, clients of ours come with one connection
    # each, and a resumed one would not show its certificate again.
    context.num_tickets = 0
    _load(context, cert, key, client_ca)
    _harden(context, alpn, min_version, ciphers)
    return context


def client_context(cert: str, key: str, ca: str, alpn: list[str]) -> ssl.SSLContext:
    """For dialling: the server's certificate must be of ``ca`` and show the name dialled.

    Args:
      cert: "" to show none.
      ca: "" for the system's.
    Raises:
      RoleError: as `server_context`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load(context, cert, key, ca)
    if not ca:
        context.load_default_certs()
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
            context.load_cert_chain(cert, key or None)
    except (OSError, ssl.SSLError) as exc:
        raise _unusable(f"certificate {cert} with key {key or cert}", exc) from exc
    try:
        if ca:
            context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as exc:
        raise _unusable(f"CA certificates {ca}", exc) from exc


def _unusable(what: str, exc: OSError) -> RoleError:
    why = exc.strerror or str(exc)
    if isinstance(exc, ssl.SSLError):
        why = f"{exc.reason or exc}: expected PEM files that belong together"
    return RoleError(f"cannot use {what}: {why}; see what there is with: tunnelctl certs list")
