"""A connection as the agent has it towards a konnectivity server."""

from frames.packet import CloseResponse, Packet
from tunneld.channelend import LINGER
from tunneld.relay import Source
from tunneld.sharedchannel import SharedChannel

UNKNOWN_DATA = "unrecognized connectID"
UNKNOWN_CLOSE = "Unknown connectID"
"""Errors of CLOSE_RSP for a connection that there is not, upstream's: for DATA and CLOSE_REQ."""

_DELIVERY_TIMEOUT = 10.0
"""Seconds that an endpoint has to take what came before the connection ended."""


class EndpointChannel(SharedChannel):
    """See the module. The server asks with CLOSE_REQ, we say with CLOSE_RSP that it is over: once
    the endpoint has got what came before. For the server, there is no such connection from then
    on; here, it may take the endpoint a moment to end.

    What the endpoint says first is left with it for a moment, unless something comes for it: Go's
    server and client lose octets that follow the answer to a dial too closely.
    """

    _silent = False
    """Whether the endpoint's octets are not to be read yet."""

    def be_silent(self, delay: float) -> None:
        """Read nothing of the endpoint for so many seconds."""
        if delay:
            self._silent = True
            self._call_later(delay, self._speak)

    def _speak(self) -> None:
        if self._silent:
            self._silent = False
            self.resume()

    def room(self, source: Source) -> int:
        if self._silent and not self._is_sink:
            self._source = source
            return 0
        return super().room(source)

    def receive(self, data: memoryview) -> int:
        if self._silent:
            self._reactor.call_next_turn(self, self._speak)
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
                self._call_later(_DELIVERY_TIMEOUT, self._check_delivered)
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
            self._call_later(_DELIVERY_TIMEOUT, self._check_delivered)

    def _answer(self) -> None:
        if not self._said_close:
            self._say_close()
            self._stop_in(LINGER)

    def _check_delivered(self) -> None:
        if not self._gone and self._queued:
            self._fail(f"endpoint: octets not taken in {_DELIVERY_TIMEOUT:.0f} s")
