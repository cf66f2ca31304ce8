"""A session: one transport and one HTTP/2 connection over it, served by the reactor.

Tunnels are sessions, and so are clients that speak HTTP/2. The hot path of everything that is
carried: `Session.on_ready` → `frames.Connection.receive` → a stream's receiver, which is the
other end of its relay; and back, `SocketEnd` → `StreamEnd.commit` → `Session.flush`.
"""

import contextvars
import ssl
import time
from collections.abc import Callable

import trio

from frames import (
    Connection,
    ConnectionState,
    ErrorCode,
    Event,
    GoAwayReceived,
    Headers,
    Limits,
    PingAcknowledged,
    RemoteProtocolError,
    RequestReceived,
    ResponseReceived,
    Role,
    Setting,
    StreamReset,
    TrailersReceived,
    WindowBudget,
    WindowOpened,
)
from frames.settings import DEFAULT_WINDOW
from tunneld.buffers import Buffers
from tunneld.lookahead import Lookahead
from tunneld.pings import Pings
from tunneld.reactor import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, Reactor
from tunneld.sendqueue import SendQueue
from tunneld.sharedchannel import queue_budget
from tunneld.streamend import Response, StreamEnd
from tunneld.transport.base import Transport
from tunneld.transport.stream import linger

_READ_SIZE = 1024 * 1024
_BULK = 128 * 1024
"""Octets that make another read in the same turn worth it."""
_MAX_KEPT = 64 * 1024
_REFILL = 1.0
"""Seconds between the refills of what the peer may do over time."""

_plain = memoryview(bytearray(_READ_SIZE + _MAX_KEPT))
"""Shared by all sessions of the process: it holds octets only within one turn of one session."""

window_budget = WindowBudget(256 * 1024 * 1024)
"""Octets by which all streams of this process may have grown their windows."""

buffers = Buffers(window_budget, queue_budget, 0)
"""What bounds the octets that wait in this process."""


class SessionError(Exception):
    """The session ended other than by a drain; the text says why."""


