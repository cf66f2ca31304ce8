"""A TCP endpoint for tests, run inside `private`: what it does with a connection is the letter
that the client sends first, but for the port on which it speaks first.

    python -m tests.e2e.endpoint HOST PORT [BANNER_PORT]

PORT: by the first octet
  h  hash: reads until the client's half-close, then answers the SHA-256 of what it got, and closes
  s  send: reads 8 octets (a length, big-endian) and sends so many pseudo-random octets, then
     their SHA-256, then closes
  x  reset: resets the connection after 1 MiB of what it was to send
  f  flood: sends zeros without end
BANNER_PORT: says BANNER at once, then echoes
"""

import contextlib
import hashlib
import socket
import struct
import sys
import threading

BANNER = b"220 private.example ready\r\n"
CHUNK = 1 << 16
RESET_AFTER = 1 << 20
_BLOCK = hashlib.shake_256(b"tunneld").digest(1 << 20)


def pseudo_random(size: int) -> "list[memoryview]":
    """``size`` octets in pieces."""
    block = memoryview(_BLOCK)
    whole, rest = divmod(size, len(block))
    return [block] * whole + [block[:rest]]


def serve_choice(sock: socket.socket) -> None:
    choice = sock.recv(1)
    if choice == b"h":
        _hash(sock)
    elif choice == b"s":
        _send(sock, int.from_bytes(_exactly(sock, 8), "big"))
    elif choice == b"x":
        sock.sendall(b"\0" * RESET_AFTER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif choice == b"f":
        while True:
            sock.sendall(b"\0" * CHUNK)


def _hash(sock: socket.socket) -> None:
    digest = hashlib.sha256()
    while data := sock.recv(CHUNK):
        digest.update(data)
    sock.sendall(digest.digest())


def _send(sock: socket.socket, size: int) -> None:
    digest = hashlib.sha256()
    for piece in pseudo_random(size):
        digest.update(piece)
        sock.sendall(piece)
    sock.sendall(digest.digest())


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionError("closed early")
        data += more
    return data


def serve_banner(sock: socket.socket) -> None:
    sock.sendall(BANNER)
    while data := sock.recv(CHUNK):
        sock.sendall(data)


def _serve(listener: socket.socket, handler: "object") -> None:
    def one(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            handler(sock)  # type: ignore[operator]

    while True:
        sock, _ = listener.accept()
        threading.Thread(target=one, args=(sock,), daemon=True).start()


def main() -> None:
    host, port, *banner_port = sys.argv[1], *map(int, sys.argv[2:])
    first = socket.create_server((host, port), backlog=512)
    for each in banner_port:
        second = socket.create_server((host, each), backlog=512)
        threading.Thread(target=_serve, args=(second, serve_banner), daemon=True).start()
    print("ready", flush=True)
    _serve(first, serve_choice)


if __name__ == "__main__":
    main()
