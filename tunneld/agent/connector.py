"""Connections to the agent's address: TCP and TLS, up to what protocol the server picks."""

import ssl

import trio

from ctl.address import Address
from tunneld import rh2
from tunneld.agent.link import PATIENCE
from tunneld.session import SessionError
from tunneld.transport.base import tune_tunnel
from tunneld.transport.stream import connect_tcp, handshake
from tunneld.transport.tls import TlsTransport

HTTP2 = "h2"
"""What a konnectivity server picks."""


class Connector:
    """See the module.

    Args:
      context: offers the protocols that we speak.
      server_name: what the server's certificate must show.
    """

    def __init__(self, context: ssl.SSLContext, server: Address, server_name: str) -> None:
        self.server = server
        self.server_name = server_name
        self._context = context

    async def connect(self) -> TlsTransport:
        """A new connection to one of the servers.

        Raises:
          OSError, EOFError: of the network; `ssl.SSLError` among them.
          trio.TooSlowError: no answer in `PATIENCE`.
          SessionError: the server picks no protocol.
        """
        with trio.fail_after(PATIENCE):
            transport = await self._secure()
        if transport.tls.selected_alpn_protocol() is None:
            transport.close()
            spoken = f"{rh2.ALPN} nor {HTTP2}"
            raise SessionError(f"it speaks neither {spoken}: is that a tunnel listener?")
        return transport

    async def _secure(self) -> TlsTransport:
        sock = await connect_tcp(self.server.host, self.server.port)
        tune_tunnel(sock)
        transport = TlsTransport(
            sock,
            self._context,
            server_side=False,
            server_hostname=self.server_name,
        )
        try:
            await handshake(transport)
        except BaseException:
            transport.close()
            raise
        return transport
