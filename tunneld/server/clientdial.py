"""Dials for clients that have a socket to themselves: of HTTP/1.1, of SOCKS5, of a forward."""

from collections.abc import Callable
from typing import TypeAlias

from tunneld.caller import Caller
from tunneld.conns import Conn
from tunneld.reactor import Reactor
from tunneld.relay import DialledEnd, Relay
from tunneld.server.dialer import Dialer
from tunneld.server.hold import FirstByteHold
from tunneld.server.watch import watching
from tunneld.socketend import SocketEnd
from tunneld.transport.stream import TransportStream

Preamble: TypeAlias = Callable[[Conn], bytes]
"""What the endpoint is told ahead of the client's octets."""


class ClientDials:
    """See the module."""

    def __init__(self, reactor: Reactor, dialer: Dialer, hold: FirstByteHold) -> None:
        self._reactor = reactor
        self._dialer = dialer
        self._hold = hold

    async def connect(
        self,
        stream: TransportStream,
        caller: Caller,
        address: str,
        established: bytes,
        *,
        entry: str,
        agent: str | None = None,
        preamble: Preamble | None = None,
    ) -> None:
        """Connect the client with an endpoint and carry the connection to its end; what the client
        sends ahead is kept for the endpoint. If the client is lost amid the dial, just return.

        Args:
          established: what the client is told when the endpoint is connected; "" for nothing, where
            its octets are all the endpoint's.
          entry: what the client speaks, for traces.
          agent: id of the only agent that may take it.
        Raises:
          DialError: the endpoint could not be reached; ``stream`` is the caller's again.
        """
        with watching(self._reactor, stream) as watch:

            async def carry(end: DialledEnd, conn: Conn) -> None:
                watch.stop()
                first = preamble(conn) if preamble is not None else b""
                await self._carry(stream, end, conn, established, first)

            await self._dialer.connect(
                caller, address, carry, agent=agent, entry=entry, sock=stream.transport.sock
            )

    async def _carry(
        self, stream: TransportStream, end: DialledEnd, conn: Conn, established: bytes, first: bytes
    ) -> None:
        early = stream.take_early()
        sock = stream.transport.sock
        if established:
            self._hold.hold(end, len(early) + len(first))
        if first:
            end.deliver(memoryview(first), False)
        if established:
            await stream.send_all(established)
        client = SocketEnd(self._reactor, stream.detach(), "client", early)
        conn.octets = lambda: (client.read, client.written)
        if established:
            self._hold.begin(end, sock)
        conn.relay = relay = Relay(client, end)
        await relay.run()
