"""Connected sockets and transports."""

import socket
import ssl
import struct
from pathlib import Path

from tunneld.tlscontext import client_context, server_context
from tunneld.transport.base import WOULD_BLOCK, Transport
from tunneld.transport.tls import TlsTransport


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection, non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        first = socket.create_connection(listener.getsockname())
        second, _ = listener.accept()
    for sock in (first, second):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return first, second


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def contexts(pki: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a frontend, and of a client that it takes."""
    path = pki / "frontend"
    cert, key, ca = (str(path / name) for name in ("server.crt", "server.key", "ca.crt"))
    server = server_context(cert, key, ca, ["h2", "http/1.1"])
    cert, key = str(path / "client.crt"), str(path / "client.key")
    return server, client_context(cert, key, ca, ["http/1.1"])


def tls_pair(
    pki: Path, *, fin_is_end: bool = False, version: ssl.TLSVersion | None = None
) -> tuple[TlsTransport, TlsTransport]:
    """Server and client, handshake done."""
    server_side, client_side = contexts(pki)
    if version is not None:
        client_side.maximum_version = version
    ours, theirs = tcp_pair()
    server = TlsTransport(ours, server_side, server_side=True, fin_is_end=fin_is_end)
    client = TlsTransport(theirs, client_side, server_side=False, server_hostname="127.0.0.1")
    complete = {server: False, client: False}
    while not all(complete.values()):
        for transport, done in complete.items():
            complete[transport] = done or transport.handshake_step()
    return server, client


def receive(transport: Transport, size: int = 1 << 20) -> bytes:
    """What there is, up to ``size`` octets: b"" if nothing now, or at the end."""
    view = memoryview(bytearray(size))
    got = transport.receive_into(view)
    return b"" if got == WOULD_BLOCK else bytes(view[:got])


def receive_to_end(transport: Transport, sender: Transport, size: int = 1 << 20) -> bytes:
    """All octets up to the end, while ``sender`` brings out what it keeps."""
    octets = bytearray()
    view = memoryview(bytearray(size))
    while got := transport.receive_into(view):
        if got == WOULD_BLOCK:
            sender.flush()
        else:
            octets += view[:got]
    return bytes(octets)
