"""A server that accepts everything and says nothing, and a balancer in front of several."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import h2.config
import h2.connection
import trio

from tests.interop.konnectivity.nurseries import open_plain_nursery


@asynccontextmanager
async def open_silent_server(pki: Path) -> AsyncIterator[int]:
    """The port of a server for agents: TLS and HTTP/2 are as they should be, SETTINGS and PINGs are
    acknowledged, and no request gets as much as a header."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki / "agent/ca.crt"))
    context.load_cert_chain(pki / "agent/server.crt", pki / "agent/server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])

    async def serve(transport: trio.SocketStream) -> None:
        stream = trio.SSLStream(transport, context, server_side=True)
        config = h2.config.H2Configuration(client_side=False)
        connection = h2.connection.H2Connection(config=config)
        connection.initiate_connection()
        try:
            await stream.send_all(connection.data_to_send())
            async for octets in stream:
                connection.receive_data(bytes(octets))
                await stream.send_all(connection.data_to_send())
        except trio.BrokenResourceError:
            return

    async with _listening(serve) as port:
        yield port


@asynccontextmanager
async def open_balancer(ports: list[int]) -> AsyncIterator[int]:
    """A port whose first connection goes to the first of ``ports``, and so on; the last gets all
    that follow."""
    numbers = count()

    async def serve(incoming: trio.SocketStream) -> None:
        port = ports[min(next(numbers), len(ports) - 1)]
        outgoing = await trio.open_tcp_stream("127.0.0.1", port)
        async with outgoing, open_plain_nursery() as nursery:
            nursery.start_soon(_copy, incoming, outgoing, nursery.cancel_scope)
            nursery.start_soon(_copy, outgoing, incoming, nursery.cancel_scope)

    async with _listening(serve) as port:
        yield port


async def _copy(source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
    """One direction; its end is the end of both."""
    try:
        async for octets in source:
            await sink.send_all(octets)
    except trio.BrokenResourceError:
        pass
    both.cancel()


@asynccontextmanager
async def _listening(serve: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    async with open_plain_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()
