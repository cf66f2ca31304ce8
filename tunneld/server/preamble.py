"""What an endpoint is told of a client ahead of its octets: a header of the PROXY protocol."""

import ipaddress
import socket
from typing import Any

from tunneld.conns import Conn
from tunneld.dialing import host_of
from tunneld.proxyprotocol import Addresses, Endpoint, ProxyHeader, Tls
from tunneld.server.clientdial import Preamble
from tunneld.transport.base import Transport
from tunneld.transport.tls import TlsTransport

PROXY_PROTOCOL = b"tunneld-proxy-protocol"
"""A client's header that asks for it, by the version."""
VERSION_2 = b"v2"
WRONG_VERSION = "tunneld-proxy-protocol: v2 is the only version"


def proxy_header(transport: Transport, authority: str) -> Preamble:
    """Makes the header for a client's connection, once it has a dial id.

    Args:
      transport: to the client; the destination in the header is where that has connected to.
      authority: what it has asked for, whose host goes into the header.
    """

    def make(conn: Conn) -> bytes:
        tls = _tls_of(transport) if isinstance(transport, TlsTransport) else None
        addresses = _addresses_of(transport.sock)
        return ProxyHeader(addresses, host_of(authority), conn.dial, tls).encode()

    return make


def _addresses_of(sock: socket.socket) -> Addresses | None:
    """None for a UNIX socket, and for one that is lost."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        return _endpoint(sock.getpeername()), _endpoint(sock.getsockname())
    except OSError:
        return None


def _endpoint(name: tuple[str, int]) -> Endpoint:
    return Endpoint(ipaddress.ip_address(name[0].partition("%")[0]), name[1])


def _tls_of(transport: TlsTransport) -> Tls:
    """As OpenSSL has it: a certificate that is not verified ends the handshake."""
    certificate: dict[str, Any] = transport.tls.getpeercert() or {}  # {} for one not verified
    attributes = [pair for name in certificate.get("subject", ()) for pair in name]
    common = next((value for key, value in attributes if key == "commonName"), "")
    return Tls(transport.tls.version() or "", bool(certificate), common)
