"""gRPC endpoint ``hello.Greeter/SayHello``, in plain HTTP/2 with prior knowledge."""

import math

import trio
from google.protobuf.message import DecodeError

from ctl.hello import SAY_HELLO, HelloReply, HelloRequest
from tunneld.config import GreeterConfig
from tunneld.endpoints.grpc import GrpcConnection, GrpcError, Status
from tunneld.endpoints.serving import finish, serve
from tunneld.listening import listen_tcp
from tunneld.role import Host, Role

GREETING_TIMEOUT = 10.0
"""Seconds for a client's preface and settings to come."""


class GreeterRole(Role):
    """The role of kind ``greeter``."""

    def __init__(self, config: GreeterConfig, host: Host) -> None:
        self._config = config
        self._drain = host.drain

    async def run(self, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await listen_tcp(self._config.listen)
        await serve(listeners, self._serve_calls, self._drain, task_status=task_status)

    async def _serve_calls(self, stream: trio.abc.HalfCloseableStream) -> None:
        await serve_calls(stream, self._drain)


def say_hello(request: bytes) -> bytes:
    """`hello.HelloRequest` to `hello.HelloReply`.

    Raises:
      GrpcError: the request is not such a message.
    """
    try:
        name = HelloRequest.FromString(request).name
    except DecodeError as exc:
        raise GrpcError(Status.INTERNAL, "the request is no hello.HelloRequest") from exc
    reply: bytes = HelloReply(message=f"Hello {name}!").SerializeToString()
    return reply


async def serve_calls(stream: trio.abc.HalfCloseableStream, drain: trio.Event) -> None:
    """Answer the calls of one connection until the client closes it, or ``drain`` is set and the
    calls that have begun are answered."""
    session = _Session(stream)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.announce_drain, drain, nursery.cancel_scope)
        await session.run()
        nursery.cancel_scope.cancel()
    if session.connection.is_done:
        await finish(stream)


class _Session:
    """One connection with its stream. A peer that doesn't read is not read from, so that what is
    to be sent stays bounded by what one read can ask for."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.connection = GrpcConnection({SAY_HELLO: say_hello})
        self._stream = stream
        self._sending = trio.Lock()

    async def run(self) -> None:
        await self._flush()
        with trio.move_on_after(GREETING_TIMEOUT) as greeting:
            while not self.connection.is_done:
                data = await self._stream.receive_some()
                if not data:
                    return
                self.connection.receive_data(data)
                if self.connection.is_greeted:
                    greeting.deadline = math.inf
                await self._flush()

    async def announce_drain(self, drain: trio.Event, reading: trio.CancelScope) -> None:
        await drain.wait()
        self.connection.drain()
        await self._flush()
        if self.connection.is_done:
            reading.cancel()

    async def _flush(self) -> None:
        async with self._sending:
            data = self.connection.data_to_send()
            if data:
                await self._stream.send_all(data)
