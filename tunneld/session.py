"""A session: one transport and one HTTP/2 connection over it, served by the reactor.

Tunnels are sessions, and so are clients that speak HTTP/2. The hot path of everything that is
carried: `Session.on_ready` → `frames.Connection.receive` → a stream's receiver, which is the
other end of its relay; and back, `SocketEnd` → `StreamEnd.commit` → `Session.flush`.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import trio

from frames import (
    Connection,
    ConnectionState,
    ErrorCode,
    Event,
    GoAwayReceived,
    Headers,
    Limits,
    LocalProtocolError,
    PingAcknowledged,
    RemoteProtocolError,
    RequestReceived,
    ResponseReceived,
    Role,
    Stream,
    StreamReset,
    StreamState,
    TrailersReceived,
    WindowBudget,
    WindowOpened,
)
from tunneld.reactor import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, Reactor
from tunneld.relay import End, Relay, SocketEnd
from tunneld.transport.base import WOULD_BLOCK, Transport

_READ_SIZE = 256 * 1024
_READS_PER_TURN = 4
_MAX_KEPT = 64 * 1024
_MIN_FRAME = 16 * 1024
"""Octets of room below which a source waits for more: small frames cost as much as large ones."""
_FEW = 3
_SHARED_FRAME = 32 * 1024
"""Octets that a source may send at a time while more than a `_FEW` others wait: so much most of
them have at hand, so equal turns are equal shares."""
_EARLY_LIMIT = 1 << 20
"""Octets kept for a stream whose relay has not begun; its first window is smaller by far."""

_plain = memoryview(bytearray(_READ_SIZE + _MAX_KEPT))
"""Shared by all sessions of the process: it holds octets only within one turn of one session."""

window_budget = WindowBudget(256 * 1024 * 1024)
"""Octets by which all streams of this process may have grown their windows."""


class SessionError(Exception):
    """The session ended other than by a drain; the text says why."""


@dataclass(frozen=True, slots=True)
class Response:
    """The head of a response."""

    status: int
    headers: dict[str, str]


class StreamEnd:
    """A stream of a session; as one end of a relay once attached.

    Until then what comes is kept, bounded by the stream's first window.
    """

    __slots__ = (
        "_blocked_source",
        "_early",
        "_early_end",
        "_hold",
        "_more",
        "_outbox",
        "_outbox_end",
        "_peer",
        "_relay",
        "_session",
        "arrived",
        "lost",
        "on_lost",
        "response",
        "sent",
        "stream",
    )

    def __init__(self, session: "Session", stream: Stream) -> None:
        self._session = session
        self.stream = stream
        self.arrived = trio.Event()
        """Set when `response` or `lost` is."""
        self.response: Response | None = None
        self.lost: str | None = None
        """Why the stream is gone, if it was reset or its session was lost."""
        self.on_lost: Callable[[], None] | None = None
        """Called when `lost` is set before a relay is attached."""
        self.sent = 0
        self._early = bytearray()
        self._early_end = False
        self._hold = False
        self._more: trio.Event | None = None
        self._outbox = bytearray()
        self._outbox_end = False
        self._blocked_source: SocketEnd | None = None
        self._relay: Relay | None = None
        self._peer: End | None = None
        stream.receiver = self._keep

    @property
    def written(self) -> int:
        """Octets of the peer's that went out on this stream."""
        return self.sent

    @property
    def waiting(self) -> int:
        """Octets that wait to go out on this stream."""
        return len(self._outbox)

    @property
    def is_waiting(self) -> bool:
        """Whether a `resume` is due to somebody."""
        return self._blocked_source is not None or bool(self._outbox)

    def hold(self) -> None:
        """Keep what comes even after the relay began, until `release` or the peer's first
        octets: a client may need a moment between the reply's head and what follows."""
        self._hold = True

    def release(self) -> None:
        """End `hold`."""
        if self._hold:
            self._hold = False
            if self._peer is not None:
                self._hand_over()

    def respond(self, headers: Headers, *, end_stream: bool = False) -> bool:
        """Send a response's head; False if the stream is gone."""
        if not self.stream.can_send:
            return False
        self._session.connection.send_headers(self.stream, headers, end_stream=end_stream)
        self._session.kick()
        return True

    def reply(self, status: int, body: str, headers: Headers | None = None) -> None:
        """A whole response with ``body`` as plain text, for a request that is no relay."""
        content = body.encode()
        head = [
            (b":status", str(int(status)).encode()),
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(content)).encode()),
            *(headers or []),
        ]
        if self.respond(head):
            self._outbox_end = True
            self._outbox += content
            self._drain_outbox()
            if self.stream.can_receive and not self.is_waiting:
                self.reset(ErrorCode.NO_ERROR)  # section 8.1: the rest of the request is not needed

    # -- as an end of a relay -----------------------------------------------------------------

    def attach(self, relay: Relay, peer: End) -> None:
        self._relay, self._peer = relay, peer
        if self.lost is not None:
            relay.fail(self.lost)
        elif not self._hold:
            self._hand_over()

    def room(self, source: SocketEnd) -> int:
        return self._session.room(self, source)

    def view(self, size: int) -> memoryview:
        return self._session.connection.tx.payload_view(size)

    def commit(self, size: int) -> None:
        self.sent += size
        if self._hold:
            self.release()
        session = self._session
        session.connection.commit_data(self.stream, size)
        session.kick()

    def finish(self) -> None:
        if not self.stream.can_send:
            return
        self._session.connection.commit_data(self.stream, 0, end_stream=True)
        self._session.kick()
        if self._relay is not None:
            self._relay.way_ended()

    def deliver(self, data: memoryview, end: bool) -> None:
        """Octets of another session's stream."""
        self._outbox_end = self._outbox_end or end
        if self._hold and data:
            self.release()
        if self._outbox:
            self._outbox += data
            return
        taken = self._send(data)
        if taken < len(data):
            self._outbox += data[taken:]
            self._session.wait_for_room(self)

    def _drain_outbox(self) -> None:
        with memoryview(self._outbox) as waiting:
            taken = self._send(waiting)
        del self._outbox[:taken]
        if self._outbox:
            self._session.wait_for_room(self)

    def _send(self, data: memoryview) -> int:
        """Send what windows and buffer allow of all that waits; returns how much that was."""
        if not self.stream.can_send:
            return len(data)
        taken = self._session.connection.send_data(self.stream, data)
        if taken:
            self.sent += taken
            self._session.kick()
            if self._peer is not None:
                self._peer.credit(taken)
        if self._outbox_end and taken == len(data):
            self._outbox_end = False
            self.finish()
        return taken

    def credit(self, size: int) -> None:
        session = self._session
        session.connection.consume(self.stream, size)
        if session.connection.tx.length:
            session.kick()

    def close(self) -> None:
        self._session.forget(self)

    def abort(self) -> None:
        self.reset(ErrorCode.CONNECT_ERROR)

    # -- from the session ---------------------------------------------------------------------

    def reset(self, code: ErrorCode) -> None:
        """RST_STREAM, if the stream is still there."""
        if self.stream.state is not StreamState.CLOSED:
            self._session.connection.reset_stream(self.stream, code)
            self._session.kick()
        self._session.forget(self)

    def set_response(self, response: Response) -> None:
        self.response = response
        self.arrived.set()

    def set_lost(self, reason: str) -> None:
        """The stream is gone."""
        if self.lost is not None:
            return
        self.lost = reason
        self.arrived.set()
        self._tell_reader()
        if self._relay is not None:
            self._relay.fail(reason)
        elif self.on_lost is not None:
            self.on_lost()

    def resume(self) -> None:
        """There is room again."""
        if self._outbox:
            self._drain_outbox()
            return
        source, self._blocked_source = self._blocked_source, None
        if source is not None:
            source.resume()

    def block(self, source: SocketEnd | None) -> None:
        """Remember whom `resume` is for."""
        self._blocked_source = source

    def keep_end(self) -> None:
        """The peer has nothing (more) to send; for an end that came with a header section."""
        self._early_end = True
        self._tell_reader()

    def _tell_reader(self) -> None:
        if self._more is not None:
            self._more.set()

    def _keep(self, data: memoryview, end: bool) -> None:
        self._early += data
        self._early_end = self._early_end or end
        self._tell_reader()
        if len(self._early) > _EARLY_LIMIT:
            raise LocalProtocolError(f"{len(self._early)} octets before the relay began")

    def _hand_over(self) -> None:
        """From now on the other end gets the octets directly."""
        peer = self._peer
        assert peer is not None
        early, self._early = self._early, bytearray()
        if early or self._early_end:
            peer.deliver(memoryview(early), self._early_end)
        if self.stream.can_receive:
            self.stream.receiver = peer.deliver

    async def read_body(self, limit: int) -> bytes | None:
        """All octets of a response that is no relay; None if the stream is lost or they are
        more than ``limit``."""
        await self.arrived.wait()
        while not self._early_end and self.lost is None and len(self._early) <= limit:
            self._more = trio.Event()
            await self._more.wait()
        whole = self._early_end and len(self._early) <= limit
        return bytes(self._early) if whole else None


