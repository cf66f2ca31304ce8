"""Crowds of connections that come and do not get on: half open, half shaken hands, half a head."""

import resource
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable

from tests.attacks.attacker import connect
from tests.attacks.world import HEAD_TIMEOUT, PATIENCE, World
from tests.interop.malformed import HELLO

_PACE = 0.1
"""Seconds between two octets of a slow sender, who is never silent for long."""

Port = Callable[[World], int]


def front(world: World) -> int:
    """Of the frontend."""
    return world.front


def tunnel(world: World) -> int:
    """Where agents connect."""
    return world.tunnel


def descriptors() -> int:
    """How many this process, and those that it starts, may have; raised as far as it goes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def open_many(port: int, number: int) -> list[socket.socket]:
    """TCP connections that say nothing. Those that were closed meanwhile are among them."""
    return [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(number)]


def until_closed(socks: list[socket.socket], drip: Callable[[int], bytes]) -> float:
    """Have each socket say what ``drip`` gives for its turn until the other side has closed all.

    Returns:
      Seconds that took.
    Raises:
      AssertionError: some are open long after they should.
    """
    begun = time.monotonic()
    poll = select.poll()
    left = {sock.fileno(): sock for sock in socks}
    for fd in left:
        poll.register(fd, select.POLLIN)
    turn = 0
    while left:
        assert time.monotonic() < begun + PATIENCE, f"{len(left)} of {len(socks)} are open still"
        for fd, _ in poll.poll(_PACE * 1000):
            if _ended(left[fd]):
                poll.unregister(fd)
                left.pop(fd).close()
        if octets := drip(turn):
            for sock in left.values():
                _say(sock, octets)
        turn += 1
    return time.monotonic() - begun


def _ended(sock: socket.socket) -> bool:
    try:
        return not sock.recv(65536)
    except ssl.SSLWantReadError:  # a record without data: a session ticket
        return False
    except OSError:
        return True


def _say(sock: socket.socket, octets: bytes) -> None:
    try:
        sock.send(octets)
    except OSError:
        pass  # closed: its end is in what it has to read


def silence(turn: int) -> bytes:
    """Nothing at all."""
    return b""


# -- what crowds do -------------------------------------------------------------------------------


def half_open(port: Port, number: int) -> Callable[[World], str]:
    """TCP connections, and not one octet."""

    def attack(world: World) -> str:
        until_closed(open_many(port(world), number), silence)
        return f"the oldest make room, the last are closed after `head-timeout` ({HEAD_TIMEOUT} s)"

    return attack


def unfinished_handshake(port: Port, number: int) -> Callable[[World], str]:
    """A ClientHello each; the server makes its keys and signs, and hears no more."""

    def attack(world: World) -> str:
        hello = client_hello()
        socks = open_many(port(world), number)
        for sock in socks:
            _say(sock, hello)
        until_closed(socks, silence)
        return "closed after `head-timeout`"

    return attack


def garbage(port: Port, number: int) -> Callable[[World], str]:
    """What is no TLS, from clients that then stay."""

    def attack(world: World) -> str:
        socks = open_many(port(world), number)
        for sock in socks:
            _say(sock, b"\x16\x03\x01\x40\x00" + bytes(100) if sock.fileno() % 2 else bytes(100))
        until_closed(socks, silence)
        return "refused (TLS alert), closed within a second, or after `head-timeout`"

    return attack


def slow_handshake(port: Port, number: int) -> Callable[[World], str]:
    """A ClientHello each, octet by octet."""

    def attack(world: World) -> str:
        hello = client_hello()
        socks = open_many(port(world), number)
        until_closed(socks, lambda turn: hello[turn : turn + 1])
        return "closed after `head-timeout`, though octets come all the time"

    return attack


def slow_head(number: int, octets: bytes) -> Callable[[World], str]:
    """Clients with certificates whose request comes octet by octet, and has no end."""

    def attack(world: World) -> str:
        socks: list[socket.socket] = []
        for _ in range(number):
            sock = connect(world, world.front, "frontend", "client")
            sock.setblocking(False)
            socks.append(sock)
        until_closed(socks, lambda turn: octets[turn : turn + 1] or b"x")
        return "closed after `head-timeout`, though octets come all the time"

    return attack


def silent_agents(number: int, protocol: str) -> Callable[[World], str]:
    """Agents with certificates that speak HTTP/2, but never say who they are."""

    def attack(world: World) -> str:
        socks: list[socket.socket] = []
        for _ in range(number):
            sock = connect(world, world.tunnel, "agent", "agent", protocol)
            sock.sendall(HELLO if protocol == "h2" else HELLO[24:])
            sock.setblocking(False)
            socks.append(sock)
        until_closed(socks, silence)
        return (
            "closed after `head-timeout`" if protocol == "h2" else "refused after 10 s, by GOAWAY"
        )

    return attack


def resets(port: Port, number: int) -> Callable[[World], str]:
    """Connections that are reset as soon as they stand."""

    def attack(world: World) -> str:
        linger = struct.pack("ii", 1, 0)
        for _ in range(number):
            sock = socket.create_connection(("127.0.0.1", port(world)), PATIENCE)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            sock.close()
        return "forgotten at once"

    return attack


def client_hello() -> bytes:
    """The first flight of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass  # it waits for the server now
    return outgoing.read()
