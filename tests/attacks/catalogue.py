"""All attacks by name, and what it takes to carry one out and judge it."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.attacks import control, crowds
from tests.attacks.attacker import End, connect, flood, heard_until
from tests.attacks.crowds import front, tunnel
from tests.attacks.floods import EITHER_ROLE, Flood, connect_block, of_client, of_server
from tests.attacks.victim import Cost, Victim
from tests.attacks.world import PATIENCE, World
from tests.interop.malformed import END_HEADERS, HEADERS, HELLO, PREFACE, frame, settings

ROUNDS = 3
"""Connections that a flood is tried on, one after the other."""
NAMES = {0x3: "FLOW_CONTROL_ERROR", 0x6: "FRAME_SIZE_ERROR", 0xB: "ENHANCE_YOUR_CALM"}
STATUS_200 = b"\x88"
_PLACEHOLDER = "127.0.0.1:1"


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
      who: attacks whom.
      run: carries it out, asserts that it was cut off, and tells what happened.
      needs: descriptors that this takes, on both sides each.
    """

    who: str
    name: str
    run: Callable[[World], str]
    needs: int = 100

    @property
    def on_agent(self) -> bool:
        return self.who == "server → agent"


@dataclass(frozen=True)
class Result:
    """What came of an attack: what happened to the attacker, what it cost the victim, and how the
    honest client fared meanwhile."""

    happened: str
    cost: Cost
    dials: int
    failures: list[str]
    leaked: int
    """Descriptors that the victim has more of than before."""


def carry_out(world: World, attack: Attack) -> Result:
    """Attack, with an honest client beside."""
    victim = world.agent if attack.on_agent else world.server
    assert world.dial()
    before = victim.descriptors
    meter = victim.begin()
    with world.honest_client() as client:
        happened = attack.run(world)
    cost = meter.read()
    return Result(happened, cost, client.dials, client.failures, _leaked(world, victim, before))


def _leaked(world: World, victim: Victim, before: int) -> int:
    """Descriptors beyond those ``before``, once what has ended is closed: each dial gives it time,
    and a connection that said goodbye a second."""
    begun = time.monotonic()
    while (more := victim.descriptors - before) > 0 and time.monotonic() < begun + PATIENCE:
        assert world.dial()
    return max(0, more)


# -- floods ---------------------------------------------------------------------------------------


def _ended_well(name: str, expected: Flood, end: End) -> str:
    assert end.code == expected.code, f"{name}: {end}"
    return f"GOAWAY {NAMES[expected.code]} ({end.text})"


def _of_a_client(name: str) -> Attack:
    def run(world: World) -> str:
        authority = f"127.0.0.1:{world.echo}"
        wanted = of_client(authority)[name]
        for _ in range(ROUNDS):
            sock = connect(world, world.front, "frontend", "client", "h2")
            sock.sendall(HELLO + frame(HEADERS, END_HEADERS, 1, connect_block(authority)))
            heard_until(sock, HEADERS)
            said = _ended_well(name, wanted, flood(sock, wanted.pieces()))
        return said

    return Attack("client → server", name, run)


def _unread(name: str, wanted: Flood) -> Attack:
    """The same from a client that reads nothing of the answers."""

    def run(world: World) -> str:
        for _ in range(ROUNDS):
            sock = connect(world, world.front, "frontend", "client", "h2")
            end = flood(sock, wanted.pieces(HELLO), reads=False)
            said = _ended_well(name, wanted, end)
        return said

    return Attack("client → server", f"{name}, answers not read", run)


def _of_an_agent(name: str) -> Attack:
    def run(world: World) -> str:
        wanted = of_server(STATUS_200)[name]
        for _ in range(ROUNDS):
            sock = connect(world, world.tunnel, "agent", "agent", "rh2")
            sock.sendall(settings())
            heard_until(sock, HEADERS)  # it is asked who it is
            said = _ended_well(name, wanted, flood(sock, wanted.pieces()))
        return said

    return Attack("agent → server", name, run)


def _of_a_server(name: str) -> Attack:
    def run(world: World) -> str:
        authority = f"127.0.0.1:{world.echo}"
        wanted = of_client(authority)[name]
        with _lure(world) as accept:
            for _ in range(ROUNDS):
                sock = accept()
                sock.sendall(HELLO + frame(HEADERS, END_HEADERS, 1, connect_block(authority)))
                heard_until(sock, HEADERS)
                said = _ended_well(name, wanted, flood(sock, wanted.pieces()))
        return said

    return Attack("server → agent", name, run)


