"""Remote forwards: listeners of the server whose every connection goes to one endpoint."""

import ipaddress
import socket

import structlog

from tunneld.accepting import peer_of
from tunneld.addresses import real_address
from tunneld.caller import Caller
from tunneld.config import Forward
from tunneld.dialing import DialError
from tunneld.events import Event, emit
from tunneld.server.clientdial import ClientDials
from tunneld.server.preamble import proxy_header
from tunneld.transport.base import abort_socket
from tunneld.transport.plain import PlainTransport
from tunneld.transport.stream import TransportStream

log = structlog.get_logger(__name__)


class ForwardServer:
    """Serves the connections of one forward. A client that cannot be connected is reset: it must
    not take that for an endpoint that has nothing to say."""

    def __init__(self, forward: Forward, dials: ClientDials) -> None:
        self._forward = forward
        self._dials = dials
        self._networks = [ipaddress.ip_network(each) for each in forward.allow_from]

    async def serve(self, sock: socket.socket) -> None:
        """Serve one connection to its end."""
        forward, peer = self._forward, peer_of(sock)
        if self._networks and not self._is_allowed(sock):
            emit(Event.CLIENT_REFUSED, forward=forward.name, client=peer, error="not in allow-from")
            abort_socket(sock)
            return
        stream = TransportStream(PlainTransport(sock))
        preamble = None
        if forward.proxy_protocol:
            preamble = proxy_header(stream.transport, forward.to)
        try:
            await self._dials.connect(
                stream,
                Caller(f"forward:{forward.name}", peer),
                forward.to,
                b"",
                entry="a forward",
                agent=forward.agent or None,
                preamble=preamble,
            )
        except DialError:  # the dialer has logged it
            stream.abort()
        except Exception:  # a bug: it ends this client alone
            log.exception("client failed", forward=forward.name, client=peer)
            stream.abort()
        finally:
            stream.close()

    def _is_allowed(self, sock: socket.socket) -> bool:
        try:
            host, *_ = sock.getpeername()
        except OSError:  # gone already
            return False
        address = real_address(ipaddress.ip_address(host.partition("%")[0]))
        return any(address in network for network in self._networks)