class Session:
    """See the module. `run` is its life; everything else is plain calls.

    Args:
      role: our side of HTTP/2.
      on_request: takes each request of the peer (server role): the stream and its headers.
      on_draining: called when the peer says that it takes no new streams.
      elastic: whether each stream is one connection, whose window may become smaller when memory
        runs short.
      keepalive: seconds; a PING goes out so often, and a peer from which nothing came for that
        long, `tunneld.pings.ACK_TIMEOUT` at most, is lost.
    """

    def __init__(
        self,
        reactor: Reactor,
        transport: Transport,
        role: Role,
        *,
        settings: dict[int, int] | None = None,
        limits: Limits | None = None,
        receive_window: int = 1 << 20,
        keepalive: float = 10.0,
        on_request: Callable[[StreamEnd, Headers], None] | None = None,
        on_draining: Callable[[], None] | None = None,
        elastic: bool = False,
    ) -> None:
        self.first_window = (settings or {}).get(Setting.INITIAL_WINDOW_SIZE, DEFAULT_WINDOW)
        self._elastic = elastic
        self.connection = Connection(
            role,
            self._on_event,
            settings=settings,
            limits=limits,
            receive_window=receive_window,
            budget=window_budget,
        )
        assert self.connection.max_kept <= _MAX_KEPT
        self.queue = SendQueue(self.connection, self._run_next_turn)
        self.over = trio.Event()
        """Set when the session has ended, whyever."""
        self.ends: dict[int, StreamEnd] = {}
        self._reactor = reactor
        self._transport = transport
        self._fd = transport.sock.fileno()
        self._keepalive = keepalive
        self._on_request = on_request
        self._on_draining = on_draining
        self._context = contextvars.copy_context()
        """What requests run in: the reactor's own context knows no role to log for."""
        self._events = EPOLLIN
        self._kept = b""
        self.is_dirty = False
        """Whether `flush` is due."""
        self._read_due = False
        self._refill_at = 0.0
        self.pings = Pings(self._say_ping, self._read, self._lose)
        self._peer_informed = False
        """Whether the peer knows that no new streams are taken."""
        self._finishing = False
        """Whether the session ends with what is yet to be sent."""
        self._error: str | None = None
        self._peer_gone = False
        self._handed = 0
        """Octets that the transport was given."""
        self._lookahead = Lookahead(self.connection.tx, transport.sock)

    # -- life ---------------------------------------------------------------------------------

    async def run(
        self,
        early: bytes = b"",
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until the session is over; cancelling cuts it off. Closes the transport.

        Args:
          early: octets already read from the transport, 64 KiB at most.
        Raises:
          SessionError: it ended other than by both sides draining.
        """
        try:
            self._reactor.register(self._fd, self, self._events)
        except OSError as exc:  # the kernel's limit of watches
            self._transport.close()
            raise SessionError(f"cannot serve the connection: {exc.strerror}") from exc
        try:
            self._kept = early
            self.connection.initiate()
            if self._elastic:
                buffers.add(self)
            self.kick()
            self._reactor.call_next_turn(self, self._begin)
            task_status.started()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.pings.keep_alive, self._keepalive, self._run_next_turn)
                await self.over.wait()
                nursery.cancel_scope.cancel()
            await self._say_goodbye()
        finally:
            self._cut_off()
            self._transport.close()
        if self._error is not None:
            raise SessionError(self._error)

    def set_window(self, size: int) -> None:
        """As `tunneld.buffers.Elastic`."""
        if not self.over.is_set():
            self.connection.send_settings({Setting.INITIAL_WINDOW_SIZE: size})
            self.kick()

    def drain(self) -> None:
        """Take no new streams; the session ends when those open have."""
        if self.draining:
            return
        self.connection.drain()
        # The peer may open streams until it sees this; so the end waits for its answer.
        self.pings.probe(self._set_informed)

    def refuse(self, reason: str) -> None:
        """Tell the peer why we want nothing to do with it, and end the session."""
        if not self.over.is_set():
            self.connection.send_goaway(ErrorCode.PROTOCOL_ERROR, reason.encode()[:500])
            self.flush()
            self._end(f"refused: {reason}")

    def kill(self, reason: str) -> None:
        """End the session at once, all its streams with it, and say why."""
        if not self.over.is_set():
            self.connection.send_goaway(ErrorCode.CANCEL, reason.encode()[:500])
            self.flush()
            self._end(reason)

    @property
    def usable(self) -> bool:
        """Whether a stream can be opened now."""
        return not self.over.is_set() and self.connection.can_open

    @property
    def draining(self) -> bool:
        """Whether either side takes no new streams."""
        return self.connection.state is not ConnectionState.OPEN

    def fail(self, error: Exception) -> None:
        """An error of ours, which the reactor has logged."""
        self._end(f"internal error: {error}")

    def _run_next_turn(self, action: Callable[[], None]) -> None:
        self._reactor.call_next_turn(self, action)

    def _say_ping(self, data: bytes) -> None:
        if not self.over.is_set():
            self.connection.send_ping(data)
            self.kick()

    def _set_informed(self) -> None:
        self._peer_informed = True

    # -- reading ------------------------------------------------------------------------------

    def on_ready(self, events: int) -> None:
        if events & EPOLLOUT:
            self.flush()
        if events & (EPOLLIN | EPOLLHUP | EPOLLERR):
            self._read()

    def _begin(self) -> None:
        """Take in what came before the reactor watched."""
        if early := self._kept:
            self._kept = b""
            _plain[: len(early)] = early
            self._parse(len(early))
        self._read()

    def _read(self) -> None:
        """Read and parse a buffer full; the rest comes in the next turn."""
        if self.over.is_set():
            return
        transport, failure = self._transport, None
        start = end = len(self._kept)
        _plain[:start] = self._kept
        while True:
            try:
                size = transport.receive_into(_plain[end:])
            except OSError as exc:
                failure = exc
                break
            if size <= 0:
                break
            end += size
            if size < _BULK or _READ_SIZE - end < _BULK:
                break
        if end > start:
            self._parse(end)
        if self.over.is_set():
            return
        if isinstance(failure, ssl.SSLError):
            self._end(f"TLS: {failure.reason or failure}")
        elif failure is not None:
            self._lose(failure.strerror or str(failure))
        elif not size:
            self._lose(None if self.connection.drained else "the peer closed the connection")
        elif transport.has_pending and not self._read_due:
            self._read_due = True
            self._reactor.call_next_turn(self, self._read_on)

    def _read_on(self) -> None:
        self._read_due = False
        self._read()

    def _parse(self, length: int) -> None:
        """Parse ``length`` octets of the shared buffer."""
        self.pings.heard = True
        now = time.monotonic()
        if now >= self._refill_at:
            self._refill_at = now + _REFILL
            self.connection.refill(now)
        try:
            used = self.connection.receive(_plain[:length])
        except RemoteProtocolError as exc:
            self.flush()
            self._end(f"the peer broke the protocol: {exc}")
            return
        self._kept = bytes(_plain[used:length]) if used < length else b""
        if self.connection.tx.length:
            self.kick()
        if self.connection.drained:
            self._end_if_drained()

    def _on_event(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._request(event)
            case ResponseReceived():
                self._response(event)
            case TrailersReceived():
                if (end := self.ends.get(event.stream_id)) is not None:
                    end.keep_end(event.headers)
            case StreamReset():
                self._stream_reset(event)
            case WindowOpened(0):
                self.queue.window_opened()
            case WindowOpened():
                if (end := self.ends.get(event.stream_id)) is not None:
                    end.resume()
            case PingAcknowledged():
                self.pings.acknowledged(event.data)
            case GoAwayReceived():
                self._goaway(event)

    def _request(self, event: RequestReceived) -> None:
        stream = self.connection.streams[event.stream_id]
        if self._on_request is None:
            self.connection.reset_stream(stream, ErrorCode.REFUSED_STREAM)
            return
        end = self.ends[event.stream_id] = StreamEnd(self, stream)
        if event.end_stream:
            end.keep_end()
        self._context.run(self._on_request, end, event.headers)

    def _response(self, event: ResponseReceived) -> None:
        end = self.ends.get(event.stream_id)
        if end is None:
            return
        if event.end_stream:
            end.keep_end()
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        end.set_response(Response(int(fields[":status"]), fields, event.headers))

    def _stream_reset(self, event: StreamReset) -> None:
        end = self.ends.pop(event.stream_id, None)
        if end is not None:
            who = "reset by the other end" if event.by_peer else f"broken: {event.reason}"
            end.set_lost(f"stream {who} ({ErrorCode.describe(event.code)})")

    def _goaway(self, event: GoAwayReceived) -> None:
        self._peer_informed = True
        if event.code:
            text = event.debug.decode("utf-8", "replace")
            why = f"{text} ({ErrorCode.describe(event.code)})"
            self._end(f"ended by the other end: {why}")
        elif self._on_draining is not None:
            self._context.run(self._on_draining)

    # -- streams ------------------------------------------------------------------------------

    def open(self, headers: Headers, *, end_stream: bool = False) -> StreamEnd:
        """Send a request (client role).

        Raises:
          LocalProtocolError: the session is not `usable`, or the peer takes no such headers.
        """
        stream = self.connection.open_stream(headers, end_stream=end_stream)
        end = self.ends[stream.id] = StreamEnd(self, stream)
        self.kick()
        return end

    def forget(self, end: StreamEnd) -> None:
        """``end`` wants to hear no more of its stream."""
        if self.ends.get(end.stream.id) is end:
            del self.ends[end.stream.id]
        if self.connection.drained:
            self._end_if_drained()

    # -- writing ------------------------------------------------------------------------------

    def kick(self) -> None:
        """Something is to be sent: flush when this turn ends, or now."""
        if not self.is_dirty:
            self.is_dirty = True
            self._reactor.mark_dirty(self)

    def flush(self) -> None:
        self.is_dirty = False
        if self.over.is_set():
            return
        transport, connection = self._transport, self.connection
        try:
            done = transport.flush()
            if done and (size := connection.tx.length):
                transport.send(connection.tx.waiting())
                connection.sent()
                done = transport.flush()
                self._handed += size
                if not done:
                    self._lookahead.blocked(self._handed - transport.unsent, time.monotonic())
                elif size > connection.tx.limit >> 1:
                    self._lookahead.flowed()
        except OSError as exc:
            self._lose(exc.strerror or str(exc))
            return
        events = EPOLLIN if done else EPOLLIN | EPOLLOUT
        if events != self._events:
            self._events = events
            self._reactor.modify(self._fd, events)
        if self._finishing and done and not connection.tx.length:
            self._end(None)
            return
        self.queue.buffer_sent()

    # -- the end ------------------------------------------------------------------------------

    def _cut_off(self) -> None:
        """End what still goes on, because we were told to; with a GOAWAY, as far as it goes."""
        if self.over.is_set():
            return
        self.connection.send_goaway()
        try:
            if self._transport.flush():
                self._transport.send(self.connection.tx.waiting())
                self.connection.sent()
                self._transport.flush()
        except OSError:
            pass  # the peer is gone: it needs no word
        self._end("cancelled")

    def _end_if_drained(self) -> None:
        """End once the last stream has, and what it said has been sent."""
        if self.connection.drained and self._peer_informed and not self._finishing:
            self._finishing = True
            self.connection.send_goaway()
            self.kick()

    def _lose(self, error: str | None) -> None:
        """The peer is gone, or as good as that."""
        self._peer_gone = True
        self._end(error)

    def _end(self, error: str | None) -> None:
        """The session is over: so is every stream of it."""
        if self.over.is_set():
            return
        self.over.set()
        self._error = error
        buffers.remove(self)
        self._reactor.unregister(self._fd)
        self.pings.forget()
        ends, self.ends = list(self.ends.values()), {}
        for end in ends:
            end.set_lost(error or "the session was closed")
        self.connection.close()

    async def _say_goodbye(self) -> None:
        """Close so that our last words arrive, if somebody is there to hear them."""
        if self._peer_gone:
            return
        try:
            if self._transport.flush():
                self._transport.send_eof()
        except OSError:
            return
        await linger(self._transport.sock)
