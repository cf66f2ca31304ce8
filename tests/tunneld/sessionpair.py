"""Two sessions over a socket pair, and relays on them, in one reactor."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from frames import Headers, Role
from tunneld import rh2
from tunneld.reactor import Reactor
from tunneld.relay import Relay, RelayError
from tunneld.session import Session, SessionError
from tunneld.socketend import SocketEnd
from tunneld.streamend import StreamEnd
from tunneld.transport.plain import PlainTransport

CONNECT: Headers = [(b":method", b"CONNECT"), (b":authority", b"endpoint:1")]
OK: Headers = [(b":status", b"200")]


@dataclass
class Ended:
    """How something that ran has ended."""

    event: trio.Event = field(default_factory=trio.Event)
    error: str | None = None


class SessionPair:
    """``client`` opens streams, ``server`` takes them: see `carry`."""

    def __init__(self, nursery: trio.Nursery, reactor: Reactor, **options: Any) -> None:
        self.nursery = nursery
        self.reactor = reactor
        self.requests: list[tuple[StreamEnd, Headers]] = []
        self.on_request: Callable[[StreamEnd, Headers], None] = lambda end, headers: None
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
        defaults: dict[str, Any] = {
            "settings": rh2.SETTINGS,
            "limits": rh2.LIMITS,
            "receive_window": rh2.RECEIVE_WINDOW,
        }
        options = defaults | options
        self.client = Session(self.reactor, PlainTransport(ours), Role.CLIENT, **options)
        self.server = Session(
            self.reactor,
            PlainTransport(theirs),
            Role.SERVER,
            on_request=self._take_request,
            **options,
        )
        self.client_end, self.server_end = Ended(), Ended()
        self.outer: list[trio.SocketStream] = []
        """Outer ends of relays, to be closed."""

    def _take_request(self, end: StreamEnd, headers: Headers) -> None:
        self.requests.append((end, headers))
        self.on_request(end, headers)

    async def start(self) -> None:
        await self.nursery.start(self._run, self.server, self.server_end)
        await self.nursery.start(self._run, self.client, self.client_end)

    @staticmethod
    async def _run(session: Session, ended: Ended, task_status: trio.TaskStatus[None]) -> None:
        try:
            await session.run(task_status=task_status)
        except SessionError as exc:
            ended.error = str(exc)
        finally:
            ended.event.set()

    async def open(self) -> tuple[StreamEnd, StreamEnd]:
        """A stream: the client's end of it, and the server's, answered 200."""
        front = self.client.open(CONNECT)
        while not self.requests:
            await trio.lowlevel.checkpoint()
        back, _ = self.requests.pop()
        assert back.respond(OK)
        await front.arrived.wait()
        return front, back

    async def carry(self) -> "Carried":
        """A stream between two sockets."""
        front, back = await self.open()
        return Carried(self, front, back)


class Half:
    """A relay between a stream's end and a socket; ``stream`` is that socket's other end."""

    def __init__(self, pair: SessionPair, end: StreamEnd) -> None:
        outer, inner = socket.socketpair()
        inner.setblocking(False)
        self.end = SocketEnd(pair.reactor, PlainTransport(inner), "socket")
        self.relay = Relay(self.end, end)
        self.result = Ended()
        self.stream = trio.SocketStream(trio.socket.from_stdlib_socket(outer))
        pair.outer.append(self.stream)
        pair.nursery.start_soon(run_relay, self.relay, self.result)


class Carried:
    """``near`` and ``far`` are the outer ends of two relays with one stream between them."""

    def __init__(self, pair: SessionPair, front: StreamEnd, back: StreamEnd) -> None:
        self.front = front
        self.near_half, self.far_half = Half(pair, front), Half(pair, back)
        self.near, self.near_result = self.near_half.stream, self.near_half.result
        self.far, self.far_result = self.far_half.stream, self.far_half.result


async def run_relay(relay: Relay, ended: Ended) -> None:
    try:
        await relay.run()
    except RelayError as exc:
        ended.error = str(exc)
    finally:
        ended.event.set()


@asynccontextmanager
async def open_pair(**options: Any) -> AsyncIterator[SessionPair]:
    """Two sessions that have just begun; in the end all that runs is cancelled."""
    async with trio.open_nursery() as outer:
        pair = SessionPair(outer, Reactor(), **options)
        await outer.start(_run_reactor, pair.reactor)
        async with trio.open_nursery() as inner:
            pair.nursery = inner
            await pair.start()
            yield pair
            inner.cancel_scope.cancel()
        assert pair.reactor.served == 0
        outer.cancel_scope.cancel()
    pair.reactor.close()
    for stream in pair.outer:
        await trio.aclose_forcefully(stream)


async def _run_reactor(reactor: Reactor, task_status: trio.TaskStatus[None]) -> None:
    await reactor.run(task_status)
