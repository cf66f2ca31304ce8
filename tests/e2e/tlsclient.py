"""A plain client of a frontend, independent of ours: `ssl` and CONNECT written by hand."""

import socket
import ssl
from pathlib import Path

from tests.e2e.conftest import SERVER

ESTABLISHED = b"HTTP/1.1 200 Connection Established\r\n\r\n"


def context(pki: Path) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(pki / "frontend/ca.crt"))
    made.load_cert_chain(pki / "frontend/client.crt", pki / "frontend/client.key")
    return made


def connect(
    tls: ssl.SSLContext, destination: str, port: int, frontend: tuple[str, int] = (SERVER, 8090)
) -> tuple[ssl.SSLSocket, bytes]:
    """A tunnelled connection, and the first read's octets after the request: the reply's head,
    with whatever came along."""
    raw = socket.create_connection(frontend, timeout=30)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # An end without close_notify is an error here, as RFC 8446 section 6.1 wants it.
    sock = tls.wrap_socket(raw, server_hostname=frontend[0], suppress_ragged_eofs=False)
    sock.sendall(f"CONNECT {destination}:{port} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return sock, sock.recv(65536)


def dial(tls: ssl.SSLContext, destination: str, port: int) -> ssl.SSLSocket:
    """A tunnelled connection."""
    sock, reply = connect(tls, destination, port)
    if reply != ESTABLISHED:
        sock.close()
        raise ConnectionError(reply)
    return sock
