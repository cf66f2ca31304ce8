"""What a konnectivity server has the agent do: dials, and the connections that come of them."""

import contextvars
import itertools
import random

import structlog
import trio

from frames.grpc import GrpcError, Status
from frames.packet import (
    CloseDial,
    CloseRequest,
    CloseResponse,
    DialRequest,
    DialResponse,
    Packet,
)
from tunneld.agent.connect import connect
from tunneld.agent.endpointchannel import UNKNOWN_CLOSE, UNKNOWN_DATA, EndpointChannel
from tunneld.agent.intake import Intake
from tunneld.agent.packetcall import error_of_end
from tunneld.agent.policy import DestinationPolicy
from tunneld.agent.target import parse_target
from tunneld.caller import SERVER
from tunneld.conns import Conn, Conns
from tunneld.dialing import TIMEOUT, DialError
from tunneld.events import Event, emit
from tunneld.packetstream import PacketStream
from tunneld.quota import LimitedError, Visit
from tunneld.reactor import Reactor
from tunneld.relay import Relay, RelayError
from tunneld.socketend import SocketEnd
from tunneld.streamend import StreamEnd
from tunneld.telemetry import (
    DIAL_TIMEOUT,
    DIAL_UNKNOWN,
    FROM_AGENT,
    FROM_SERVER,
    NO_PACKET,
    TO_AGENT,
    TO_ENDPOINT,
    AgentTelemetry,
)
from tunneld.transport.plain import PlainTransport

log = structlog.get_logger(__name__)

_FIRST_IDS = 1 << 30
"""Connections are numbered from below this on, at random. Go's server tells them by agent id and
number: two agents of one id that both began with 1 would get each other's octets."""
_STUCK = 5.0
"""Seconds that an endpoint may take nothing while it keeps the window from the server."""
_WINDOW_CHECK = 1.0


