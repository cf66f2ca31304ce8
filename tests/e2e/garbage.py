"""Throws what is on stdin at a listener and reads until it closes: HOST PORT [PKI SIDE NAME].

With PKI, SIDE and NAME (``frontend client``, ``agent agent``) it does so inside TLS, with that
certificate. ``ALPN`` in the environment names the protocol to offer. Prints what came back.
"""

import contextlib
import os
import socket
import ssl
import sys


def main() -> None:
    host, port, *tls = sys.argv[1:]
    octets = sys.stdin.buffer.read()
    sock = socket.create_connection((host, int(port)), timeout=20)
    if tls:
        pki, side, name = tls
        context = ssl.create_default_context(cafile=f"{pki}/{side}/ca.crt")
        context.load_cert_chain(f"{pki}/{side}/{name}.crt", f"{pki}/{side}/{name}.key")
        if "ALPN" in os.environ:
            context.set_alpn_protocols([os.environ["ALPN"]])
        sock = context.wrap_socket(sock, server_hostname=host)
    with contextlib.suppress(OSError):
        sock.sendall(octets)
        if not tls:
            sock.shutdown(socket.SHUT_WR)
        while data := sock.recv(65536):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
