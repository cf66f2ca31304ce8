"""Whether a server's listeners answer: it connects to each of them, as anybody would, and completes
a TLS handshake. What the connection is for is known by its address, so that nothing is logged."""

import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence

import trio

from ctl.address import parse_address
from tunneld.accepting import address_of, peer_of
from tunneld.inherited import UNIX
from tunneld.server.registry import Tunnel
from tunneld.server.servertls import Current
from tunneld.transport.stream import handshake
from tunneld.transport.tls import TlsTransport

TIMEOUT = 2.0
"""Seconds for a listener to answer."""
_MAX_ASKED = 100
"""Agents that are asked."""
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}

Handler = Callable[[socket.socket], Awaitable[None]]


class SelfCheck:
    """See the module; of one server."""

    def __init__(self, *, shared: bool) -> None:
        """``shared``: whether other processes accept at the same addresses, so that one would
        connect to any of them."""
        self.listeners: list[tuple[str, Handler]] = []
        """Addresses, and what serves them."""
        self._shared = shared
        self._with_tls: set[Handler] = set()
        self._own: set[str] = set()
        """Addresses of our ends."""

    def guard(self, handler: Handler, current: Current | None) -> Handler:
        """``handler`` for all connections but our own, which get a handshake alone."""
        if current is None:
            return handler

        def serve(sock: socket.socket) -> Awaitable[None]:
            if self._own and peer_of(sock) in self._own:
                return _answer(TlsTransport(sock, current(), server_side=True))
            return handler(sock)

        self._with_tls.add(serve)
        return serve

    async def readiness(self, tunnels: Sequence[Tunnel]) -> list[tuple[str, str]]:
        """What was looked at, and what is wrong with it: the listeners; of the agents it is told
        how many answer, but a server without any is ready for them."""
        checks: list[tuple[str, str]] = []
        answered: list[Tunnel] = []

        async def look(address: str, handler: Handler) -> None:
            tls = handler in self._with_tls
            checks.append((f"listener {address}", await self.look(address, tls=tls)))

        async def ping(tunnel: Tunnel) -> None:
            await tunnel.answers()
            answered.append(tunnel)

        asked = tunnels[:_MAX_ASKED]
        async with trio.open_nursery() as nursery:
            for address, handler in () if self._shared else self.listeners:
                nursery.start_soon(look, address, handler)
            with trio.move_on_after(TIMEOUT):
                async with trio.open_nursery() as pings:
                    for tunnel in asked:
                        pings.start_soon(ping, tunnel)
        checks.append((f"agents: {len(answered)} of {len(asked)} answer", ""))
        return sorted(checks)

    async def look(self, address: str, *, tls: bool) -> str:
        """Why the listener at ``address`` does not answer; "" if it does."""
        try:
            with trio.fail_after(TIMEOUT):
                await self._connect(address, tls=tls)
        except trio.TooSlowError:
            return f"no answer in {TIMEOUT:g} s"
        except ssl.SSLError as exc:
            return f"TLS: {exc.reason or exc}"
        except EOFError:
            return "it closed amid the handshake"
        except OSError as exc:
            return exc.strerror or str(exc)
        return ""

    async def _connect(self, address: str, *, tls: bool) -> None:
        if address.startswith(UNIX):
            with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                await sock.connect(address.removeprefix(UNIX))
            return
        where = parse_address(address)
        host = _ANYWHERE.get(where.host, where.host)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as ours:
            ours.setblocking(False)
            ours.bind((host, 0))
            own = address_of(ours)
            self._own.add(own)
            try:
                await trio.socket.from_stdlib_socket(ours).connect((host, where.port))
                if tls:
                    await handshake(TlsTransport(ours, _anybody(), server_side=False))
            finally:
                self._own.discard(own)


async def _answer(transport: TlsTransport) -> None:
    try:
        with trio.move_on_after(TIMEOUT):
            await handshake(transport)
    except (OSError, EOFError):
        pass  # we have shown no certificate: it is refused when our end is content
    finally:
        transport.sock.close()


def _anybody() -> ssl.SSLContext:
    """Of a client that takes any certificate; with TLS 1.3 it is content before the server has
    looked at its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
