"""Connecting to an endpoint: names resolved here, every address tried, failures told apart."""

import errno
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any, TypeAlias

import trio

from tunneld.dialing import (
    FAILED,
    OVERLOADED,
    REFUSED,
    TIMEOUT,
    UNKNOWN_NAME,
    UNREACHABLE,
    DialError,
    Kind,
    join_authority,
)
from tunneld.transport.base import tune

_STAGGER = 0.25
"""Seconds one address gets before the next is tried beside it (RFC 8305 section 5)."""

_KINDS = {
    errno.ECONNREFUSED: REFUSED,
    errno.ETIMEDOUT: TIMEOUT,
    errno.ENETUNREACH: UNREACHABLE,
    errno.EHOSTUNREACH: UNREACHABLE,
    errno.EADDRNOTAVAIL: UNREACHABLE,
    errno.EMFILE: OVERLOADED,
    errno.ENFILE: OVERLOADED,
}
_Info: TypeAlias = tuple[int, int, int, str, tuple[Any, ...]]
"""As `socket.getaddrinfo` gives them."""


async def connect(host: str, port: int, timeout: float) -> socket.socket:
    """A connected, non-blocking TCP socket.

    Args:
      timeout: seconds for everything, name resolution included.
    Raises:
      DialError: with a text as Go's dialer words it, which clients of konnectivity match.
    """
    try:
        with trio.fail_after(timeout):
            infos = await _resolve(host, port)
            return await _first_of(infos)
    except trio.TooSlowError:
        raise DialError(TIMEOUT, f"dial tcp {join_authority(host, port)}: i/o timeout") from None


async def _resolve(host: str, port: int) -> Sequence[_Info]:
    try:
        numeric = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        flags = socket.AI_ADDRCONFIG
    else:
        if numeric.version == 4:  # no look-up, no thread
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port))]
        flags = socket.AI_NUMERICHOST
    try:
        return await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except socket.gaierror as exc:
        raise _lookup_error(host, exc) from exc
    except UnicodeError as exc:
        raise DialError(UNKNOWN_NAME, f"dial tcp: lookup {host}: no such host") from exc


def _lookup_error(host: str, exc: socket.gaierror) -> DialError:
    if exc.errno == socket.EAI_AGAIN:
        text = f"dial tcp: lookup {host}: server misbehaving (no name server answered)"
        return DialError(UNKNOWN_NAME, text)
    return DialError(UNKNOWN_NAME, f"dial tcp: lookup {host}: no such host")


async def _first_of(infos: Sequence[_Info]) -> socket.socket:
    """The first address that answers; they are tried in order, overlapping if slow."""
    if len(infos) == 1:
        return await _connect_one(infos[0])
    winners: list[socket.socket] = []
    errors: list[DialError] = []

    async def attempt(info: _Info, failed: trio.Event) -> None:
        try:
            winners.append(await _connect_one(info))
        except DialError as exc:
            errors.append(exc)
            failed.set()
        else:
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for info in infos:
            failed = trio.Event()
            nursery.start_soon(attempt, info, failed)
            with trio.move_on_after(_STAGGER):
                await failed.wait()
    for loser in winners[1:]:
        loser.close()
    if winners:
        return winners[0]
    raise errors[0]


async def _connect_one(info: _Info) -> socket.socket:
    family, kind, protocol, _, where = info
    try:
        sock = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise _error(where, exc) from exc
    try:
        sock.setblocking(False)
        tune(sock)
        error = sock.connect_ex(where)
        if error == errno.EINPROGRESS:
            await trio.lowlevel.wait_writable(sock)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise _error(where, OSError(error, _STRERRORS.get(error, errno.errorcode[error])))
    except BaseException:
        sock.close()
        raise
    return sock


_STRERRORS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ETIMEDOUT: "connection timed out",
    errno.ENETUNREACH: "network is unreachable",
    errno.EHOSTUNREACH: "no route to host",
}


def _error(where: tuple[Any, ...], exc: OSError) -> DialError:
    kind: Kind = _KINDS.get(exc.errno or 0, FAILED)
    return DialError(
        kind, f"dial tcp {join_authority(where[0], where[1])}: connect: {exc.strerror}"
    )
