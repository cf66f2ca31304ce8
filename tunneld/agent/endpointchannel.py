"""A connection as the agent has it towards a konnectivity server."""

from frames.packet import CloseResponse, Packet
from tunneld.channelend import LINGER
from tunneld.sharedchannel import SharedChannel

_DELIVERY_TIMEOUT = 10.0
"""Seconds that an endpoint has to take what came before a CLOSE_REQ."""


class EndpointChannel(SharedChannel):
    """See the module. The server asks with CLOSE_REQ, we say with CLOSE_RSP that it is over: once
    the endpoint has got what came before."""

    def peer_closed(self, error: str = "") -> None:
        if self._closed_by_peer or self._said_close:
            return
        self._closed_by_peer = True
        self._deliver_end()
        if self._queued:
            self._reactor.call_later(_DELIVERY_TIMEOUT, self, self._not_delivered)
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

    def _answer(self) -> None:
        if not self._said_close:
            self._say_close()
            self._stop_in(LINGER)

    def _not_delivered(self) -> None:
        if not self._said_close and not self._gone:
            self._fail(f"endpoint: octets not taken in {_DELIVERY_TIMEOUT:.0f} s")
