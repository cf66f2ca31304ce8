"""A plain-text HTTP/2 server (prior knowledge) on `frames.Connection`, for h2spec, h2load, nghttp.

    python tests/interop/h2_server.py PORT        (0: any free port; the first line says which)

Any request gets 200 and a small body; a POST is told how many octets of it came. One task for each
connection takes turns: read, answer, write. It reads nothing while its peer does not read, so
nothing piles up.
"""

import sys
from dataclasses import dataclass
from functools import partial

import trio

from frames import (
    Connection,
    Event,
    Limits,
    RemoteProtocolError,
    RequestReceived,
    Role,
    Stream,
    StreamReset,
    TrailersReceived,
)

_READ_SIZE = 64 * 1024
_GOODBYE = 1.0
"""Seconds for the peer to read a last GOAWAY and close."""


@dataclass(slots=True)
class Request:
    """One request: what of it came, then what of its answer went."""

    stream: Stream
    method: bytes
    size: int = 0
    """Octets of its body."""
    unsent: memoryview | None = None
    """What of the answer is not in the transmit buffer yet; None before there is one."""


class Server:
    """One connection: requests in, answers out, nothing waits."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.connection = Connection(Role.SERVER, self._on_event, limits=limits)
        self._requests: dict[int, Request] = {}

    def write_answers(self) -> None:
        """Write of all answers what buffer and windows allow."""
        for request in list(self._requests.values()):
            if request.unsent is not None:
                self._write(request, request.unsent)

    def _write(self, request: Request, unsent: memoryview) -> None:
        taken = self.connection.send_data(request.stream, unsent, end_stream=True)
        request.unsent = unsent[taken:]
        if not request.unsent:
            del self._requests[request.stream.id]

    def _on_event(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._begin(event)
            case TrailersReceived():
                self._answer(self._requests[event.stream_id])
            case StreamReset():
                self._requests.pop(event.stream_id, None)

    def _begin(self, event: RequestReceived) -> None:
        stream = self.connection.streams[event.stream_id]
        request = Request(stream, dict(event.headers)[b":method"])
        self._requests[stream.id] = request
        if event.end_stream:
            self._answer(request)
            return

        def receive(octets: memoryview, end_stream: bool) -> None:
            request.size += len(octets)
            self.connection.consume(stream, len(octets))
            if end_stream:
                self._answer(request)

        stream.receiver = receive

    def _answer(self, request: Request) -> None:
        body = b"%s of %d octets, thank you\n" % (request.method, request.size)
        headers = [(b":status", b"200"), (b"content-length", b"%d" % len(body))]
        only_head = request.method == b"HEAD"
        self.connection.send_headers(request.stream, headers, end_stream=only_head)
        if only_head:
            del self._requests[request.stream.id]
        else:
            self._write(request, memoryview(body))


async def serve(limits: Limits | None, transport: trio.SocketStream) -> None:
    """Serve one connection until its peer is gone or breaks it."""
    server = Server(limits)
    connection = server.connection
    connection.initiate()
    try:
        async with transport:
            try:
                await _take_turns(server, transport)
            except RemoteProtocolError:
                await _say_goodbye(connection, transport)
    except trio.BrokenResourceError:
        pass
    finally:
        connection.close()


async def _take_turns(server: Server, transport: trio.SocketStream) -> None:
    connection = server.connection
    kept = b""
    while True:
        while connection.tx.length:
            await _flush(connection, transport)
            server.write_answers()
        connection.refill(trio.current_time())
        data = await transport.receive_some(_READ_SIZE)
        if not data:
            return
        view = memoryview(kept + data)
        kept = bytes(view[connection.receive(view) :])
        server.write_answers()


async def _flush(connection: Connection, transport: trio.SocketStream) -> None:
    octets = bytes(connection.tx.waiting())
    connection.sent()
    await transport.send_all(octets)


async def _say_goodbye(connection: Connection, transport: trio.SocketStream) -> None:
    """Let the GOAWAY arrive: closing with octets unread would reset the TCP connection."""
    with trio.move_on_after(_GOODBYE):
        await _flush(connection, transport)
        await transport.send_eof()
        while await transport.receive_some(_READ_SIZE):
            pass


async def main(port: int) -> None:
    """Listen on loopback and serve for ever."""
    async with trio.open_nursery() as nursery:
        handler = partial(serve, None)
        listeners = await nursery.start(
            partial(trio.serve_tcp, handler, port, host="127.0.0.1", handler_nursery=nursery)
        )
        print(f"127.0.0.1:{listeners[0].socket.getsockname()[1]}", flush=True)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
