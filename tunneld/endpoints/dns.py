"""DNS endpoint: answers for the host records of its configuration, by UDP and TCP.

A listener on a wildcard address answers UDP from whichever address the kernel prefers; clients of
a host with several addresses need a listener on the one they ask.
"""

import socket
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import structlog
import trio

from tunneld.config import DnsConfig
from tunneld.endpoints.serving import serve
from tunneld.endpoints.zone import Zone, ZoneError
from tunneld.listening import listen_error, listen_tcp, listener_address
from tunneld.role import Host, Role, RoleError

log = structlog.get_logger(__name__)

IDLE_TIMEOUT = 10.0
"""Seconds for the next query of a TCP connection to come and its answer to leave."""

_MAX_QUERY = 4096
"""Octets of a UDP query that are read: more than any takes."""


class DnsRole(Role):
    """The role of kind ``dns``."""

    def __init__(self, config: DnsConfig, host: Host) -> None:
        self._listen = config.listen
        self._drain = host.drain
        try:
            self._zone = Zone(config.records)
        except ZoneError as exc:
            raise RoleError(f"dns records: {exc}") from exc

    async def run(self, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await listen_tcp(self._listen)
        with ExitStack() as stack:
            for listener in listeners:
                stack.callback(listener.socket.close)
            sockets = [stack.enter_context(await _open_udp(each)) for each in listeners]
            async with trio.open_nursery() as nursery:
                for sock in sockets:
                    nursery.start_soon(serve_udp, sock, self._zone)
                await serve(
                    listeners, partial(serve_tcp, self._zone), self._drain, task_status=task_status
                )
                nursery.cancel_scope.cancel()


async def _open_udp(listener: trio.SocketListener) -> trio.socket.SocketType:
    """A UDP socket on the address and port of a TCP listener.

    Raises:
      RoleError: that port is taken.
    """
    sock = trio.socket.socket(listener.socket.family, socket.SOCK_DGRAM)
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        await sock.bind(listener.socket.getsockname())
    except OSError as exc:
        sock.close()
        raise listen_error(f"{listener_address(listener)} (UDP)", exc) from exc
    return sock


async def serve_udp(sock: trio.socket.SocketType, zone: Zone) -> None:
    """Answer datagrams until cancelled."""
    while True:
        query, peer = await sock.recvfrom(_MAX_QUERY)
        answer = _answer(zone.respond_udp, query)
        if answer is None:
            continue
        try:
            await sock.sendto(answer, peer)
        except OSError as exc:  # the peer's host is gone, or a firewall forbids it
            log.debug("answer not sent", peer=str(peer), error=exc.strerror)


async def serve_tcp(zone: Zone, stream: trio.abc.HalfCloseableStream) -> None:
    """Answer the queries of one connection, in order, until it closes, idles or sends garbage."""
    buffer = bytearray()
    with trio.move_on_after(IDLE_TIMEOUT) as idle:
        while (query := await _receive_message(stream, buffer)) is not None:
            answer = _answer(zone.respond_tcp, query)
            if answer is None:
                return
            await stream.send_all(len(answer).to_bytes(2, "big") + answer)
            idle.deadline = trio.current_time() + IDLE_TIMEOUT


async def _receive_message(stream: trio.abc.ReceiveStream, buffer: bytearray) -> bytes | None:
    """The next message, behind its length of 2 octets (RFC 1035 section 4.2.2); None at the end.
    Keeps in ``buffer`` what came after it: at most one message and one read."""
    while len(buffer) < 2 or len(buffer) < 2 + int.from_bytes(buffer[:2], "big"):
        data = await stream.receive_some()
        if not data:
            return None
        buffer += data
    end = 2 + int.from_bytes(buffer[:2], "big")
    message = bytes(buffer[2:end])
    del buffer[:end]
    return message


def _answer(respond: Callable[[bytes], bytes | None], query: bytes) -> bytes | None:
    try:
        return respond(query)
    except Exception:  # one query's end: whatever it does to us, the next one is answered
        log.exception("query not answered", size=len(query))
        return None
