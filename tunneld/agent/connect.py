"""Connecting to an endpoint: names resolved here, every address tried, failures told apart."""

import errno
import ipaddress
import os
import socket
from collections.abc import Sequence
from functools import partial
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

_lookups = trio.CapacityLimiter(256)
"""Look-ups at once, each in a thread. A name server that does not answer keeps them for long, even
those that nobody waits for any more; trio's own 40 threads would soon be all taken."""

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
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        if _is_address(host):
            return look_up(flags=socket.AI_NUMERICHOST)
        look_up = partial(look_up, flags=socket.AI_ADDRCONFIG)
        return await trio.to_thread.run_sync(look_up, abandon_on_cancel=True, limiter=_lookups)
    except socket.gaierror as exc:
        raise _lookup_error(host, exc) from exc
    except UnicodeError as exc:
        raise DialError(UNKNOWN_NAME, f"dial tcp: lookup {host}: no such host") from exc


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


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

    try:
        async with trio.open_nursery() as nursery:
            for info in infos:
                failed = trio.Event()
                nursery.start_soon(attempt, info, failed)
                with trio.move_on_after(_STAGGER):
                    await failed.wait()
        if not winners:
            raise errors[0]
        return winners.pop(0)
    finally:
        for loser in winners:
            loser.close()


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
            raise OSError(error, _STRERRORS.get(error, os.strerror(error)))
    except OSError as exc:
        sock.close()
        raise _error(where, exc) from exc
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
