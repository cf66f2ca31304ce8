"""A tunnel to a konnectivity agent, as the server sees it: one AgentService/Connect stream.

It has the face of `tunneld.server.tunnel.Tunnel`. Dials are named by numbers of ours, connections
by the stream and the agent's connect id: two agents with one id, or two clients with one number,
never get each other's octets.
"""

import itertools
import random
import time

import structlog
import trio

from frames.grpc import GrpcError, Status
from frames.packet import (
    CloseDial,
    CloseRequest,
    CloseResponse,
    DialRequest,
    DialResponse,
    Drain,
    Packet,
)
from tunneld.agentinfo import AgentInfo
from tunneld.dialing import TUNNEL_LOST, DialError
from tunneld.dialrecord import DialRecord
from tunneld.packetstream import PacketStream
from tunneld.reactor import Reactor
from tunneld.server.claims import Claims
from tunneld.server.dialledchannel import DialledChannel
from tunneld.streamend import StreamEnd
from tunneld.telemetry import (
    CONNECT,
    FROM_AGENT,
    NO_PACKET,
    TO_AGENT,
    TO_CLIENT,
    UNRECOGNIZED_RESPONSE,
    ServerTelemetry,
)

log = structlog.get_logger(__name__)

_MAX_STARVED = 30.0
"""Seconds without window, while octets wait, after which no more dials go this way."""
_MAX_CLOSING = 100_000
"""Connections that an agent may leave unconfirmed to be over."""
_STARVED_CHECK = 1.0

_randoms = itertools.count(random.SystemRandom().getrandbits(48))
"""Numbers of dials; unique in this process."""


class _Dial:
    """A dial that waits for the agent's answer."""

    def __init__(self) -> None:
        self.decided = trio.Event()
        self.channel: DialledChannel | None = None
        self.error: DialError | None = None

    def fail(self, error: DialError) -> None:
        self.error = error
        self.decided.set()


