"""The connections with TLS peers that there are, to end those whose certificate is revoked."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

import structlog
import trio

from tunneld.transport.base import Transport
from tunneld.transport.tls import TlsTransport

if TYPE_CHECKING:
    from cryptography import x509

log = structlog.get_logger(__name__)

_KEPT = 4096
"""Certificates whose issuer and serial number are remembered: peers come with the same ones."""
_PAUSE = 64
"""Connections that are looked at between two turns of everything else."""


class TlsPeers:
    """See the module. A connection costs an entry while it lasts; its certificate is looked at only
    when revocation lists change."""

    def __init__(self) -> None:
        self._present: dict[TlsTransport, Callable[[], None]] = {}

    def __len__(self) -> int:
        return len(self._present)

    @contextmanager
    def present(self, transport: Transport, end: Callable[[], None]) -> Iterator[None]:
        """The block serves a connection; ``end`` is called when the peer's certificate is
        revoked."""
        if not isinstance(transport, TlsTransport):
            yield
            return
        self._present[transport] = end
        try:
            yield
        finally:
            del self._present[transport]

    async def end_revoked(
        self, crls: "Iterable[x509.CertificateRevocationList]", peer_is: str
    ) -> int:
        """End the connections whose certificate is on one of the lists; how many these were.

        Those amid their handshake, which has begun by what was known then, are not seen yet: call
        it again when they must be through.

        Args:
          peer_is: the word for a peer in the log.
        """
        by_issuer: dict[bytes, list[x509.CertificateRevocationList]] = {}
        for crl in crls:
            by_issuer.setdefault(crl.issuer.public_bytes(), []).append(crl)
        ended = 0
        for number, (transport, end) in enumerate(list(self._present.items())):
            if number % _PAUSE == _PAUSE - 1:
                await trio.lowlevel.checkpoint()
            identity = _identity(transport)
            if identity is None:
                continue
            issuer, serial = identity
            lists = by_issuer.get(issuer, [])
            if any(crl.get_revoked_certificate_by_serial_number(serial) for crl in lists):
                log.warning(f"{peer_is} ended: its certificate is revoked", serial=f"{serial:x}")
                end()
                ended += 1
        return ended


def _identity(transport: TlsTransport) -> tuple[bytes, int] | None:
    """Issuer and serial number of the peer's certificate, None if it has shown none yet."""
    try:
        der = transport.tls.getpeercert(binary_form=True)
        return _identity_of(der) if der else None
    except ValueError:  # no handshake yet, or a certificate that only OpenSSL can read
        return None


@lru_cache(_KEPT)
def _identity_of(der: bytes) -> tuple[bytes, int]:
    from cryptography import x509

    certificate = x509.load_der_x509_certificate(der)
    return certificate.issuer.public_bytes(), certificate.serial_number
