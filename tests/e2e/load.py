"""Clients for tests, run inside `public` against the demo's frontend; each prints one JSON object.

python -m tests.e2e.load PKI integrity CONNECTIONS OCTETS   hashed, that much in all each way
python -m tests.e2e.load PKI banners COUNT                  an endpoint that speaks first
python -m tests.e2e.load PKI cut                            the endpoint resets amid its answer
python -m tests.e2e.load PKI isolation SECONDS              others beside a stalled reader
"""

import contextlib
import hashlib
import json
import socket
import ssl
import statistics
import struct
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.e2e.conftest import PRIVATE
from tests.e2e.endpoint import BANNER, CHUNK, pseudo_random
from tests.e2e.tlsclient import ESTABLISHED, connect, context, dial

PORT = 4100
RECORD = 16 * 1024


def integrity(tls: ssl.SSLContext, connections: int, octets: int) -> dict[str, Any]:
    """Half of the connections send and half-close, and get a hash; half get octets and a hash."""
    share = 2 * octets // connections

    def one(number: int) -> bool:
        return _upload(tls, share) if number % 2 else _download(tls, share)

    begun = time.monotonic()
    with ThreadPoolExecutor(connections) as pool:
        right = sum(pool.map(one, range(connections)))
    seconds = time.monotonic() - begun
    return {"right": right, "of": connections, "octets": 2 * octets, "seconds": round(seconds, 1)}


def _upload(tls: ssl.SSLContext, size: int) -> bool:
    digest = hashlib.sha256()
    with dial(tls, PRIVATE, PORT) as sock:
        sock.sendall(b"h")
        for piece in pseudo_random(size):
            digest.update(piece)
            sock.sendall(piece)
        _half_close(sock)
        return _read_all(sock) == digest.digest()


def _half_close(sock: ssl.SSLSocket) -> None:
    """FIN without close_notify: Python's `ssl` cannot send one and go on reading."""
    socket.socket.shutdown(sock, socket.SHUT_WR)


def _download(tls: ssl.SSLContext, size: int) -> bool:
    digest = hashlib.sha256()
    with dial(tls, PRIVATE, PORT) as sock:
        sock.sendall(b"s" + size.to_bytes(8, "big"))
        left = size
        while left:
            data = sock.recv(min(CHUNK, left))
            if not data:
                return False
            digest.update(data)
            left -= len(data)
        return _read_all(sock) == digest.digest()


def _read_all(sock: ssl.SSLSocket) -> bytes:
    data = b""
    while more := sock.recv(CHUNK):
        data += more
    return data


def banners(tls: ssl.SSLContext, count: int) -> dict[str, Any]:
    """Dials to an endpoint that speaks first: reads must show the 200 alone, then the banner."""

    def one(_: int) -> bool:
        sock, reply = connect(tls, PRIVATE, PORT + 1)
        with sock:
            banner = b""
            while len(banner) < len(BANNER) and (more := sock.recv(4096)):
                banner += more
            return reply == ESTABLISHED and banner == BANNER

    with ThreadPoolExecutor(8) as pool:
        return {"right": sum(pool.map(one, range(count))), "of": count}


def cut(tls: ssl.SSLContext) -> dict[str, Any]:
    """What a client sees of an endpoint's reset, and an endpoint of a client's."""
    with dial(tls, PRIVATE, PORT) as sock:
        sock.sendall(b"x")
        received = 0
        try:
            while data := sock.recv(CHUNK):
                received += len(data)
            end = "clean"
        except OSError as exc:
            end = type(exc).__name__
    sock = dial(tls, PRIVATE, PORT)
    sock.sendall(b"f")
    sock.recv(1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    return {"received": received, "end": end}


def isolation(tls: ssl.SSLContext, seconds: float) -> dict[str, Any]:
    """Sixteen others, half in bulk and half in echo, before and while one reader stalls."""
    before = _others(tls, seconds)
    stalled = dial(tls, PRIVATE, PORT)
    with stalled:
        stalled.sendall(b"f")
        stalled.recv(1)  # and never again
        time.sleep(1)  # until every buffer on the way is full
        while_stalled = _others(tls, seconds)
    return {"before": before, "stalled": while_stalled}


def _others(tls: ssl.SSLContext, seconds: float) -> dict[str, float]:
    octets, delays, lock = [0], [0.0][:0], threading.Lock()
    end = time.monotonic() + seconds

    def bulk() -> None:
        with dial(tls, PRIVATE, PORT) as sock:
            sock.sendall(b"f")
            got = 0
            while time.monotonic() < end:
                got += len(sock.recv(CHUNK))
        with lock:
            octets[0] += got

    def echo() -> None:
        mine = []
        with dial(tls, PRIVATE, PORT + 1) as sock:
            sock.recv(len(BANNER))
            while time.monotonic() < end:
                begun = time.monotonic()
                sock.sendall(b"x" * 64)
                got = 0
                while got < 64:
                    got += len(sock.recv(64))
                mine.append(time.monotonic() - begun)
        with lock:
            delays.extend(mine)

    threads = [threading.Thread(target=target) for target in [bulk, echo] * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "mb_per_s": round(octets[0] / seconds / 1e6, 1),
        "echoes_per_s": round(len(delays) / seconds, 1),
        "echo_p50_ms": round(statistics.median(delays) * 1000, 2),
        "echo_p99_ms": round(statistics.quantiles(delays, n=100)[98] * 1000, 2),
    }


_COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "integrity": integrity,
    "banners": banners,
    "cut": cut,
    "isolation": isolation,
}


def main() -> None:
    pki, command, *numbers = sys.argv[1:]
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(_COMMANDS[command](context(Path(pki)), *map(int, numbers))))


if __name__ == "__main__":
    main()
