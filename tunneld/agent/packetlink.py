"""A tunnel to a konnectivity server: HTTP/2 as it is, with one gRPC stream for everything."""

import trio

from frames import LocalProtocolError, Role, Setting
from frames.grpc import GrpcError
from frames.packet import Drain
from tunneld.agent.intake import Intake
from tunneld.agent.link import Holder
from tunneld.agent.packetcall import call_headers, server_of
from tunneld.agent.packetdials import PacketDials
from tunneld.agent.policy import DestinationPolicy
from tunneld.agentinfo import AgentInfo
from tunneld.conns import Conns
from tunneld.reactor import Reactor
from tunneld.session import Session, SessionError
from tunneld.streamend import StreamEnd
from tunneld.telemetry import AgentTelemetry
from tunneld.transport.base import Transport
from tunneld.transport.tls import TlsTransport

_SETTINGS: dict[int, int] = {Setting.INITIAL_WINDOW_SIZE: 1 << 20}
_RECEIVE_WINDOW = 16 * 1024 * 1024
_MIN_KEEPALIVE = 31.0
"""Seconds. Go's server ends a connection whose PINGs come more often than each 30 s."""
_QUIET = 1.0
"""Seconds without a dial after which a drained link ends: those that the server had under way when
it heard of the drain have come by then."""
_GOODBYE = 1.0
"""Seconds that the server has to end its side, once we have ended ours."""


class PacketLink:
    """See `tunneld.agent.link.Link`.

    Args:
      authority: what the request is addressed to.
      timeout, hold: see `PacketDials`.
      keepalive: seconds; see `Session`.
      outlasts_drain: whether, once drained, it goes on until the server ends it.
    """

    def __init__(
        self,
        reactor: Reactor,
        transport: TlsTransport,
        info: AgentInfo,
        authority: str,
        conns: Conns,
        telemetry: AgentTelemetry,
        policy: DestinationPolicy,
        intake: Intake,
        *,
        timeout: float,
        hold: float,
        keepalive: float,
        outlasts_drain: bool,
    ) -> None:
        self.transport: Transport = transport
        self.server_id = ""
        self.server_count = 1
        self.session = Session(
            reactor,
            transport,
            Role.CLIENT,
            settings=_SETTINGS,
            receive_window=_RECEIVE_WINDOW,
            keepalive=max(keepalive, _MIN_KEEPALIVE),
            on_draining=self._leaving,
        )
        self._reactor = reactor
        self._info = info
        self._authority = authority
        self._conns = conns
        self._telemetry = telemetry
        self._policy = policy
        self._intake = intake
        self._timeout = timeout
        self._hold = hold
        self._outlasts_drain = outlasts_drain
        self._dials: PacketDials | None = None
        self._holder: Holder
        self._drained = False
        self._finishing = trio.Event()
        """Set when the link is to end as soon as there is nothing left to do."""
        self._error: str | None = None

    async def run(self, holder: Holder) -> None:
        self._holder = holder
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._converse, nursery)
            try:
                await self.session.run()
            except SessionError as exc:
                self._error = self._error or str(exc)
            nursery.cancel_scope.cancel()
        if self._error is not None:
            raise SessionError(self._error)

    def drain(self) -> None:
        """DRAIN: a server of today prefers other agents from now on; old ones do not know it."""
        if self._dials is not None and not self._drained:
            self._drained = True
            self._dials.packets.send(Drain())
            if not self._outlasts_drain:
                self._finishing.set()

    def _leaving(self) -> None:
        """Go's server has begun a graceful stop, and waits for the stream to end."""
        self._holder.leaving()
        self._finishing.set()

    async def _converse(self, tasks: trio.Nursery) -> None:
        """The stream, from its request to its end; the session ends with it."""
        try:
            end = self.session.open(call_headers(self._info, self._authority))
            self.server_id, self.server_count = await server_of(end)
            await self._serve(end, tasks)
        except LocalProtocolError as exc:
            self._error = self._error or f"the request cannot be sent: {exc}"
        except (GrpcError, SessionError) as exc:
            self._error = self._error or str(exc)
        tasks.cancel_scope.cancel()

    async def _serve(self, end: StreamEnd, tasks: trio.Nursery) -> None:
        """Take packets until the server ends the stream, or we have reason to.

        Raises:
          GrpcError: the stream is lost, or ended with a status that is not OK.
        """
        self._dials = dials = PacketDials(
            self._reactor,
            end,
            tasks,
            self._conns,
            self._info.agent_id,
            self._telemetry,
            self._policy,
            self._intake,
            timeout=self._timeout,
            hold=self._hold,
        )
        wanted = self._holder.offer()
        dials.start()
        if wanted:
            await self._serve_while_wanted(dials)
        if dials.error is not None:
            raise dials.error
        if not dials.over.is_set():  # the server logs no loss, if it ends its side first
            end.deliver(memoryview(b""), True)
            with trio.move_on_after(_GOODBYE):
                await dials.over.wait()

    async def _serve_while_wanted(self, dials: PacketDials) -> None:
        """Return when the server has ended the stream; or when it or we are about to go, and there
        is nothing left to do."""

        async def finish() -> None:
            await self._finishing.wait()
            await dials.wait_quiet(_QUIET)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(finish)
            await dials.over.wait()
            nursery.cancel_scope.cancel()
