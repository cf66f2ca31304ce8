"""One gRPC stream of konnectivity's Packets, with all connections that share it.

A `StreamEnd` does the work below it: flow control, what came early, resets. Here octets become
packets and back, and connections take turns to send. Control packets go ahead of data that waits,
but never ahead of data that was sent before them.
"""

from collections import Counter, deque
from typing import Protocol

from frames.grpc import PREFIX_SIZE, GrpcError, MessageReader, Status, prefix, undecodable
from frames.packet import (
    MAX_DATA_HEADER,
    CloseDial,
    CloseRequest,
    CloseResponse,
    Data,
    DialRequest,
    DialResponse,
    Drain,
    Packet,
    PacketError,
    PacketType,
    Unknown,
    data_header,
    parse,
    serialize,
)
from tunneld.streamend import StreamEnd

MAX_DATA = 16384 - 32
"""Octets of payload in a packet: with its headers it fits one HTTP/2 frame of Go's size."""
_OVERHEAD = PREFIX_SIZE + MAX_DATA_HEADER
_MAX_BACKLOG = 1 << 20
"""Octets of control packets that a peer may leave unread."""

Packets = Counter[tuple[str, str]]
"""Counts by segment and packet type, as telemetry has them."""


class Turn(Protocol):
    """A connection that waits to send."""

    def resume(self) -> None:
        """There is room now, for a packet at least."""


class PacketUser(Protocol):
    """Who has a `PacketStream`."""

    def on_data(self, connect_id: int, data: memoryview) -> int:
        """Payload came, never empty; ``data`` is valid for the call alone.

        Returns:
          Octets of it that are not to be credited yet: `PacketStream.release` follows for them.
        """

    def on_packet(self, packet: Packet) -> None:
        """Any other packet came."""

    def on_end(self, error: GrpcError | None) -> None:
        """Nothing more will come: the peer ended its side (None), or the stream is lost."""


class PacketStream:
    """See the module. `start` it once the stream's head has been sent, or has come.

    Args:
      packets: counts what comes as ``incoming``, and what goes as ``outgoing``.
    """

    def __init__(
        self, end: StreamEnd, user: PacketUser, packets: Packets, *, incoming: str, outgoing: str
    ) -> None:
        self.end = end
        self._user = user
        self._packets = packets
        self._incoming, self._outgoing = incoming, outgoing
        self._data_in = (incoming, PacketType.DATA.name)
        self._data_out = (outgoing, PacketType.DATA.name)
        self._reader = MessageReader(self._on_message)
        self._turns: deque[Turn] = deque()
        self._serving = False
        self._owed = 0
        """Octets that came and may be credited; negative while more is held back than came since
        its credit was given: parts of a message are credited before the whole is there."""
        self._receiving = False
        """Whether octets are being taken in: what is held back of them is not known yet."""
        self.over = False
        """Whether nothing more is taken in."""

    def start(self) -> None:
        """Take what came already, and all that follows."""
        self.end.attach(self, self)
        self.end.start()

    # -- sending ------------------------------------------------------------------------------

    def send(self, packet: Packet) -> None:
        """Send a control packet, now or as soon as windows allow; nothing if the stream is gone."""
        if not self.end.stream.can_send:
            return
        message = serialize(packet)
        self._packets[self._outgoing, type_name(packet)] += 1
        self.end.deliver(memoryview(prefix(len(message)) + message), False)
        if self.end.backlog > _MAX_BACKLOG:
            text = f"{self.end.backlog} octets of control packets wait to be read"
            self._end(GrpcError(Status.RESOURCE_EXHAUSTED, text))

    def room(self, turn: Turn) -> int:
        """Octets of payload that fit now; if 0, ``turn.resume()`` comes later, once."""
        if self._serving or not self._turns:
            room = self.end.room(self, _OVERHEAD + 1)
            if room:
                return min(room - _OVERHEAD, MAX_DATA)
        self._turns.append(turn)
        return 0

    def view(self, head: int, size: int) -> memoryview:
        """Where ``size`` octets of payload may be received, ``head`` octets left before them."""
        return self.end.view(head + size)[head:]

    def commit(self, connect_id: int, head: int, size: int) -> None:
        """Make a packet of ``size`` octets that were written into `view`."""
        header = data_header(connect_id, size)
        header = prefix(len(header) + size) + header
        length = len(header)
        view = self.end.view(head + size)
        if length < head:  # a short payload has a shorter header
            view[length : length + size] = view[head:]
        view[:length] = header
        self._packets[self._data_out] += 1
        self.end.commit(length + size)

    def resume(self) -> None:
        """The stream has room: let those who wait send in turn."""
        self._serving = True
        try:
            while self._turns and self.end.room(self, _OVERHEAD + 1):
                self._turns.popleft().resume()
        finally:
            self._serving = False

    @property
    def starved(self) -> bool:
        """Whether somebody waits for the peer to open the stream's window."""
        waits = self._turns or self.end.backlog
        return bool(waits) and self.end.stream.send_window <= _OVERHEAD

    # -- receiving ----------------------------------------------------------------------------

    def deliver(self, data: memoryview, end: bool) -> None:
        """Octets of the stream."""
        if self.over:
            self.end.credit(len(data))
            return
        self._owed += len(data)
        self._receiving = True
        try:
            self._reader.feed(data)
        except GrpcError as exc:
            self._end(exc)
        except PacketError as exc:
            self._end(undecodable(exc))
        finally:
            self._receiving = False
        self._pay()
        if end and not self.over:
            cut = not self._reader.empty
            text = "the stream ended amid a message"
            self._end(GrpcError(Status.INTERNAL, text) if cut else None)

    def release(self, size: int) -> None:
        """``size`` octets that `PacketUser.on_data` held back have been used up."""
        self._owed += size
        self._pay()

    def _pay(self) -> None:
        if self._owed > 0 and not self._receiving and self.end.stream.can_receive:
            owed, self._owed = self._owed, 0
            self.end.credit(owed)

    def _on_message(self, message: memoryview) -> None:
        if self.over:
            return
        packet = parse(message)
        if type(packet) is Data:
            self._packets[self._data_in] += 1
            if packet.data:
                # Two steps: `_owed` may change amid the call.
                held_back = self._user.on_data(packet.connect_id, memoryview(packet.data))
                self._owed -= held_back
            return
        self._packets[self._incoming, type_name(packet)] += 1
        self._user.on_packet(packet)

    def _end(self, error: GrpcError | None) -> None:
        if not self.over:
            self.over = True
            self._user.on_end(error)

    # -- towards the stream: its relay, and that relay's other end ----------------------------

    has_all = False

    def fail(self, error: str) -> None:
        """The stream is lost."""
        self._end(GrpcError(Status.UNAVAILABLE, error))

    def way_ended(self) -> None:
        """Our side ends by trailers, which nobody waits for."""

    def credit(self, size: int) -> None:
        """Control packets have left, or data has that was never counted here."""


_NAMES = {
    DialRequest: PacketType.DIAL_REQ.name,
    DialResponse: PacketType.DIAL_RSP.name,
    CloseRequest: PacketType.CLOSE_REQ.name,
    CloseResponse: PacketType.CLOSE_RSP.name,
    Data: PacketType.DATA.name,
    CloseDial: PacketType.DIAL_CLS.name,
    Drain: PacketType.DRAIN.name,
}


def type_name(packet: Packet) -> str:
    """As metrics name a packet's type; the number of one that has no name."""
    return str(packet.type) if isinstance(packet, Unknown) else _NAMES[type(packet)]
