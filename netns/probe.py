"""Asks across the lab: echo, TCP and DNS, each from the calling thread's network namespace.

Every socket is made where the thread is; what is asked of another namespace goes over the links.
"""

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from netns.dns import Answer, DnsError, RecordType, parse_response, serialize_query
from netns.icmp import EchoReply, parse_packet, serialize_request

_RETRY = 0.3
"""Seconds until an unanswered datagram is sent again: the first may be lost to address
resolution, or to the link's loss."""
_MAX_DATAGRAM = 65535


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether the other side answered, and what was seen."""

    answered: bool
    detail: str


def ping(target: IPv4Address, timeout: float) -> Outcome:
    """Send ICMP echo requests until a reply or an error comes.

    Args:
      timeout: seconds.
    Raises:
      OSError: no raw sockets here.
    """
    identifier = os.getpid() & 0xFFFF
    started = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:

        def send(sequence: int) -> None:
            raw.sendto(serialize_request(identifier, sequence, b"tunneld"), (str(target), 0))

        try:
            for data in _conversation(raw, send, timeout):
                found = parse_packet(data)
                if found is None or found.identifier != identifier:
                    continue
                if not isinstance(found, EchoReply):
                    return Outcome(False, f"{found.reason}, says {found.sender}")
                if found.sender == target:
                    elapsed = (time.monotonic() - started) * 1000
                    return Outcome(True, f"echo reply after {elapsed:.1f} ms")
        except OSError as exc:
            if exc.errno not in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES):
                raise
            return Outcome(False, f"echo: {exc.strerror}")
    return Outcome(False, f"no echo reply within {timeout:g} s")


def ask_name(
    server: IPv4Address, name: str, record_type: RecordType, timeout: float, port: int = 53
) -> Answer | None:
    """Ask a DNS server by UDP; None if none answers there."""
    identifier = os.getpid() & 0xFFFF
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        try:
            udp.connect((str(server), port))
            query = serialize_query(identifier, name, record_type)
            for data in _conversation(udp, lambda _: udp.send(query), timeout):
                try:
                    return parse_response(data, identifier, record_type)
                except DnsError:
                    continue  # not ours, or garbage: the answer may still come
        except OSError:
            return None  # refused or unreachable, as an ICMP error told the socket
    return None


@contextmanager
def listening(address: IPv4Address) -> Iterator[socket.socket]:
    """A TCP listener on a free port of the calling thread's namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((str(address), 0))
        listener.listen(1)
        yield listener


def connect(target: IPv4Address, port: int, timeout: float) -> Outcome:
    """Open a TCP connection and close it."""
    try:
        with socket.create_connection((str(target), port), timeout):
            return Outcome(True, f"TCP connects to {target}:{port}")
    except TimeoutError:
        return Outcome(False, f"TCP: silence for {timeout:g} s")
    except OSError as exc:
        return Outcome(False, f"TCP: {exc.strerror}")


def accepted_from(listener: socket.socket, timeout: float) -> IPv4Address | IPv6Address | None:
    """The address that a connection came from, None if none came."""
    listener.settimeout(timeout)
    try:
        connection, (host, _) = listener.accept()
    except TimeoutError:
        return None
    connection.close()
    return IPv4Address(host)


def _conversation(
    sock: socket.socket, send: Callable[[int], object], timeout: float
) -> Iterator[bytes]:
    """Send, again every `_RETRY` seconds, and yield what comes in, for ``timeout`` seconds."""
    now = time.monotonic()
    deadline, next_send, sequence = now + timeout, now, 0
    while now < deadline:
        if now >= next_send:
            send(sequence)
            sequence, next_send = sequence + 1, now + _RETRY
        ready, _, _ = select.select([sock], [], [], min(next_send, deadline) - now)
        if ready:
            yield sock.recv(_MAX_DATAGRAM)
        now = time.monotonic()
