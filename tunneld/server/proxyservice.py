"""ProxyService/Proxy: konnectivity's gRPC frontend. One stream for each dial and its connection.

The client is `konnectivity-client`, in kube-apiserver among others. What it expects decides the
details: that a dial which failed leaves the stream open, and that the stream ends when it says so.
"""

import math

import structlog
import trio

from frames.grpc import GrpcError, Request, Status, response_headers
from frames.packet import (
    CloseDial,
    CloseRequest,
    CloseResponse,
    DialRequest,
    DialResponse,
    Packet,
)
from tunneld.caller import Caller
from tunneld.conns import Conn
from tunneld.dialing import AGENT_TIMEOUT, NO_AGENT, DialError
from tunneld.packetstream import PacketStream
from tunneld.reactor import Reactor, Timer
from tunneld.relay import DialledEnd, Relay
from tunneld.server.dialer import Dialer
from tunneld.server.frontchannel import FrontChannel
from tunneld.server.hold import FirstByteHold
from tunneld.streamend import StreamEnd
from tunneld.telemetry import (
    FROM_CLIENT,
    NO_PACKET,
    PROXY,
    SEND_RESPONSE,
    TO_CLIENT,
    ServerTelemetry,
)

log = structlog.get_logger(__name__)

_LONGEST_WAIT = 1.0
"""Seconds that a client gets to read the answer to its dial."""
_REMINDER = 1.0
_LAST_REMINDER = 8.0
"""Seconds after a connection's end, the first time and the last, doubled in between."""
_WORDINGS = {NO_AGENT: "No agent available", AGENT_TIMEOUT: "timed out waiting for backend dial"}
"""What clients know failures of ours by; an agent's own goes to them as it is."""
_MAX_TEXT = 16_000
"""Characters of an agent's own: it may say 4 MiB, and with more behind it no client takes that."""


def _worded(error: DialError) -> str:
    """For DIAL_RSP, whose clients look for a wording in the text: the dial's id is behind it."""
    text = _WORDINGS.get(error.kind, str(error))[:_MAX_TEXT]
    return f"{text} (dial {error.dial})"


class ProxyService:
    """Serves the calls of all clients of a server."""

    def __init__(
        self, reactor: Reactor, dialer: Dialer, hold: FirstByteHold, telemetry: ServerTelemetry
    ) -> None:
        self._reactor = reactor
        self._dialer = dialer
        self._hold = hold
        self._telemetry = telemetry

    async def serve(self, caller: Caller, end: StreamEnd, request: Request) -> None:
        """Serve one call to its end.

        Raises:
          GrpcError: the call does not end well.
        """
        self._telemetry.grpc_connections[PROXY] += 1
        proxy = _Proxy(caller, end, self._reactor, self._dialer, self._hold, self._telemetry)
        try:
            with trio.fail_after(math.inf if request.timeout is None else request.timeout):
                if not end.respond(response_headers(request.content_type)):
                    text = end.lost or "the client takes no such head"
                    raise GrpcError(Status.CANCELLED, text)
                await proxy.run()
        except trio.TooSlowError:
            raise GrpcError(Status.DEADLINE_EXCEEDED, "context deadline exceeded") from None
        finally:
            self._telemetry.grpc_connections[PROXY] -= 1


