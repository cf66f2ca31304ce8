"""A stream of a session; as one end of a relay once attached."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from frames import ErrorCode, Headers, LocalProtocolError, Stream, StreamState
from tunneld.relay import Keeper, Sink, Source

if TYPE_CHECKING:
    from tunneld.session import Session

_EARLY_LIMIT = 1 << 20
"""Octets kept for a stream whose relay has not begun; its first window is smaller by far."""


@dataclass(frozen=True, slots=True)
class Response:
    """The head of a response."""

    status: int
    headers: dict[str, str]
    """The last value of each name."""
    raw: Headers


class StreamEnd:
    """See the module. Until its relay starts, what comes is kept, bounded by the stream's first
    window."""

    __slots__ = (
        "_blocked_source",
        "_early",
        "_early_end",
        "_finished",
        "_held_until",
        "_more",
        "_outbox",
        "_outbox_end",
        "_peer",
        "_queue",
        "_relay",
        "_session",
        "arrived",
        "lost",
        "on_lost",
        "response",
        "sent",
        "stream",
        "trailers",
        "view",
    )

    def __init__(self, session: "Session", stream: Stream) -> None:
        self._session = session
        self._queue = session.queue
        self.view = session.connection.tx.payload_view
        self.stream = stream
        self.arrived = trio.Event()
        """Set when `response` or `lost` is."""
        self.response: Response | None = None
        self.trailers: Headers | None = None
        """What the peer ended its side with, if it was that."""
        self.lost: str | None = None
        """Why the stream is gone, if it was reset or its session was lost."""
        self.on_lost: Callable[[], None] | None = None
        """Called when `lost` is set before a relay is attached."""
        self.sent = 0
        """Octets of the peer's that went out on this stream."""
        self._early = bytearray()
        self._early_end = False
        self._held_until: int | None = None
        self._more: trio.Event | None = None
        self._outbox = bytearray()
        self._outbox_end = False
        self._finished = False
        self._blocked_source: Source | None = None
        self._relay: Keeper | None = None
        self._peer: Sink | None = None
        stream.receiver = self._keep

    @property
    def session(self) -> "Session":
        """Whose stream this is."""
        return self._session

    # -- before the relay, and without one ----------------------------------------------------

    def hold(self, early: int) -> None:
        self._held_until = early

    def release(self) -> None:
        if self._held_until is not None:
            self._held_until = None
            if self._relay is not None:
                self._begin()

    def respond(self, headers: Headers) -> bool:
        """Send a response's head; False if the stream is gone, or its peer takes no such head."""
        if not self.stream.can_send:
            return False
        try:
            self._session.connection.send_headers(self.stream, headers)
        except LocalProtocolError:  # longer than the peer's limit for header lists
            self.reset(ErrorCode.INTERNAL_ERROR)
            return False
        self._session.kick()
        return True

    def end(self, trailers: Headers) -> None:
        """End our side with trailers, or with a head that is all there is. What waits to be sent
        goes before them, or is lost."""
        if self._outbox:
            self._drain_outbox()
            self._outbox.clear()
        if self.stream.can_send:
            try:
                self._session.connection.send_headers(self.stream, trailers, end_stream=True)
            except LocalProtocolError:  # as in `respond`
                self.reset(ErrorCode.INTERNAL_ERROR)
            self._session.kick()
        self.close()

    @property
    def backlog(self) -> int:
        """Octets of `deliver` that wait to be sent."""
        return len(self._outbox)

    @property
    def carried(self) -> int:
        return self.sent

    @property
    def waits(self) -> bool:
        return bool(self._outbox) or self._blocked_source is not None

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

    async def read_body(self, limit: int) -> bytes | None:
        """All octets of a response that is no relay; None if the stream is lost or they are
        more than ``limit``."""
        await self.arrived.wait()
        while not self._early_end and self.lost is None and len(self._early) <= limit:
            self._more = trio.Event()
            await self._more.wait()
        whole = self._early_end and len(self._early) <= limit
        return bytes(self._early) if whole else None

    def _keep(self, data: memoryview, end: bool) -> None:
        self._early += data
        self._early_end = self._early_end or end
        self._tell_reader()
        if len(self._early) > _EARLY_LIMIT:
            raise LocalProtocolError(f"{len(self._early)} octets before the relay began")

    def _tell_reader(self) -> None:
        if self._more is not None:
            self._more.set()

    # -- as an end of a relay -----------------------------------------------------------------

    def attach(self, relay: Keeper, peer: Sink) -> None:
        self._relay, self._peer = relay, peer

    def start(self) -> None:
        if self._held_until is None:
            self._begin()

    def _begin(self) -> None:
        """Pass on what came so far, a loss behind it; from now on the other end gets octets
        directly."""
        assert self._relay is not None
        self._hand_over()
        if self.lost is not None:
            self._relay.fail(self.lost)

    def _hand_over(self) -> None:
        peer = self._peer
        assert peer is not None
        early, self._early = self._early, bytearray()
        if early or self._early_end:
            peer.deliver(memoryview(early), self._early_end)
        if self.stream.can_receive:
            self.stream.receiver = peer.deliver

    def room(self, source: Source, least: int = 1) -> int:
        """As `FrameEnd.room`; 0 too if it were less than ``least``."""
        if self._outbox:  # which waits for room already
            self._blocked_source = source
            return 0
        if self._blocked_source is not None or self._outbox:
            return 0  # a `resume` is due
        return self._queue.room(self, source, least)

    def commit(self, size: int) -> None:
        self.sent += size
        session = self._session
        session.connection.commit_data(self.stream, size)
        if not session.is_dirty:
            session.kick()
        if self._held_until is not None and self.sent > self._held_until:
            self.release()

    def finish(self) -> None:
        if not self.stream.can_send:
            return
        self._finished = True
        self._session.connection.commit_data(self.stream, 0, end_stream=True)
        self._session.kick()
        if self._relay is not None:
            self._relay.way_ended()
        elif self.stream.can_receive:  # section 8.1: the rest of the request is not needed
            self.reset(ErrorCode.NO_ERROR)
        else:
            self._session.forget(self)

    @property
    def has_all(self) -> bool:
        return self._outbox_end or self._finished

    def deliver(self, data: memoryview, end: bool) -> None:
        """Octets of another session's stream."""
        self._outbox_end = self._outbox_end or end
        if self._outbox:
            self._outbox += data
            return
        taken = self._send(data)
        if taken < len(data):
            self._outbox += data[taken:]
            self._queue.wait(self)

    def _drain_outbox(self) -> None:
        with memoryview(self._outbox) as waiting:
            taken = self._send(waiting)
        del self._outbox[:taken]
        if self._outbox:
            self._queue.wait(self)

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
        if self._session.connection.consume(self.stream, size):
            self._session.kick()

    def hang_up(self) -> None:
        """Nothing to do beyond the half-close: the endpoint's own end is waited for."""

    def close(self) -> None:
        if self.stream.can_receive:  # section 8.1: the rest of the request is not needed
            self.reset(ErrorCode.NO_ERROR)
        self._session.forget(self)

    def abort(self) -> None:
        self.reset(ErrorCode.CONNECT_ERROR)

    def reset(self, code: ErrorCode) -> None:
        """RST_STREAM, if the stream is still there."""
        if self.stream.state is not StreamState.CLOSED:
            self._session.connection.reset_stream(self.stream, code)
            self._session.kick()
        self._session.forget(self)

    # -- from the session ---------------------------------------------------------------------

    def set_response(self, response: Response) -> None:
        self.response = response
        self.arrived.set()

    def set_lost(self, reason: str) -> None:
        """The stream is gone. No matter, if it had ended both ways: then it is the other end of
        the relay alone that still has octets to take."""
        if self.lost is not None:
            return
        if self._finished and self._peer is not None and self._peer.has_all:
            return
        self.lost = reason
        self.arrived.set()
        self._tell_reader()
        if self._relay is None:
            if self.on_lost is not None:
                self.on_lost()
        elif self._held_until is None:
            self._relay.fail(reason)

    def keep_end(self, trailers: Headers | None = None) -> None:
        """The peer has nothing (more) to send; for an end that came with a header section."""
        self.trailers = trailers
        self._early_end = True
        self._tell_reader()
        if self._relay is not None and self._held_until is None:
            self._hand_over()

    def block(self, source: Source) -> None:
        """Remember whom `resume` is for."""
        self._blocked_source = source

    def resume(self) -> None:
        """There is room again."""
        if self._outbox:
            self._drain_outbox()
            if self._outbox:
                return
        source, self._blocked_source = self._blocked_source, None
        if source is not None:
            source.resume()