class PacketDials:
    """The dials of one stream of packets. `start` it once the stream's head has come.

    Args:
      tasks: where dials and connections run.
      timeout: seconds for connecting to an endpoint, name resolution included.
      hold: seconds that an endpoint which speaks first has to wait.
    """

    def __init__(
        self,
        reactor: Reactor,
        end: StreamEnd,
        tasks: trio.Nursery,
        conns: Conns,
        agent_id: str,
        telemetry: AgentTelemetry,
        policy: DestinationPolicy,
        intake: Intake,
        *,
        timeout: float,
        hold: float,
    ) -> None:
        self.packets = PacketStream(
            end, self, telemetry.stream_packets_total, incoming=TO_AGENT, outgoing=FROM_AGENT
        )
        self.over = trio.Event()
        """Set when the stream has ended."""
        self.error: GrpcError | None = None
        """Why, if not by the server's will."""
        self._reactor = reactor
        self._tasks = tasks
        self._conns = conns
        self._agent_id = agent_id
        self._telemetry = telemetry
        self._policy = policy
        self._intake = intake
        self._timeout = timeout
        self._hold = hold
        self._context = contextvars.copy_context()
        """What dials run in: the reactor's own context knows no role to log for."""
        self._ids = itertools.count(random.randrange(1, _FIRST_IDS))
        self._dialling: dict[int, trio.CancelScope] = {}
        """By the number that the server or its client gave the dial."""
        self._channels: dict[int, EndpointChannel] = {}
        self._dialled: dict[int, EndpointChannel] = {}
        """The same by the number of the dial."""
        self._endpoints: dict[int, SocketEnd] = {}
        self._withholding = 0
        """Connections that keep the window from the server: one, if any."""
        self._watching = False
        self._starved = False
        """Whether the server keeps the window from us, while octets wait."""
        self._busy = 0
        """Dials and connections under way."""
        self._stirred = trio.Event()

    def start(self) -> None:
        """Take packets, those that came already first."""
        self.packets.start()
        self._watch_window()

    async def wait_quiet(self, seconds: float) -> None:
        """Return when there has been neither dial nor connection for so long."""
        while True:
            while self._busy:
                await self._wait_stirred()
            with trio.move_on_after(seconds):
                await self._wait_stirred()
                continue
            return

    async def _wait_stirred(self) -> None:
        self._stirred = trio.Event()
        await self._stirred.wait()

    # -- from the packet stream ---------------------------------------------------------------

    def on_data(self, connect_id: int, data: memoryview) -> int:
        channel = self._channels.get(connect_id)
        if channel is not None:
            return channel.receive(data)
        if connect_id:
            self.packets.send(CloseResponse(UNKNOWN_DATA, connect_id))
        return 0

    def on_packet(self, packet: Packet) -> None:
        match packet:
            case DialRequest():
                if self._withholding:
                    self._make_way()
                scope = self._dialling[packet.random] = trio.CancelScope()
                connect_id = next(self._ids)
                self._context.run(self._tasks.start_soon, self._dial, packet, connect_id, scope)
            case CloseRequest():
                self._close(packet.connect_id)
            case CloseDial():
                self._give_up(packet.random)

    def on_end(self, error: GrpcError | None) -> None:
        self.error = error = error or error_of_end(self.packets.end)
        self.over.set()
        reason = "tunnel lost: the server ended it"
        if error is not None:
            reason = f"tunnel lost: {error.message}"
            self._telemetry.stream_errors_total[TO_AGENT, error.status.text, NO_PACKET] += 1
            self._telemetry.server_connection_failure_count[FROM_SERVER] += 1
        self._note_window(starved=False)
        for scope in self._dialling.values():
            scope.cancel()
        for channel in list(self._channels.values()):
            channel.lose(reason)

    def _close(self, connect_id: int) -> None:
        channel = self._channels.get(connect_id)
        if channel is not None:
            channel.peer_closed()
        else:  # as often as not because both sides close at once
            self.packets.send(CloseResponse(UNKNOWN_CLOSE, connect_id))

    def _give_up(self, number: int) -> None:
        """Nobody waits for the dial any more."""
        if (scope := self._dialling.get(number)) is not None:
            scope.cancel()
        elif (channel := self._dialled.get(number)) is not None:
            channel.peer_closed()

    # -- dials --------------------------------------------------------------------------------

    async def _dial(self, request: DialRequest, connect_id: int, scope: trio.CancelScope) -> None:
        """Connect, answer, and carry the connection until it ends.

        Args:
          scope: is cancelled when nobody waits for the answer any more.
        """
        destination = request.address
        self._stir(1)
        try:
            with (
                self._conns.listed(SERVER, destination, self._agent_id) as conn,
                Visit() as visit,
            ):
                await self._connect(request, connect_id, scope, conn, visit)
        except LimitedError as exc:
            self._intake.refused(exc, conn.dial)
            self.packets.send(DialResponse(str(exc), 0, request.random))
        except DialError as exc:
            reason = DIAL_TIMEOUT if exc.kind is TIMEOUT else DIAL_UNKNOWN
            self._telemetry.endpoint_dial_failure_total[reason] += 1
            self._telemetry.tunneld_dial_failures[exc.kind.code] += 1
            emit(
                Event.DIAL_FAILED,
                destination=destination,
                dial=conn.dial,
                code=exc.kind.code,
                error=str(exc),
            )
            self.packets.send(DialResponse(str(exc), 0, request.random))
        except RelayError as exc:
            log.debug("connection broken", destination=destination, dial=conn.dial, error=str(exc))
        except Exception as exc:  # a bug: it ends this connection alone
            log.exception("dial failed", destination=destination, dial=conn.dial)
            self.packets.send(DialResponse(f"internal error: {exc}", 0, request.random))
        finally:
            self._stir(-1)

    def _stir(self, change: int) -> None:
        self._busy += change
        self._stirred.set()

    async def _connect(
        self,
        request: DialRequest,
        connect_id: int,
        scope: trio.CancelScope,
        conn: Conn,
        visit: Visit,
    ) -> None:
        begun = trio.current_time()
        try:
            with scope:
                self._intake.admit(visit)
                target = parse_target(request.protocol, request.address)
                check = self._policy.check(target.host, target.port)
                sock = await connect(
                    target.host,
                    target.port,
                    self._timeout,
                    target.network,
                    why_not=check.why_not,
                )
        finally:
            if self._dialling.get(request.random) is scope:
                del self._dialling[request.random]
        if scope.cancelled_caught:
            return
        endpoint = SocketEnd(self._reactor, PlainTransport(sock), "endpoint")
        if scope.cancel_called or self.packets.over:
            endpoint.abort()
            return
        took = trio.current_time() - begun
        self._telemetry.dial_duration_seconds.observe(took)
        self._telemetry.tunneld_dial_seconds.observe(took)
        visit.connected()
        conn.state = "open"
        conn.link = self.packets.end.session.pings
        conn.octets = lambda: (endpoint.written, endpoint.read)
        await self._carry(endpoint, conn, request.random, connect_id)

    async def _carry(self, endpoint: SocketEnd, conn: Conn, number: int, connect_id: int) -> None:
        channel = EndpointChannel(
            self.packets,
            connect_id,
            self._reactor,
            lambda: self._forget(connect_id, number),
            self,
        )
        self._channels[connect_id] = self._dialled[number] = channel
        self._endpoints[connect_id] = endpoint
        self._telemetry.open_endpoint_connections += 1
        self.packets.send(DialResponse("", connect_id, number))
        channel.be_silent(self._hold)
        conn.relay = relay = Relay(endpoint, channel)
        await relay.run()

    def _forget(self, connect_id: int, number: int) -> None:
        channel = self._channels.pop(connect_id)
        del self._endpoints[connect_id]
        if self._dialled.get(number) is channel:
            del self._dialled[number]
        self._telemetry.open_endpoint_connections -= 1
        self._telemetry.tunneld_carried_bytes_total[TO_AGENT] += channel.received
        self._telemetry.tunneld_carried_bytes_total[FROM_AGENT] += channel.sent

    # -- sharing ------------------------------------------------------------------------------

    def is_alone(self) -> bool:
        return len(self._channels) == 1 and not self._dialling

    def _make_way(self) -> None:
        for channel in list(self._channels.values()):
            channel.make_way()

    def overran(self) -> None:
        self._telemetry.tunneld_overrun_connections_total[TO_ENDPOINT] += 1
        log.warning("connection closed: its endpoint does not read, and others need the tunnel")

    def withholds(self, change: int) -> None:
        """As `Sharing`. The server cannot tell us that it needs the window, not even for a dial: so
        whoever is alone may keep it only while its endpoint takes octets."""
        self._withholding += change
        if self._withholding and not self._watching:
            self._watch_endpoints()

    def _watch_endpoints(self) -> None:
        self._watching = True
        before = {each: endpoint.written for each, endpoint in self._endpoints.items()}

        def check() -> None:
            self._watching = False
            for connect_id, written in before.items():
                endpoint = self._endpoints.get(connect_id)
                if endpoint is not None and endpoint.written == written:
                    self._channels[connect_id].make_way()
            if self._withholding:
                self._watch_endpoints()

        self._reactor.call_later(_STUCK, self, check)

    def _watch_window(self) -> None:
        if not self.over.is_set():
            self._note_window(starved=self.packets.starved)
            self._reactor.call_later(_WINDOW_CHECK, self, self._watch_window)

    def _note_window(self, starved: bool) -> None:
        if starved != self._starved:
            self._starved = starved
            stalls = self._telemetry.tunneld_stalls
            (stalls.begin if starved else stalls.end)()

    def fail(self, error: Exception) -> None:
        """An error of ours, which the reactor has logged."""
        self.on_end(GrpcError(Status.INTERNAL, f"internal error: {error}"))