class _Proxy:
    """One call: at most one dial, and one connection."""

    def __init__(
        self,
        caller: Caller,
        end: StreamEnd,
        reactor: Reactor,
        dialer: Dialer,
        hold: FirstByteHold,
        telemetry: ServerTelemetry,
    ) -> None:
        self._caller = caller
        self._reactor = reactor
        self._dialer = dialer
        self._hold = hold
        self._telemetry = telemetry
        self._packets = PacketStream(
            end, self, telemetry.stream_packets_total, incoming=FROM_CLIENT, outgoing=TO_CLIENT
        )
        self._request: DialRequest | None = None
        self._channel: FrontChannel | None = None
        self._reminder: Timer | None = None
        self._closed_id = 0
        """Of the connection that is over."""
        self._deaf = False
        """Whether everything that the client still sends is ignored."""
        self._stirred = trio.Event()
        """Set when there is a dial to make, or the client has ended."""
        self._ended = trio.Event()
        self._error: GrpcError | None = None
        self._dialling = trio.CancelScope()

    async def run(self) -> None:
        """Serve until the client ends the stream.

        Raises:
          GrpcError: it did not end it well.
        """
        self._packets.start()
        await self._stirred.wait()
        if self._request is not None:
            await self._dial(self._request)
        await self._ended.wait()
        if self._error is not None:
            raise self._error

    async def _dial(self, request: DialRequest) -> None:
        async def carry(dialled: DialledEnd, conn: Conn) -> None:
            await self._carry(request, dialled, conn)

        with self._dialling:
            try:
                await self._dialer.connect(
                    self._caller,
                    request.address,
                    carry,
                    protocol=request.protocol,
                    entry="gRPC ProxyService",
                )
            except DialError as exc:
                self._deaf = True
                self._packets.send(DialResponse(_worded(exc), 0, request.random))

    async def _carry(self, request: DialRequest, dialled: DialledEnd, conn: Conn) -> None:
        self._channel = channel = FrontChannel(
            self._packets, conn.number, self._reactor, self._forget, dialled, self._telemetry
        )
        conn.octets = lambda: (channel.received, channel.sent)
        self._hold.hold(dialled, 0)
        self._packets.send(DialResponse("", conn.number, request.random))
        if not self._packets.end.stream.can_send:
            self._telemetry.dial_failure_count[SEND_RESPONSE] += 1
        self._release_when_read(dialled)
        conn.relay = relay = Relay(channel, dialled)
        await relay.run()

    def _release_when_read(self, dialled: DialledEnd) -> None:
        """Begin the hold of the endpoint's first octets when the client has read the answer: that
        it has is what a PING behind it tells, however busy the client's machine is."""

        begun = False

        def begin() -> None:
            nonlocal begun
            if not begun:
                begun = True
                self._hold.begin(dialled, None)

        self._packets.end.session.pings.probe(begin)
        self._reactor.call_later(_LONGEST_WAIT, self, begin)

    def _forget(self) -> None:
        """The connection is over; what the client still says of it is no news."""
        assert self._channel is not None
        self._closed_id = self._channel.connect_id
        self._channel = None
        self._deaf = True
        if not self._ended.is_set():
            self._remind(_REMINDER)

    def _remind(self, delay: float) -> None:
        """Say once more, later, that the connection is over: a client that got to know it by our
        answer to its dial, and to read on before it had noted that, has dropped the first word. It
        would wait for ever."""

        def remind() -> None:
            self._packets.send(CloseResponse("", self._closed_id))
            if delay < _LAST_REMINDER:
                self._remind(delay * 2)

        self._reminder = self._reactor.call_later(delay, self, remind)

    def fail(self, error: Exception) -> None:
        """An error of ours, which the reactor has logged."""
        self.on_end(GrpcError(Status.INTERNAL, f"internal error: {error}"))

    # -- from the packet stream ---------------------------------------------------------------

    def on_data(self, connect_id: int, data: memoryview) -> int:
        if self._deaf or not connect_id:
            return 0
        channel = self._channel
        if self._request is None:
            self._deaf = True
            self._packets.send(CloseResponse("backend not initialized", connect_id))
        elif channel is None or connect_id != channel.connect_id:
            self._mismatch(connect_id)
        else:
            return channel.receive(data)
        return 0

    def on_packet(self, packet: Packet) -> None:
        if self._deaf:
            if isinstance(packet, CloseRequest) and packet.connect_id == self._closed_id:
                self._packets.send(CloseResponse("", self._closed_id))
            return
        match packet:
            case DialRequest() if self._request is None:
                self._request = packet
                self._stirred.set()
            case DialRequest():
                text = "this stream has made its dial: open another stream"
                self._packets.send(DialResponse(text, 0, packet.random))
            case CloseDial():
                if self._request is not None and packet.random == self._request.random:
                    self._give_up()
            case CloseRequest():
                self._close(packet.connect_id)

    def on_end(self, error: GrpcError | None) -> None:
        self._error = error
        if error is not None:
            # A client that leaves without ending the stream has cancelled it, as upstream sees it.
            lost = error.status is Status.UNAVAILABLE
            status = Status.CANCELLED if lost else error.status
            self._telemetry.stream_errors_total[FROM_CLIENT, status.text, NO_PACKET] += 1
        channel = self._channel
        if channel is None:
            self._dialling.cancel()
        elif error is None:
            channel.peer_closed("")
        else:
            channel.lose(f"client: {error.message}")
        if self._reminder is not None:
            self._reminder.cancel()
        self._ended.set()
        self._stirred.set()

    def _give_up(self) -> None:
        """The client does not want its dial any more; a connection that stands already it closes
        by another word."""
        if self._channel is None:
            self._deaf = True
            self._dialling.cancel()

    def _close(self, connect_id: int) -> None:
        channel = self._channel
        if self._request is None:
            self._packets.send(CloseResponse("backend uninitialized", connect_id))
        elif channel is not None and connect_id == channel.connect_id:
            channel.peer_closed("")
        else:
            self._packets.send(CloseResponse("Unknown connectID", connect_id))

    def _mismatch(self, connect_id: int) -> None:
        """Data of another connection than the stream's: both are closed, the other one first. A
        dial is given up: nobody would hear what its client wants of it."""
        self._deaf = True
        text = "mismatched connection IDs"
        self._packets.send(CloseResponse(text, connect_id))
        if self._channel is not None:
            self._channel.reject(text)
        else:
            self._dialling.cancel()
