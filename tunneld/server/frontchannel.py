"""A connection as the server has it towards a konnectivity client: the only one of its stream."""

from collections.abc import Callable

from frames.packet import CloseResponse, Packet
from tunneld.channelend import LINGER, ChannelEnd
from tunneld.packetstream import PacketStream
from tunneld.reactor import Reactor
from tunneld.relay import DialledEnd
from tunneld.telemetry import PROXY, ServerTelemetry

_DELIVERY_TIMEOUT = 10.0
"""Seconds that an endpoint which has ended has to take what the client said before."""
_FULL = 10 * 32 * 1024
"""Octets that wait for the endpoint when a client counts as waiting: upstream's ten packets."""


class FrontChannel(ChannelEnd):
    """See the module. The client asks with CLOSE_REQ, we say with CLOSE_RSP that it is over; what
    came before it is carried, both ways.

    Having the stream to itself, it lets the stream's window wait for the other end.

    Args:
      dialled: the other end, to be told when the client wants no more.
    """

    def __init__(
        self,
        packets: PacketStream,
        connect_id: int,
        reactor: Reactor,
        on_closed: Callable[[], None],
        dialled: DialledEnd,
        telemetry: ServerTelemetry,
    ) -> None:
        super().__init__(packets, connect_id, reactor, on_closed)
        self._dialled = dialled
        self._telemetry = telemetry
        self._full = False

    def credit(self, size: int) -> None:
        super().credit(size)
        if not self._gone:  # then all has been credited
            self._packets.release(size)
        self._note_full()

    def peer_closed(self, error: str) -> None:
        if not self._closed_by_peer:
            self._end_dialled("the client has closed", LINGER)

    def abort(self) -> None:
        if self._closed_by_peer and not self._said_close and not self._gone:
            error = self._relay.error if self._relay is not None else None
            self._say_close(error or "")  # it waits for that
        super().abort()

    def reject(self, error: str) -> None:
        """The client breaks the protocol: close the connection."""
        if not self._said_close:
            self._say_close(error)
        self._fail(error)

    @property
    def _is_sink(self) -> bool:
        return self._said_close

    def _hold_back(self, size: int) -> int:
        self._note_full()
        return size

    def _note_full(self) -> None:
        full = self._queued > _FULL and not self._gone
        if full != self._full:
            self._full = full
            self._telemetry.full_receive_channels[PROXY] += 1 if full else -1

    def _let_go(self) -> None:
        waiting = 0 if self._gone else self._queued
        super()._let_go()
        self._packets.release(waiting)
        self._note_full()

    def _close_packet(self, error: str) -> Packet:
        return CloseResponse(error, self.connect_id)

    def _source_ended(self) -> None:
        if not self._said_close:
            self._say_close()
        if not self._closed_by_peer:
            self._end_dialled("the endpoint has closed", _DELIVERY_TIMEOUT)

    def _end_dialled(self, why: str, limit: float) -> None:
        """Nothing more goes to the endpoint, which has ``limit`` seconds to end, too: a client
        waits for our answer, and an endpoint perhaps for nothing we could know of."""
        self._closed_by_peer = True
        self._deliver_end()
        self._dialled.hang_up()
        self._call_later(limit, lambda: self._waited_long_enough(why))

    def _waited_long_enough(self, why: str) -> None:
        if not self._gone:
            if not self._said_close:
                self._say_close()
            self._fail(why)
