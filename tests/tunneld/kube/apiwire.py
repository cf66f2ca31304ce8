"""The double of an API behind real sockets: HTTP/1.1 on loopback, with TLS or without."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import parse_qsl, urlsplit

import h11
import trio

from tests.tunneld.kube.apidouble import BROKEN, ApiDouble, Ask, Reply


@asynccontextmanager
async def serving(api: ApiDouble, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port on 127.0.0.1 where ``api`` answers."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            partial(trio.serve_tcp, partial(_serve, api, tls), 0, host="127.0.0.1")
        )
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def _serve(api: ApiDouble, tls: ssl.SSLContext | None, tcp: trio.SocketStream) -> None:
    stream: trio.abc.Stream = tcp
    if tls is not None:
        stream = trio.SSLStream(tcp, tls, server_side=True, https_compatible=True)
    connection = h11.Connection(h11.SERVER)
    try:
        while await _serve_one(api, connection, stream):
            connection.start_next_cycle()
    except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
        pass  # the client went away, as it may
    finally:
        await trio.aclose_forcefully(stream)


async def _serve_one(api: ApiDouble, connection: h11.Connection, stream: trio.abc.Stream) -> bool:
    """Answer one request; whether another may follow."""
    ask = await _receive(connection, stream)
    if ask is None:
        return False
    reply = await api.answer(ask)
    if reply.chunks is None:
        await _send_whole(connection, stream, reply)
    elif not await _send_chunks(connection, stream, reply):
        return False
    return connection.our_state is h11.DONE


async def _receive(connection: h11.Connection, stream: trio.abc.Stream) -> Ask | None:
    request: h11.Request | None = None
    content = b""
    while True:
        match connection.next_event():
            case h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(65536)))
            case h11.Request() as request:
                pass
            case h11.Data(data=data):
                content += data
            case h11.EndOfMessage():
                break
            case _:
                return None
    assert request is not None
    target = urlsplit(request.target.decode())
    headers = {name.decode(): value.decode() for name, value in request.headers}
    assert headers["host"]
    return Ask(
        request.method.decode(),
        target.path,
        dict(parse_qsl(target.query, keep_blank_values=True, strict_parsing=bool(target.query))),
        headers,
        json.loads(content) if content else None,
    )


async def _send_whole(connection: h11.Connection, stream: trio.abc.Stream, reply: Reply) -> None:
    head = h11.Response(
        status_code=reply.status,
        headers=[
            ("content-type", reply.content_type),
            ("content-length", str(len(reply.body))),
        ],
    )
    for each in (head, h11.Data(data=reply.body), h11.EndOfMessage()):
        await stream.send_all(connection.send(each) or b"")


async def _send_chunks(connection: h11.Connection, stream: trio.abc.Stream, reply: Reply) -> bool:
    """Send a watch, for as long as it lasts and the client listens; False if it was cut off."""
    assert reply.chunks is not None
    head = h11.Response(
        status_code=200,
        headers=[("content-type", "application/json"), ("transfer-encoding", "chunked")],
    )
    await stream.send_all(connection.send(head) or b"")
    async for chunk in reply.chunks:
        if chunk == BROKEN:
            return False
        await stream.send_all(connection.send(h11.Data(data=chunk)) or b"")
    await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
    return True
