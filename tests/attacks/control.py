"""What a program of the daemon's own user can throw at its control socket."""

import socket
import struct
from collections.abc import Callable
from pathlib import Path

import msgpack

from tests.attacks.world import PATIENCE, World

_LENGTH = struct.Struct(">I")
_HELLO = {"id": 1, "method": "hello", "params": {"version": 1, "client": "attack"}}


def _frame(body: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + body


def _hello() -> bytes:
    return _frame(msgpack.packb(_HELLO))


def _open(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE)
    sock.connect(str(path))
    return sock


def _answers(world: World, octets: bytes) -> bytes:
    """All that comes back until the daemon closes."""
    with _open(world.server.control) as sock:
        try:
            sock.sendall(octets)
            heard = b""
            while data := sock.recv(65536):
                heard += data
        except ConnectionError:
            pass  # closed amid our octets
        return heard


def _ends(octets: bytes, said: bytes, times: int = 20) -> Callable[[World], str]:
    """The daemon says ``said`` to ``octets`` and ends the connection."""

    def attack(world: World) -> str:
        for _ in range(times):
            heard = _answers(world, octets)
            assert said in heard, heard
        return f"error `{said.decode()}`, closed"

    return attack


def _slow_frame(world: World) -> str:
    """Half of a frame, behind a good greeting."""
    heard = _answers(world, _hello() + _LENGTH.pack(1000) + b"\x81")
    assert b"was not complete" in heard
    return "error after 10 s, closed"


def _crowd(world: World) -> str:
    """More connections than there may be, all silent."""
    crowd = [_open(world.server.control) for _ in range(300)]
    refused = 0
    try:
        for sock in crowd:
            while sock.recv(65536):
                pass
            refused += 1
    finally:
        for sock in crowd:
            sock.close()
    assert refused == len(crowd)
    return "256 at a time, closed after 10 s without a greeting; the rest at once"


def _unknown_methods(world: World) -> str:
    """As many requests as go through in a second or so, none of which means anything."""
    number = 2_000
    asked = _frame(msgpack.packb({"id": 2, "method": "x" * 100, "params": {}}))
    with _open(world.server.control) as sock:
        sock.sendall(_hello())
        for _ in range(number):
            sock.sendall(asked)
            assert sock.recv(65536)
    return "error each, the connection lives"


ATTACKS: dict[str, Callable[[World], str]] = {
    "a frame of 4 GiB announced": _ends(b"\xff\xff\xff\xff" + bytes(100), b"limit 1048576"),
    "1 MiB of octets that are no msgpack": _ends(_frame(b"\xc1" * (1 << 20)), b"not msgpack"),
    "1 MiB of nested arrays": _ends(_frame(b"\x91" * (1 << 20)), b"bad_request"),
    "1 MiB of empty maps in one array": _ends(
        _frame(b"\xdd" + _LENGTH.pack((1 << 20) - 5) + b"\x80" * ((1 << 20) - 5)), b"bad_request"
    ),
    "an array of 4 billion in 5 octets": _ends(_frame(b"\xdd\xff\xff\xff\xff"), b"bad_request"),
    "a frame that never ends": _slow_frame,
    "300 silent connections": _crowd,
    "2,000 unknown methods": _unknown_methods,
}