class PacketTunnel:
    """See the module. `start` it; then `dial` until `over` is set.

    Args:
      grace: seconds that a client's half-close waits for a silent endpoint (`DialledChannel`).
    """

    def __init__(
        self,
        end: StreamEnd,
        reactor: Reactor,
        telemetry: ServerTelemetry,
        info: AgentInfo,
        claims: Claims,
        peer: str,
        grace: float,
    ) -> None:
        self.info = info
        self.claims = claims
        self.peer = peer
        self.since = time.time()
        self.protocol = "h2"
        self.identity = ""
        self.conns = 0
        """Relays and dials under way."""
        self.dials = 0
        """Dials so far."""
        self.draining = False
        self.over = trio.Event()
        """Set when the stream has ended."""
        self.error: GrpcError | None = None
        """Why, if it did not end as streams do."""
        self._end = end
        self._reactor = reactor
        self._telemetry = telemetry
        self._grace = grace
        self._packets = PacketStream(
            end, self, telemetry.stream_packets_total, incoming=FROM_AGENT, outgoing=TO_AGENT
        )
        self._pending: dict[int, _Dial] = {}
        self._channels: dict[int, DialledChannel] = {}
        self._closing: set[int] = set()
        """Connect ids that the agent has not confirmed to be over."""
        self._starved_since: float | None = None
        self._sent_before = 0
        self._warned = False

    def start(self) -> None:
        """Take packets, those that came already first."""
        self._packets.start()
        self._watch_window()

    @property
    def usable(self) -> bool:
        """Whether a dial can go this way now."""
        return not self.over.is_set() and not self.stuck

    @property
    def stuck(self) -> bool:
        """Whether the agent has given no window for so long that a new dial would only wait too:
        an endpoint behind it does not read, and it reads nothing before that does."""
        since = self._starved_since
        return since is not None and trio.current_time() - since >= _MAX_STARVED

    @property
    def state(self) -> str:
        """For `tunnelctl agents`."""
        if self.stuck:
            return "stuck"
        return "draining" if self.draining else "ready"

    @property
    def rtt(self) -> float | None:
        """Seconds; None before it is known."""
        return self._end.session.pings.rtt

    async def answers(self) -> None:
        await self._end.session.pings.answered()

    def kill(self, reason: str) -> None:
        self.close(reason)
        self._end.session.drain()

    def drain(self) -> None:
        """End the stream; for when nothing goes through it any more. A GOAWAY before that would
        make a Go agent drop all its connections within a second."""
        self.close("the server is shutting down")
        self._end.session.drain()

    def close(self, reason: str) -> None:
        """Let go of everything that goes through this tunnel."""
        self._finish(GrpcError(Status.UNAVAILABLE, reason))

    def leave(self) -> None:
        """The protocol has no word for it."""

    can_leave = False
    checks_addresses = False
    """The protocol has no way to tell the agent which addresses are denied."""

    async def dial(
        self, address: str, protocol: str, timeout: float, record: DialRecord, rules: str
    ) -> DialledChannel:
        """Have the agent connect to ``address``, which goes to its dialer as it is.

        Cancelling it gives the dial up, at the agent too.
        Args:
          rules: none; who cannot be told any is asked only for what needs none.
        Raises:
          DialError: it could not.
          trio.TooSlowError: there was no answer in ``timeout`` seconds.
        """
        for channel in list(self._channels.values()) if self.is_alone() else ():
            channel.make_way()
        number = next(_randoms) & 0x7FFFFFFFFFFFFFFF
        dial = self._pending[number] = _Dial()
        self._packets.send(DialRequest(protocol, address, number))
        try:
            with trio.fail_after(timeout):
                await dial.decided.wait()
        except BaseException:
            if dial.channel is not None:  # too late for whoever asked
                dial.channel.abort()
            raise
        finally:
            if self._pending.pop(number, None) is not None:
                self._packets.send(CloseDial(number))
        if dial.error is not None:
            raise dial.error
        assert dial.channel is not None
        return dial.channel

    # -- from the packet stream ---------------------------------------------------------------

    def on_data(self, connect_id: int, data: memoryview) -> int:
        channel = self._channels.get(connect_id)
        if channel is not None:
            return channel.receive(data)
        if connect_id and connect_id not in self._closing:
            self._refuse(connect_id)
        return 0

    def on_packet(self, packet: Packet) -> None:
        match packet:
            case DialResponse():
                self._dialled(packet)
            case CloseResponse():
                self._closed(packet)
            case CloseDial():
                self._fail_dial(packet.random, "the agent gave the dial up")
            case Drain():
                if not self.draining:
                    log.info("agent is draining", agent=self.info.agent_id, peer=self.peer)
                self.draining = True

    def on_end(self, error: GrpcError | None) -> None:
        if error is not None and not self.over.is_set():
            # An agent that leaves without ending the stream has cancelled it, as upstream sees it.
            lost = error.status is Status.UNAVAILABLE
            status = Status.CANCELLED if lost else error.status
            self._telemetry.stream_errors_total[FROM_AGENT, status.text, NO_PACKET] += 1
        self._finish(error)

    def _finish(self, error: GrpcError | None) -> None:
        if self.over.is_set():
            return
        self.error = error
        self.over.set()
        self._note_window(starved=False)
        for number in list(self._pending):
            # The wording is upstream's, for its clients.
            self._fail_dial(number, "Backend context error: context canceled")
        reason = f"tunnel of agent {self.info.agent_id} lost: {error.message if error else 'ended'}"
        for channel in list(self._channels.values()):
            channel.lose(reason)

    def fail(self, error: Exception) -> None:
        """An error of ours, which the reactor has logged."""
        self.close(f"internal error: {error}")

    def _dialled(self, packet: DialResponse) -> None:
        dial = self._pending.pop(packet.random, None)
        if dial is None:
            self._telemetry.dial_failure_count[UNRECOGNIZED_RESPONSE] += 1
            if packet.connect_id and not packet.error:
                self._refuse(packet.connect_id)
        elif packet.error:
            dial.fail(DialError.from_text(packet.error))
        elif packet.connect_id in self._channels or packet.connect_id in self._closing:
            text = f"agent {self.info.agent_id} used connect id {packet.connect_id} twice"
            dial.fail(DialError(TUNNEL_LOST, text))
        elif not packet.connect_id:
            text = f"agent {self.info.agent_id} answered without a connect id"
            dial.fail(DialError(TUNNEL_LOST, text))
        else:
            dial.channel = self._open(packet.connect_id)
            dial.decided.set()

    def _open(self, connect_id: int) -> DialledChannel:
        channel = self._channels[connect_id] = DialledChannel(
            self._packets,
            connect_id,
            self._reactor,
            lambda: self._forget(connect_id),
            self,
            self._grace,
            self._telemetry.frontend_write_duration_seconds,
        )
        return channel

    def _forget(self, connect_id: int) -> None:
        channel = self._channels.pop(connect_id)
        if not channel.closed_by_peer and not self.over.is_set():
            self._closing.add(connect_id)

    def _refuse(self, connect_id: int) -> None:
        """A connection that nobody wants, or knows."""
        self._closing.add(connect_id)
        self._packets.send(CloseRequest(connect_id))
        if len(self._closing) > _MAX_CLOSING:
            self.close(f"{len(self._closing)} connections not confirmed to be over")

    def _closed(self, packet: CloseResponse) -> None:
        self._closing.discard(packet.connect_id)
        channel = self._channels.get(packet.connect_id)
        if channel is not None:
            channel.peer_closed(packet.error)

    def _fail_dial(self, number: int, text: str) -> None:
        dial = self._pending.pop(number, None)
        if dial is not None:
            dial.fail(DialError(TUNNEL_LOST, text))

    # -- sharing ------------------------------------------------------------------------------

    def is_alone(self) -> bool:
        return len(self._channels) == 1 and not self._pending

    def overran(self) -> None:
        self._telemetry.tunneld_overrun_connections_total[TO_CLIENT] += 1
        log.warning(
            "connection closed: its client does not read, and others need the tunnel",
            agent=self.info.agent_id,
        )

    def withholds(self, change: int) -> None:
        self._telemetry.full_receive_channels[CONNECT] += change

    def _watch_window(self) -> None:
        if not self.over.is_set():
            sent, self._sent_before = self._sent_before, self._end.sent
            self._note_window(starved=self._packets.starved and sent == self._sent_before)
            self._reactor.call_later(_STARVED_CHECK, self, self._watch_window)

    def _note_window(self, starved: bool) -> None:
        """Keep count of how long the agent has left us without window."""
        if starved and self._starved_since is None:
            self._starved_since = trio.current_time()
            self._telemetry.tunneld_stalls.begin()
        elif not starved and self._starved_since is not None:
            self._starved_since = None
            self._telemetry.tunneld_stalls.end()
        if self.stuck and not self._warned:
            log.warning(
                "agent is stuck, it gets no more dials: it has not read for long, as when an"
                " endpoint behind it does not",
                agent=self.info.agent_id,
                peer=self.peer,
            )
        self._warned = self.stuck
