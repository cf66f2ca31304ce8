"""The way to a server below TLS: its name's addresses, and a TCP connection to each."""

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ctl.address import Address, parse_listen_address
from tunneld.doctor.finding import Finding, failed, passed, warned
from tunneld.doctor.running import in_time

DNS_TIMEOUT = 8.0
CONNECT_TIMEOUT = 5.0
"""Seconds."""
SLOW_DNS = 1.0
_REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
"""Where to reach a listener that has all addresses."""
_UNIX = "unix:"
MAX_ADDRESSES = 8
"""Of one name that are tried."""


@dataclass(frozen=True, slots=True)
class Place:
    """One address of a server."""

    family: int
    where: tuple[Any, ...]
    """As `socket.connect` takes it."""

    def __str__(self) -> str:
        return str(Address(self.where[0], self.where[1]))


class Resolver:
    """Looks a name up; `places` are its addresses then."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self.places: list[Place] = []

    def check(self) -> Iterator[Finding]:
        """Resolve the name, as `getaddrinfo` does it for the role."""
        host, port = self._address
        begin = time.monotonic()
        try:
            infos = in_time(
                lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), DNS_TIMEOUT
            )
        except TimeoutError as exc:
            yield failed("dns", f"{host}: {exc}", _SILENT)
            return
        except (OSError, UnicodeError) as exc:
            silent = isinstance(exc, socket.gaierror) and exc.errno == socket.EAI_AGAIN
            advice = _SILENT if silent else f"correct the name, or its record: getent hosts {host}"
            why = exc.strerror if isinstance(exc, OSError) else None
            yield failed("dns", f"{host}: {why or exc}", advice)
            return
        took = time.monotonic() - begin
        for family, _, _, _, where in infos:
            place = Place(family, where)
            if place not in self.places:
                self.places.append(place)
        names = ", ".join(str(place.where[0]) for place in self.places)
        text = f"{host} is {names}, in {took * 1000:.0f} ms"
        if names == host:
            yield passed("dns", f"{host} is an address")
        elif took > SLOW_DNS:
            yield warned("dns", text, "a name server of /etc/resolv.conf is slow or gone")
        else:
            yield passed("dns", text)
        del self.places[MAX_ADDRESSES:]


_SILENT = "no name server answers: check /etc/resolv.conf, and the way to the servers in it"


class Connecting:
    """Connects to each place; `reached` are those that answer."""

    def __init__(self, places: list[Place]) -> None:
        self._places = places
        self.reached: list[Place] = []

    def check(self) -> Iterator[Finding]:
        """A TCP connection to each."""
        for place in self._places:
            begin = time.monotonic()
            try:
                connect(place).close()
            except OSError as exc:
                yield failed("tcp", f"{place}: {why_not(exc)}", _advice(exc))
                continue
            self.reached.append(place)
            yield passed("tcp", f"{place} in {(time.monotonic() - begin) * 1000:.1f} ms")


def connect(place: Place) -> socket.socket:
    """A blocking socket with `CONNECT_TIMEOUT`, connected.

    Raises:
      OSError: it cannot be reached.
    """
    sock = socket.socket(place.family, socket.SOCK_STREAM)
    try:
        sock.settimeout(CONNECT_TIMEOUT)
        sock.connect(place.where)
    except BaseException:
        sock.close()
        raise
    return sock


def knock(listen: str) -> socket.socket:
    """A blocking socket with `CONNECT_TIMEOUT`, connected to a listener of this host.

    Args:
      listen: ``host:port``, ``:port`` or ``unix:/path``, as the listener has it.
    Raises:
      OSError, AddressError: there is nobody.
    """
    if not listen.startswith(_UNIX):
        host, port = parse_listen_address(listen)
        return socket.create_connection((_REACHED_AT.get(host, host), port), CONNECT_TIMEOUT)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(CONNECT_TIMEOUT)
        sock.connect(listen.removeprefix(_UNIX))
    except BaseException:
        sock.close()
        raise
    return sock


def why_not(exc: OSError) -> str:
    """For people."""
    if isinstance(exc, TimeoutError):
        return f"no answer in {CONNECT_TIMEOUT:g} s"
    return exc.strerror or str(exc)


def _advice(exc: OSError) -> str:
    if isinstance(exc, ConnectionRefusedError):
        return "nothing listens there: is the server up, is this the port of its `tunnel`?"
    if isinstance(exc, TimeoutError):
        return "a firewall drops packets on the way, or the address is wrong"
    return "this host has no way there: ip route get ADDRESS"
