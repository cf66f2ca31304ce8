"""Connections to the agent's address: the tunnel's TLS, up to what protocol the server picks."""

import socket
import ssl
from collections.abc import Callable

import trio

from tunneld import rh2
from tunneld.agent.agenttls import HTTP2
from tunneld.agent.dialout import Dialout
from tunneld.agent.link import PATIENCE
from tunneld.session import SessionError
from tunneld.transport.stream import handshake
from tunneld.transport.tls import TlsTransport


class Connector:
    """See the module.

    Args:
      current: gives the context of the moment, which offers the protocols that we speak.
      server_name: what the server's certificate must show.
    """

    def __init__(
        self, current: Callable[[], ssl.SSLContext], dialout: Dialout, server_name: str
    ) -> None:
        self.server_name = server_name
        self._current = current
        self._dialout = dialout

    async def connect(self, pumps: trio.Nursery) -> TlsTransport:
        """A new connection to one of the servers.

        Args:
          pumps: as `Dialout.open`.
        Raises:
          OSError, EOFError: of the network; `ssl.SSLError` among them.
          trio.TooSlowError: no answer in `PATIENCE`.
          SessionError: the server picks no protocol; or what is in between fails.
        """
        deadline = trio.current_time() + PATIENCE
        sock = await self._dialout.open(pumps, deadline)
        with trio.fail_at(deadline):
            transport = await self._secure(sock)
        if transport.tls.selected_alpn_protocol() is None:
            transport.close()
            spoken = f"{rh2.ALPN} nor {HTTP2}"
            raise SessionError(f"it speaks neither {spoken}: is that a tunnel listener?")
        return transport

    async def _secure(self, sock: socket.socket) -> TlsTransport:
        transport = TlsTransport(
            sock,
            self._current(),
            server_side=False,
            server_hostname=self.server_name,
        )
        try:
            await handshake(transport)
        except BaseException:
            transport.close()
            raise
        return transport