@contextmanager
def _lure(world: World) -> Iterator[Callable[[], ssl.SSLSocket]]:
    """A server with a good certificate and bad intent; gives the next agent's connection."""
    context = world.server_context()
    with socket.create_server(("127.0.0.1", world.evil)) as listener:
        listener.settimeout(PATIENCE)

        def accept() -> ssl.SSLSocket:
            raw, _ = listener.accept()
            raw.settimeout(PATIENCE)
            return context.wrap_socket(raw, server_side=True)

        yield accept


# -- others ---------------------------------------------------------------------------------------


def _endless_head(world: World) -> str:
    sock = connect(world, world.front, "frontend", "client")
    end = flood(sock, _forever(b"CONNECT a:1 HTTP/1.1\r\n", b"X: " + b"y" * 1000 + b"\r\n"))
    assert end.heard.startswith(b"HTTP/1.1 431 "), end
    return "431 after 64 KiB"


def _endless_answer(world: World) -> str:
    """An agent that does not stop saying who it is."""
    sock = connect(world, world.tunnel, "agent", "agent", "rh2")
    sock.sendall(settings())
    heard_until(sock, HEADERS)
    answered = frame(HEADERS, END_HEADERS, 1, STATUS_200)
    end = flood(sock, _forever(answered, frame(0, 0, 1, bytes(10_000))))
    assert end.code, end
    return f"GOAWAY ({end.text})"


def _forever(first: bytes, then: bytes) -> Iterator[bytes]:
    yield first
    while True:
        yield then * 50


def _no_certificate(world: World) -> str:
    """TLS handshakes to their end, with no certificate: the most that a stranger can cost."""
    threads = [threading.Thread(target=_knock, args=(world,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return "refused in the handshake (TLS alert)"


def _knock(world: World) -> None:
    for _ in range(100):
        try:
            with connect(world, world.front, "frontend", "client", bare=True) as sock:
                assert not sock.recv(100)
        except OSError:
            continue  # the alert


_CROWDS = (
    Attack(
        "stranger → server", "10,000 half-open connections", crowds.half_open(front, 10_000), 10_500
    ),
    Attack(
        "stranger → server",
        "10,000 half-open connections at the agents' port",
        crowds.half_open(tunnel, 10_000),
        10_500,
    ),
    Attack("stranger → server", "5,000 connections reset at once", crowds.resets(front, 5_000)),
    Attack(
        "stranger → server",
        "1,000 TLS handshakes never finished",
        crowds.unfinished_handshake(front, 1_000),
        1_500,
    ),
    Attack(
        "stranger → server",
        "1,000 TLS handshakes never finished at the agents' port",
        crowds.unfinished_handshake(tunnel, 1_000),
        1_500,
    ),
    Attack(
        "stranger → server",
        "3,000 connections with garbage",
        crowds.garbage(front, 3_000),
        3_500,
    ),
    Attack(
        "stranger → server",
        "500 TLS handshakes octet by octet",
        crowds.slow_handshake(front, 500),
        600,
    ),
    Attack("stranger → server", "400 TLS handshakes without a certificate", _no_certificate),
    Attack(
        "client → server",
        "200 slow heads, octet by octet",
        crowds.slow_head(200, b"CONNECT a:1 HTTP/1.1\r\nX: "),
        300,
    ),
    Attack("client → server", "200 slow HTTP/2 prefaces", crowds.slow_head(200, PREFACE[:16]), 300),
    Attack("client → server", "a head without end", _endless_head),
    Attack(
        "agent → server", "50 agents that never say who they are", crowds.silent_agents(50, "rh2")
    ),
    Attack(
        "agent → server",
        "50 konnectivity agents that never call Connect",
        crowds.silent_agents(50, "h2"),
    ),
    Attack("agent → server", "an agent that says who it is without end", _endless_answer),
)

ATTACKS: tuple[Attack, ...] = (
    *_CROWDS,
    *(_of_a_client(name) for name in of_client(_PLACEHOLDER)),
    *(_unread(name, EITHER_ROLE[name]) for name in ("PING", "SETTINGS")),
    *(_of_an_agent(name) for name in of_server(STATUS_200)),
    *(_of_a_server(name) for name in of_client(_PLACEHOLDER)),
    *(Attack("control socket", name, run) for name, run in control.ATTACKS.items()),
)
