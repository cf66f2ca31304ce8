"""A connection as the agent has it towards a konnectivity server."""

from frames.packet import CloseResponse, Packet
from tunneld.channelend import LINGER
from tunneld.sharedchannel import SharedChannel

UNKNOWN_DATA = "unrecognized connectID"
UNKNOWN_CLOSE = "Unknown connectID"
"""Errors of CLOSE_RSP for a connection that there is not, upstream's: for DATA and CLOSE_REQ."""

_DELIVERY_TIMEOUT = 10.0
"""Seconds that an endpoint has to take what came before the connection ended."""


class EndpointChannel(SharedChannel):
    """See the module. The server asks with CLOSE_REQ, we say with CLOSE_RSP that it is over: once
    the endpoint has got what came before. For the server, there is no such connection from then
    on; here, it may take the endpoint a moment to end."""

    def receive(self, data: memoryview) -> int:
        if self._said_close:
            self._packets.send(CloseResponse(UNKNOWN_DATA, self.connect_id))
            return 0
        return super().receive(data)

    def peer_closed(self, error: str = "") -> None:
        if self._said_close:
            self._packets.send(CloseResponse(UNKNOWN_CLOSE, self.connect_id))
        elif not self._closed_by_peer:
            self._closed_by_peer = True
            self._deliver_end()
            if self._queued:
                self._reactor.call_later(_DELIVERY_TIMEOUT, self, self._check_delivered)
            else:
                self._answer()

    def credit(self, size: int) -> None:
        super().credit(size)
        if self._closed_by_peer and not self._queued:
            self._answer()

    def abort(self) -> None:
        if self._closed_by_peer:
            self._answer()
        super().abort()

    def _close_packet(self, error: str) -> Packet:
        return CloseResponse(error, self.connect_id)

    def _source_ended(self) -> None:
        """The endpoint has ended its way, and the protocol has no word for that: both end."""
        if not self._said_close:
            self._say_close()
            self._deliver_end()
            self._reactor.call_later(_DELIVERY_TIMEOUT, self, self._check_delivered)

    def _answer(self) -> None:
        if not self._said_close:
            self._say_close()
            self._stop_in(LINGER)

    def _check_delivered(self) -> None:
        if not self._gone and self._queued:
            self._fail(f"endpoint: octets not taken in {_DELIVERY_TIMEOUT:.0f} s")
