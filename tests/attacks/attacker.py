"""Sending without end until the other side has enough, and reading its last words."""

import select
import socket
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.attacks.world import PATIENCE, World
from tests.interop.malformed import GOAWAY, PREFACE, SETTINGS, frame

PIECE = 64 * 1024
"""Octets of one write."""
MOST = 64 << 20
"""Octets that nobody may take of a flood."""


class NotCutOffError(AssertionError):
    """The flood went on and on."""


@dataclass
class End:
    """How the other side ended a connection.

    Attributes:
      code: of its GOAWAY; None without one.
      text: the GOAWAY's debug data.
      sent: octets that we were rid of before.
      heard: all that it said.
    """

    code: int | None
    text: str
    sent: int
    heard: bytes = field(repr=False)


def flood(sock: ssl.SSLSocket, pieces: Iterable[bytes], *, reads: bool = True) -> End:
    """Send until the other side ends the connection, or ``pieces`` do; then wait for its end.

    Args:
      reads: whether we take in what it says while we send.
    """
    heard, sent = bytearray(), 0
    sock.setblocking(False)
    with sock:
        for piece in pieces:
            if sent > MOST:
                raise NotCutOffError(f"{sent} octets, and it goes on")
            if not _send(sock, piece, heard, reads):
                break
            sent += len(piece)
        while _receive(sock, heard, wait=True):
            pass
    return End(*_goaway(bytes(heard)), sent, bytes(heard))


def _send(sock: ssl.SSLSocket, piece: bytes, heard: bytearray, reads: bool) -> bool:
    """Send all of ``piece``; whether the connection lives."""
    view = memoryview(piece)
    while view:
        try:
            view = view[sock.send(view) :]
        except ssl.SSLWantWriteError:
            ready, _, _ = select.select([sock], [] if reads else [sock], [], 0.01)
            if not reads and not ready:
                continue
        except OSError:
            return False
        if reads and not _receive(sock, heard, wait=False):
            return False
    return True


def _receive(sock: ssl.SSLSocket, heard: bytearray, *, wait: bool) -> bool:
    """Take in what is there; whether there may be more."""
    while True:
        try:
            data = sock.recv(PIECE)
        except ssl.SSLWantReadError:
            if not wait:
                return True
            if not select.select([sock], [], [], PATIENCE)[0]:
                raise NotCutOffError("the other side keeps the connection") from None
            continue
        except OSError:  # reset
            return False
        if not data:
            return False
        heard += data


def frames_in(octets: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Type, flags, stream and payload of what an HTTP/2 peer said, as far as it is whole."""
    octets = octets.removeprefix(PREFACE)
    while len(octets) >= 9:
        length = int.from_bytes(octets[:3])
        if len(octets) < 9 + length:
            return
        yield octets[3], octets[4], int.from_bytes(octets[5:9]), octets[9 : 9 + length]
        octets = octets[9 + length :]


def _goaway(heard: bytes) -> tuple[int | None, str]:
    for kind, _, _, payload in frames_in(heard):
        if kind == GOAWAY and int.from_bytes(payload[4:8]):
            return int.from_bytes(payload[4:8]), payload[8:].decode()
    return None, ""


def connect(
    world: World, port: int, side: str, name: str, *alpn: str, bare: bool = False
) -> ssl.SSLSocket:
    """A TLS connection to the server's ``port``.

    Args:
      bare: show no certificate.
    """
    context = world.client_context(side, name, *alpn)
    if bare:
        context = ssl.create_default_context(cafile=str(world.pki / side / "ca.crt"))
    raw = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    return context.wrap_socket(raw, server_hostname="127.0.0.1")


def heard_until(sock: ssl.SSLSocket, wanted: int) -> None:
    """Read until the peer's frame of type ``wanted`` has come; used before a flood begins."""
    octets = b""
    while not any(kind == wanted for kind, _, _, _ in frames_in(octets)):
        more = sock.recv(PIECE)
        if not more:
            raise ConnectionError("it closed before we began")
        octets += more


def acknowledge_settings() -> bytes:
    """What both sides owe each other first."""
    return frame(SETTINGS, 1, 0)