class Session:
    """See the module. `run` is its life; everything else is plain calls.

    Args:
      role: our side of HTTP/2.
      on_request: takes each request of the peer (server role): the stream and its headers.
      keepalive: seconds; a PING goes out so often, and a peer from which nothing came for two
        of them is lost.
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
        on_drain: Callable[[], None] | None = None,
    ) -> None:
        self.connection = Connection(
            role,
            self._on_event,
            settings=settings,
            limits=limits,
            receive_window=receive_window,
            budget=window_budget,
        )
        self.rtt: float | None = None
        """Seconds; of the last PING."""
        self.ends: dict[int, StreamEnd] = {}
        self._reactor = reactor
        self._transport = transport
        self._fd = transport.sock.fileno()
        self._keepalive = keepalive
        self._on_request = on_request
        self._on_drain = on_drain
        self._events = EPOLLIN
        self._kept = b""
        self._dirty = False
        self._heard = True
        self._pinged_at: float | None = None
        self._over = trio.Event()
        self._error: str | None = None
        self._waiting: deque[StreamEnd] = deque()
        """Ends whose sources wait for room in the transmit buffer, first come first served."""
        self._serving = False
        self._resume_due = False
        self._starved: list[StreamEnd] = []
        """Ends whose sources wait for the connection's window."""

    # -- life ---------------------------------------------------------------------------------

    async def run(
        self,
        early: bytes = b"",
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until the session is over; cancelling cuts it off.

        Args:
          early: octets already read from the transport.
        Raises:
          SessionError: it ended other than by both sides draining.
        """
        self._reactor.register(self._fd, self, self._events)
        try:
            self.connection.initiate()
            self.kick()
            if early:
                _plain[: len(early)] = early
                self._parse(len(early))
            self._reactor.call_next_turn(self, self._read)
            task_status.started()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_alive)
                await self._over.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._end("cancelled")
        if self._error is not None:
            raise SessionError(self._error)

    def drain(self) -> None:
        """Take no new streams; the session ends when those open have."""
        self.connection.drain()
        self.kick()
        self._end_if_drained()

    @property
    def usable(self) -> bool:
        """Whether a stream can be opened now."""
        return not self._over.is_set() and self.connection.can_open

    @property
    def draining(self) -> bool:
        """Whether either side takes no new streams."""
        return self.connection.state is not ConnectionState.OPEN

    def fail(self, error: Exception) -> None:
        """An error of ours, which the reactor has logged."""
        self._end(f"internal error: {error}")

    async def _keep_alive(self) -> None:
        while True:
            await trio.sleep(self._keepalive)
            now = trio.current_time()
            self.connection.refill(now)
            if not self._heard and self._pinged_at is not None:
                self._read()  # unless it was us who slept
                if not self._heard and not self._over.is_set():
                    self._end(f"nothing heard for {now - self._pinged_at:.0f} s")
                    return
            self._heard = False
            if not self._over.is_set():
                self._pinged_at = now
                self.connection.send_ping(b"\x00" * 8)
                self.kick()

    # -- reading ------------------------------------------------------------------------------

    def on_ready(self, events: int) -> None:
        if events & EPOLLOUT:
            self.flush()
        if events & (EPOLLIN | EPOLLHUP | EPOLLERR):
            self._read()

    def _read(self) -> None:
        for _ in range(_READS_PER_TURN):
            if self._over.is_set() or not self._read_once():
                return
        self._reactor.call_next_turn(self, self._read)

    def _read_once(self) -> bool:
        """Read and parse one buffer full; whether there is more at once."""
        kept = len(self._kept)
        _plain[:kept] = self._kept
        try:
            size = self._transport.receive_into(_plain[kept : kept + _READ_SIZE])
        except OSError as exc:
            self._end(exc.strerror or str(exc))
            return False
        if size > 0:
            self._parse(kept + size)
            return size == _READ_SIZE or self._transport.has_pending
        if size != WOULD_BLOCK:
            self._end(None if self.connection.drained else "the peer closed the connection")
        return False

    def _parse(self, length: int) -> None:
        """Parse ``length`` octets of the shared buffer."""
        self._heard = True
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
                    end.keep_end()
            case StreamReset():
                self._stream_reset(event)
            case WindowOpened(0):
                starved, self._starved = self._starved, []
                for starving in starved:
                    starving.resume()
            case WindowOpened():
                if (end := self.ends.get(event.stream_id)) is not None:
                    end.resume()
            case PingAcknowledged() if self._pinged_at is not None:
                self.rtt = trio.current_time() - self._pinged_at
                self._pinged_at = None
            case GoAwayReceived():
                if self._on_drain is not None:
                    self._on_drain()

    def _request(self, event: RequestReceived) -> None:
        stream = self.connection.streams[event.stream_id]
        if self._on_request is None:
            self.connection.reset_stream(stream, ErrorCode.REFUSED_STREAM)
            return
        end = self.ends[event.stream_id] = StreamEnd(self, stream)
        if event.end_stream:
            end.keep_end()
        self._on_request(end, event.headers)

    def _response(self, event: ResponseReceived) -> None:
        end = self.ends.get(event.stream_id)
        if end is None:
            return
        if event.end_stream:
            end.keep_end()
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        end.set_response(Response(int(fields[":status"]), fields))

    def _stream_reset(self, event: StreamReset) -> None:
        end = self.ends.pop(event.stream_id, None)
        if end is not None:
            who = "reset by the other end" if event.by_peer else f"broken: {event.reason}"
            end.set_lost(f"stream {who} ({ErrorCode.describe(event.code)})")

    # -- streams ------------------------------------------------------------------------------

    def open(self, headers: Headers, *, end_stream: bool = False) -> StreamEnd:
        """Send a request (client role).

        Raises:
          LocalProtocolError: the session is not `usable`.
        """
        stream = self.connection.open_stream(headers, end_stream=end_stream)
        end = self.ends[stream.id] = StreamEnd(self, stream)
        self.kick()
        return end

    def forget(self, end: StreamEnd) -> None:
        """``end`` wants to hear no more of its stream."""
        if self.ends.get(end.stream.id) is end:
            del self.ends[end.stream.id]
        if self.draining:
            self._end_if_drained()

    # -- writing ------------------------------------------------------------------------------

    def room(self, end: StreamEnd, source: SocketEnd) -> int:
        """Octets of DATA that ``end`` may send now; with 0, it is told when to go on."""
        if end.is_waiting:
            return 0
        if self._serving or not self._waiting:
            room = self.connection.data_room(end.stream)
            if room and (room >= _MIN_FRAME or self.connection.tx.room >= _MIN_FRAME):
                return min(room, _SHARED_FRAME) if len(self._waiting) > _FEW else room
        end.block(source)
        self.wait_for_room(end)
        return 0

    def wait_for_room(self, end: StreamEnd) -> None:
        """Have ``end.resume()`` called once it may send."""
        connection = self.connection
        if end.stream.send_window <= 0:
            end.stream.blocked = True
        elif connection.send_window <= 0:
            connection.blocked = True
            self._starved.append(end)
        else:
            self._waiting.append(end)
            if not connection.tx.length:
                self._resume_soon()

    def kick(self) -> None:
        """Something is to be sent: flush when this turn ends, or now."""
        if not self._dirty:
            self._dirty = True
            self._reactor.mark_dirty(self)

    def flush(self) -> None:
        self._dirty = False
        if self._over.is_set():
            return
        transport, connection = self._transport, self.connection
        try:
            done = transport.flush()
            if done and connection.tx.length:
                transport.send(connection.tx.waiting())
                connection.sent()
                done = transport.flush()
        except OSError as exc:
            self._end(exc.strerror or str(exc))
            return
        events = EPOLLIN if done else EPOLLIN | EPOLLOUT
        if events != self._events:
            self._events = events
            self._reactor.modify(self._fd, events)
        if self._waiting and connection.tx.room >= _MIN_FRAME:
            self._resume_soon()

    def _resume_soon(self) -> None:
        if not self._resume_due:
            self._resume_due = True
            self._reactor.call_next_turn(self, self._resume)

    def _resume(self) -> None:
        """Let those who wait send in turn, while there is room."""
        self._resume_due = False
        for _ in range(len(self._waiting)):
            if not self._waiting or self.connection.tx.room < _MIN_FRAME:
                return
            end = self._waiting.popleft()
            self._serving = True
            try:
                end.resume()
            finally:
                self._serving = False

    # -- the end ------------------------------------------------------------------------------

    def _end_if_drained(self) -> None:
        if self.connection.drained and not self._over.is_set():
            self.connection.send_goaway()
            self.flush()
            self._end(None)

    def _end(self, error: str | None) -> None:
        """The session is over: so is every stream of it."""
        if self._over.is_set():
            return
        self._over.set()
        self._error = error
        self._reactor.unregister(self._fd)
        ends, self.ends = list(self.ends.values()), {}
        for end in ends:
            end.set_lost(error or "the session was closed")
        self.connection.close()
        self._reactor.at_turn_end(self._transport.close)
