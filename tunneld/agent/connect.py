"""Connecting to an endpoint: names resolved here, every address tried, failures told apart."""

import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, TypeAlias

import trio

from tunneld.descriptors import descriptors
from tunneld.dialing import (
    BAD_ADDRESS,
    FAILED,
    NAME_TIMEOUT,
    OVERLOADED,
    PROHIBITED,
    REFUSED,
    TIMEOUT,
    UNKNOWN_NAME,
    UNREACHABLE,
    DialError,
    Kind,
    join_authority,
)
from tunneld.dialrecord import DialRecord
from tunneld.transport.base import tune

_US = "this agent"
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


WhyNot: TypeAlias = Callable[[str], str]
"""Says why an address must not be dialled; "" if it may."""


def _anything(_: str) -> str:
    return ""


_FAMILIES = {"tcp": socket.AF_UNSPEC, "tcp4": socket.AF_INET, "tcp6": socket.AF_INET6}


async def connect(
    host: str,
    port: int,
    timeout: float,
    network: str = "tcp",
    *,
    why_not: WhyNot = _anything,
    record: DialRecord | None = None,
) -> socket.socket:
    """A connected, non-blocking TCP socket.

    Args:
      timeout: seconds for everything, name resolution included.
      network: ``tcp``; or ``tcp4``, ``tcp6`` for addresses of that family alone.
      why_not: is asked about each address, right before it is dialled, so what a name server says
        another time does not matter.
      record: where each step is noted, and the address in the end.
    Raises:
      DialError: with a text as Go's dialer words it, which clients of konnectivity match.
    """
    try:
        with trio.fail_after(timeout):
            infos = await _resolve(host, port, network)
            if record is not None:
                record.step("resolve", "{}", _Addresses(infos))
            infos = _allowed(infos, network, why_not, record)
            sock, where = await _first_of(infos, network, record)
    except trio.TooSlowError:
        text = f"dial {network} {join_authority(host, port)}: i/o timeout"
        raise DialError(TIMEOUT, text) from None
    try:
        descriptors.check(sock, _US)
    except DialError:
        sock.close()
        raise
    if record is not None:  # the socket itself may know no more, if it is reset at once
        record.address = where
    return sock


async def _resolve(host: str, port: int, network: str) -> Sequence[_Info]:
    family = _FAMILIES[network]
    look_up = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
    try:
        if (version := _version_of(host)) is not None:
            if family != socket.AF_UNSPEC and family != _FAMILIES[f"tcp{version}"]:
                text = f"dial {network}: address {host}: no suitable address found"
                raise DialError(BAD_ADDRESS, text)
            return look_up(flags=socket.AI_NUMERICHOST)
        look_up = partial(look_up, flags=socket.AI_ADDRCONFIG)
        return await trio.to_thread.run_sync(look_up, abandon_on_cancel=True, limiter=_lookups)
    except socket.gaierror as exc:
        if descriptors.are_short:  # which the resolver does not tell
            raise descriptors.shortage(_US) from exc
        kind, why = UNKNOWN_NAME, "no such host"
        if exc.errno == socket.EAI_AGAIN:
            kind, why = NAME_TIMEOUT, "server misbehaving (no name server answered)"
        raise DialError(kind, f"dial {network}: lookup {host}: {why}") from exc
    except OSError as exc:
        descriptors.note(exc.strerror or str(exc))
        text = f"dial {network}: lookup {host}: {exc.strerror or exc}"
        raise DialError(_KINDS.get(exc.errno or 0, FAILED), text) from exc
    except UnicodeError as exc:
        raise DialError(UNKNOWN_NAME, f"dial {network}: lookup {host}: no such host") from exc


@lru_cache(4096)
def _version_of(host: str) -> int | None:
    """Of IP, if ``host`` is an address and no name."""
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return None


class _Addresses:
    """What a look-up gave, worded when somebody asks."""

    def __init__(self, infos: Sequence[_Info]) -> None:
        self._infos = infos

    def __format__(self, _: str) -> str:
        return ", ".join(dict.fromkeys(str(info[4][0]) for info in self._infos))


def _allowed(
    infos: Sequence[_Info], network: str, why_not: WhyNot, record: DialRecord | None
) -> Sequence[_Info]:
    """Those that may be dialled.

    Raises:
      DialError: none.
    """
    allowed, reason = [], ""
    for info in infos:
        address, port = info[4][:2]
        why = why_not(address)
        if not why:
            allowed.append(info)
            continue
        reason = f"dial {network} {join_authority(address, port)}: {why}"
        if record is not None:
            record.step("policy", "{} {}", address, why)
    if not allowed:
        raise DialError(PROHIBITED, reason)
    return allowed


async def _first_of(
    infos: Sequence[_Info], network: str, record: DialRecord | None
) -> tuple[socket.socket, str]:
    """The first address that answers, as ``host:port``, and a socket; they are tried in order,
    overlapping if slow."""
    if len(infos) == 1:
        return await _connect_one(infos[0], network, record), _where(infos[0])
    winners: list[tuple[socket.socket, str]] = []
    errors: list[DialError] = []

    async def attempt(info: _Info, failed: trio.Event) -> None:
        try:
            winners.append((await _connect_one(info, network, record), _where(info)))
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
        for loser, _ in winners:
            loser.close()


def _where(info: _Info) -> str:
    host, port = info[4][:2]
    return join_authority(host, port)


async def _connect_one(info: _Info, network: str, record: DialRecord | None) -> socket.socket:
    try:
        sock = await _connect_to(info, network)
    except DialError as exc:
        if record is not None:
            record.step("connect", "{}", exc)
        raise
    if record is not None:
        record.step("connect", "connected to {}", info[4][0])
    return sock


async def _connect_to(info: _Info, network: str) -> socket.socket:
    family, kind, protocol, _, where = info
    try:
        sock = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise _error(network, where, exc) from exc
    try:
        sock.setblocking(False)
        tune(sock)
        error = sock.connect_ex(where)
        if error == errno.EINPROGRESS:
            await trio.lowlevel.wait_writable(sock)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
    except OSError as exc:
        sock.close()
        raise _error(network, where, exc) from exc
    except BaseException:
        sock.close()
        raise
    return sock


def _error(network: str, where: tuple[Any, ...], exc: OSError) -> DialError:
    kind: Kind = _KINDS.get(exc.errno or 0, FAILED)
    address = join_authority(where[0], where[1])
    why = exc.strerror or str(exc)
    if kind is OVERLOADED:
        descriptors.note(why)
    return DialError(kind, f"dial {network} {address}: connect: {why[:1].lower()}{why[1:]}")
