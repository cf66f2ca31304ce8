"""A connection as the server has it towards a konnectivity agent."""

import time
from collections.abc import Callable

from frames.packet import CloseRequest, Packet
from tunneld.channelend import LINGER
from tunneld.packetstream import PacketStream
from tunneld.reactor import Reactor
from tunneld.sharedchannel import SharedChannel, Sharing
from tunneld.telemetry import Histogram

_PAUSE = 0.1
"""Seconds between a client's last octets and a CLOSE_REQ: a Go agent drops what its endpoint has
not taken by then."""
_ANSWER_TIMEOUT = 10.0
"""Seconds that an agent has to answer a CLOSE_REQ."""


class DialledChannel(SharedChannel):
    """See the module. We ask with CLOSE_REQ, the agent says with CLOSE_RSP that it is over.

    A client that half-closes may still wait for an answer, which CLOSE_REQ would cut off. So that
    goes out only when the endpoint has been silent for a while.

    Args:
      grace: seconds of silence.
      write_seconds: observes how long the client takes to take what came.
    """

    def __init__(
        self,
        packets: PacketStream,
        connect_id: int,
        reactor: Reactor,
        on_closed: Callable[[], None],
        sharing: Sharing,
        grace: float,
        write_seconds: Histogram,
    ) -> None:
        super().__init__(packets, connect_id, reactor, on_closed, sharing)
        self._grace = grace
        self._write_seconds = write_seconds
        self._write_begun = 0.0
        self._sent_at = 0.0
        self._nobody_listens = False
        self._received_before = 0

    def receive(self, data: memoryview) -> int:
        if not self._queued:
            self._write_begun = time.monotonic()
        return super().receive(data)

    def commit(self, size: int) -> None:
        self._sent_at = time.monotonic()
        super().commit(size)

    def credit(self, size: int) -> None:
        super().credit(size)
        if not self._queued:
            self._write_seconds.observe(time.monotonic() - self._write_begun)

    def hang_up(self) -> None:
        """The client does not wait for anything more."""
        self._nobody_listens = True
        if self._finished:
            self._ask_soon()

    def peer_closed(self, error: str) -> None:
        if self._closed_by_peer:
            return
        self._closed_by_peer = True
        if error and not self._said_close:
            self._fail(f"agent: {error}")
            return
        self._drop_outbox()
        self._deliver_end()
        self._stop_in(LINGER)

    def _close_packet(self, error: str) -> Packet:
        return CloseRequest(self.connect_id)

    def _source_ended(self) -> None:
        if self._nobody_listens or not self._grace:
            self._ask_soon()
        else:
            self._wait_for_silence()

    def _wait_for_silence(self) -> None:
        self._received_before = self.received
        self._call_later(self._grace, self._grace_over)

    def _grace_over(self) -> None:
        if self.received == self._received_before:
            self._ask()
        elif not self._gone:
            self._wait_for_silence()

    def _ask_soon(self) -> None:
        pause = self._sent_at + _PAUSE - time.monotonic()
        if pause > 0:
            self._call_later(pause, self._ask)
        else:
            self._ask()

    def _ask(self) -> None:
        if not (self._gone or self._said_close or self._closed_by_peer):
            self._say_close()
            self._call_later(_ANSWER_TIMEOUT, self._not_answered)

    def _not_answered(self) -> None:
        if not self._gone and not self._closed_by_peer:
            self._fail(f"agent: no answer to CLOSE_REQ in {_ANSWER_TIMEOUT:.0f} s")
