"""One connection of a `PacketStream`, as one end of a relay.

konnectivity's protocol knows neither a half-close nor a reset, and has no flow control for a
connection: only CLOSE_REQ, CLOSE_RSP, and the windows of the stream that all of them share. What
follows from that for each place where the protocol is spoken is in the subclasses:
`tunneld.dialledchannel`, `tunneld.frontchannel`, `tunneld.endpointchannel`.
"""

from collections.abc import Callable

from frames.grpc import PREFIX_SIZE
from frames.packet import Packet, data_header
from tunneld.packetstream import MAX_DATA, PacketStream
from tunneld.reactor import Reactor, Timer
from tunneld.relay import End, Relay, Source

LINGER = 1.0
"""Seconds that an end whose connection is over gets to end its own way; what it says is dropped."""

_scratch = memoryview(bytearray(MAX_DATA))
"""Where octets go that nobody wants."""


class ChannelEnd:
    """See the module. Until its relay starts, what comes is kept.

    Args:
      on_closed: called once, when the peer may use the connect id for something else.
    """

    def __init__(
        self,
        packets: PacketStream,
        connect_id: int,
        reactor: Reactor,
        on_closed: Callable[[], None],
    ) -> None:
        self.connect_id = connect_id
        self.sent = 0
        """Octets of payload that went out."""
        self.received = 0
        """Octets of payload that came."""
        self._packets = packets
        self._reactor = reactor
        self._timers: list[Timer] = []
        self._on_closed = on_closed
        self._head = PREFIX_SIZE + len(data_header(connect_id, MAX_DATA))
        self._relay: Relay | None = None
        self._peer: End | None = None
        self._source: Source | None = None
        """Who is to be resumed when it is our turn."""
        self._in_line = False
        self._outbox = bytearray()
        self._outbox_end = False
        self._early = bytearray()
        self._early_end = False
        self._held_until: int | None = None
        self._queued = 0
        """Octets that came and that the other end has not taken."""
        self._finished = False
        """Whether the other end has ended its way: nothing more is to be sent."""
        self._said_close = False
        self._closed_by_peer = False
        self._gone = False
        """Whether the relay is over, or its failure is all that is left to tell."""
        self._lost: str | None = None
        """What the relay has to fail with as soon as it starts, and is not held."""

    @property
    def carried(self) -> int:
        return self.sent

    @property
    def backlog(self) -> int:
        return len(self._outbox)

    @property
    def waits(self) -> bool:
        return bool(self._outbox) or self._source is not None

    # -- what the subclasses decide -----------------------------------------------------------

    def _close_packet(self, error: str) -> Packet:
        """What tells the peer that the connection is over."""
        raise NotImplementedError

    def _source_ended(self) -> None:
        """All that the other end had to say has been sent."""
        raise NotImplementedError

    def peer_closed(self, error: str) -> None:
        """The peer's CLOSE_REQ or CLOSE_RSP came, ``error`` being the latter's."""
        raise NotImplementedError

    def _hold_back(self, size: int) -> int:
        """How many of ``size`` octets, just queued, are not to be credited yet."""
        raise NotImplementedError

    # -- from the packet stream ---------------------------------------------------------------

    def receive(self, data: memoryview) -> int:
        """Take payload; returns what `PacketUser.on_data` shall return."""
        if self._gone or self._closed_by_peer or self._lost is not None:
            return 0
        size = len(data)
        self.received += size
        self._queued += size
        if self._peer is None or self._held_until is not None:
            self._early += data
        else:
            self._peer.deliver(data, False)
        return self._hold_back(size)

    def lose(self, reason: str) -> None:
        """The stream is gone, and the connection with it."""
        self._said_close = True  # nobody is there to be told
        self._fail(reason)

    @property
    def closed_by_peer(self) -> bool:
        """Whether the peer has said that the connection is over."""
        return self._closed_by_peer

    def resume(self) -> None:
        """It is our turn."""
        self._in_line = False
        if self._gone:
            return
        if self._outbox:
            self._drain_outbox()
            if self._outbox:
                return
        source, self._source = self._source, None
        if source is not None:
            source.resume()

    # -- as an end of a relay -----------------------------------------------------------------

    def hold(self, early: int) -> None:
        self._held_until = early

    def release(self) -> None:
        if self._held_until is not None:
            self._held_until = None
            if self._relay is not None:
                self._begin()

    def attach(self, relay: Relay, peer: End) -> None:
        self._relay, self._peer = relay, peer

    def start(self) -> None:
        if self._held_until is None:
            self._begin()

    def _begin(self) -> None:
        """Pass on what came so far, a loss behind it."""
        assert self._relay is not None
        assert self._peer is not None
        early, self._early = self._early, bytearray()
        if early or self._early_end:
            self._peer.deliver(memoryview(early), self._early_end)
        if self._lost is not None:
            self._relay.fail(self._lost)

    def _deliver_end(self) -> None:
        """Tell the other end that nothing more comes."""
        if self._peer is None or self._held_until is not None:
            self._early_end = True
        elif not self._early_end:
            self._early_end = True
            self._peer.deliver(memoryview(b""), True)

    def room(self, source: Source) -> int:
        if self._is_sink:
            return MAX_DATA
        if not self._in_line:
            if room := self._packets.room(self):
                return room
            self._in_line = True
        self._source = source
        return 0

    def view(self, size: int) -> memoryview:
        if self._is_sink:
            return _scratch[:size]
        return self._packets.view(self._head, size)

    def commit(self, size: int) -> None:
        if self._is_sink:
            return
        self._packets.commit(self.connect_id, self._head, size)
        self.sent += size
        if self._held_until is not None and self.sent > self._held_until:
            self.release()

    @property
    def _is_sink(self) -> bool:
        """Whether what the other end still says is of no use to anybody."""
        return self._closed_by_peer or self._said_close

    def finish(self) -> None:
        if not self._finished:
            self._finished = True
            self._source_ended()
            if self._relay is not None:
                self._relay.way_ended()

    @property
    def has_all(self) -> bool:
        return self._outbox_end or self._finished

    def deliver(self, data: memoryview, end: bool) -> None:
        """Octets of another stream."""
        self._outbox_end = self._outbox_end or end
        if not self._outbox:
            data = data[self._send(data) :]
        self._outbox += data
        if end and not self._outbox:
            self.finish()

    def _drain_outbox(self) -> None:
        outbox = self._outbox  # all may be over amid sending, and this not the outbox any more
        with memoryview(outbox) as waiting:
            taken = self._send(waiting)
        del outbox[:taken]
        if self._outbox_end and not self._outbox:
            self.finish()

    def _send(self, data: memoryview) -> int:
        """Send as much as there is room for; returns how much that was."""
        taken, size = 0, len(data)
        while taken < size and not self._in_line:
            room = size - taken if self._is_sink else self._packets.room(self)
            if not room:
                self._in_line = True
                break
            piece = data[taken : taken + room]
            if not self._is_sink:
                self.view(len(piece))[:] = piece
                self.commit(len(piece))
            taken += len(piece)
        if taken and self._peer is not None:
            self._peer.credit(taken)
        return taken

    def credit(self, size: int) -> None:
        self._queued -= size

    def close(self) -> None:
        self._let_go()

    def abort(self) -> None:
        if self._gone:
            return
        if not self._said_close and not self._closed_by_peer:
            error = self._relay.error if self._relay is not None else None
            self._say_close(error or "connection reset")
        self._let_go()

    def fail(self, error: Exception) -> None:
        """An error of ours, which the reactor has logged."""
        self._fail(f"internal error: {error}")

    # -- for the subclasses -------------------------------------------------------------------

    def _say_close(self, error: str = "") -> None:
        self._said_close = True
        self._packets.send(self._close_packet(error))

    def _fail(self, reason: str) -> None:
        """Reset both ends; what came before goes first, and not before its time."""
        if self._relay is None or self._held_until is not None:
            self._lost = self._lost or reason
        else:
            self._relay.fail(reason)

    def _call_later(self, delay: float, action: Callable[[], None]) -> None:
        """Run ``action`` ``delay`` seconds from now, unless the connection is over before."""
        if not self._gone:
            self._timers.append(self._reactor.call_later(delay, self, action))

    def _stop_in(self, delay: float) -> None:
        """Have the other end's way end then, if it has not by itself."""
        if not self._finished:
            self._call_later(delay, self._stop)

    def _stop(self) -> None:
        if not self._gone:
            self._drop_outbox()
            self.finish()

    def _drop_outbox(self) -> None:
        """Nobody wants what waits to be sent."""
        dropped = len(self._outbox)
        self._outbox = bytearray()
        if dropped and self._peer is not None:
            self._peer.credit(dropped)

    def _let_go(self) -> None:
        if not self._gone:
            self._gone = True
            for timer in self._timers:
                timer.cancel()
            self._timers.clear()
            self._outbox = bytearray()
            self._early = bytearray()
            self._on_closed()
