"""What the tunnel's clients dial: targets on loopback, within the test."""

import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial

import trio

from tests.interop.konnectivity import exchange
from tests.interop.konnectivity.nurseries import open_plain_nursery

GREETING = b"220 a target that speaks first\r\n"
SMALL_BUFFER = 4096
"""Octets; the kernel takes the double."""

Handler = Callable[[trio.SocketStream], Awaitable[None]]


class Target:
    """A listener and the connections it has."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.open = 0
        self.accepted = 0
        self.received = 0
        self.sent = 0
        """Octets, where the handler counts them."""
        self.go = trio.Event()
        """What a handler may wait for."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


async def speak(target: Target, stream: trio.SocketStream) -> None:
    """Greet, then send back what comes."""
    await stream.send_all(GREETING)
    await echo(target, stream)


async def echo(target: Target, stream: trio.SocketStream) -> None:
    async for octets in stream:
        target.received += len(octets)
        await stream.send_all(octets)


async def count(target: Target, stream: trio.SocketStream) -> None:
    """Read to the end."""
    async for octets in stream:
        target.received += len(octets)


async def http(target: Target, stream: trio.SocketStream) -> None:
    await exchange.answer(stream)


async def endless(target: Target, stream: trio.SocketStream) -> None:
    """The head of an answer with more octets than anybody reads, and those."""
    await exchange.Reader(stream).head()
    await stream.send_all(exchange.ok(1 << 40))
    while True:
        await stream.send_all(exchange.pattern(1 << 16))
        target.sent += 1 << 16


async def break_off(target: Target, stream: trio.SocketStream) -> None:
    """Some octets, and a reset."""
    await stream.send_all(exchange.pattern(10_000))
    await reset(target, stream)


async def hang_up(target: Target, stream: trio.SocketStream) -> None:
    """The end at once."""


async def reset(target: Target, stream: trio.SocketStream) -> None:
    """A reset at once."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def read_late(target: Target, stream: trio.SocketStream) -> None:
    """Read nothing before `Target.go`, and then all."""
    await target.go.wait()
    await count(target, stream)


async def stall(target: Target, stream: trio.SocketStream) -> None:
    """Read nothing for some seconds, and then all."""
    await trio.sleep(3)
    await count(target, stream)


async def never_read(target: Target, stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


@asynccontextmanager
async def open_target(
    handler: Callable[[Target, trio.SocketStream], Awaitable[None]], receive_buffer: int = 0
) -> AsyncIterator[Target]:
    """A target in which ``handler`` has each connection, to its end or to a reset."""
    listener = trio.socket.socket()
    if receive_buffer:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    target = Target(listener.getsockname()[1])

    async def serve(stream: trio.SocketStream) -> None:
        target.accepted += 1
        target.open += 1
        try:
            await handler(target, stream)
        except (trio.BrokenResourceError, exchange.IncompleteError):
            pass
        finally:
            target.open -= 1

    async with open_plain_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, serve, [trio.SocketListener(listener)]))
        yield target
        nursery.cancel_scope.cancel()


class Unanswering:
    """A listener whose backlog is full: the kernel drops what else wants to connect."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            self.address = f"127.0.0.1:{listener.getsockname()[1]}"
            stack.enter_context(socket.create_connection(listener.getsockname()))
            self._stack = stack.pop_all()

    def __enter__(self) -> "Unanswering":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()


def refusing() -> str:
    """The address of nobody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"
