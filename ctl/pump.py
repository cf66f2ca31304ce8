"""The byte pump: copies both ways between a dialled socket and another stream, without waiting.

Each direction holds at most one buffer, and reads only when that is empty: a slow reader slows
its own direction and nothing else. The end of one direction is passed on (half-close) while the
other runs on.
"""

import select
from collections.abc import Callable
from enum import Enum

from ctl.ends import Sink, Source, TunnelEnd
from ctl.messages import ControlError
from ctl.reset import send_reset

LARGE_CHUNK = 256 * 1024
"""Octets of one direction's buffer: a system call moves up to this many."""
SMALL_CHUNK = 64 * 1024
"""The same where there may be many connections."""

_TROUBLE = select.POLLHUP | select.POLLERR | select.POLLNVAL
"""Reported unasked; reading or writing then tells what it is."""


class TunnelResetError(ControlError):
    """The connection was cut: what came so far may not be all."""

    def __init__(self) -> None:
        super().__init__(
            "failed",
            "the connection was reset; the data may be incomplete",
            "the endpoint, the agent or the server broke it off; see: tunnelctl role logs",
        )


class FlowState(Enum):
    """A direction runs, has passed its end on, or its sink broke."""

    RUNNING = "running"
    FINISHED = "finished"
    BROKEN = "broken"


class Flow:
    """One direction, with what was read and not yet written."""

    def __init__(self, source: Source, sink: Sink, chunk: int) -> None:
        self.source = source
        self.sink = sink
        self.state = FlowState.RUNNING
        self._buffer = memoryview(bytearray(chunk))
        self.pending = self._buffer[:0]

    def wants(self) -> tuple[int, int]:
        """The descriptor that has to become ready, and the event of poll(2) to wait for."""
        if self.pending:
            return self.sink.fd, select.POLLOUT
        return self.source.fd, select.POLLIN

    def is_ready(self, events: dict[int, int]) -> bool:
        """Whether the direction runs and `turn` can do something."""
        fd, wanted = self.wants()
        return self.state is FlowState.RUNNING and bool(events.get(fd, 0) & (wanted | _TROUBLE))

    def turn(self) -> bool:
        """Move octets as far as they go at once; False when the source came to its end.

        Raises:
          OSError: the sink broke if anything is `pending`, else the source.
        """
        try:
            if not self.pending:
                size = self.source.read_into(self._buffer)
                if not size:
                    return False
                self.pending = self._buffer[:size]
            self.pending = self.pending[self.sink.write(self.pending) :]
        except BlockingIOError:
            pass
        return True

    def finish(self) -> None:
        """Pass the end on."""
        self.state = FlowState.FINISHED
        self.sink.finish()


class Pump:
    """Carries octets between a dialled connection and a local ``source`` and ``sink``."""

    def __init__(
        self, tunnel: TunnelEnd, source: Source, sink: Sink, chunk: int = LARGE_CHUNK
    ) -> None:
        self.tunnel = tunnel
        self.outgoing = Flow(source, self.tunnel, chunk)
        self.incoming = Flow(self.tunnel, sink, chunk)
        self._poll = select.poll()
        self._watched: dict[int, int] = {}

    def run_until_answered(self) -> None:
        """Run until the endpoint has ended its direction and that is written out.

        Whatever ends it early, Ctrl-C too, is a reset towards the endpoint: what was sent may not
        be all.

        Raises:
          TunnelResetError: the connection was cut.
          OSError: the local side broke; `BrokenPipeError` if its reader is gone.
        """
        self._run_while(lambda: self.incoming.state is FlowState.RUNNING)

    def run_until_done(self) -> None:
        """Run until both directions have ended; raises as `run_until_answered` does."""
        self._run_while(lambda: FlowState.RUNNING in (self.incoming.state, self.outgoing.state))

    def _run_while(self, goes_on: Callable[[], bool]) -> None:
        try:
            while goes_on():
                self._turn()
        except BaseException:
            send_reset(self.tunnel.sock)
            raise
        if self.outgoing.state is FlowState.BROKEN:
            raise TunnelResetError

    def _turn(self) -> None:
        events = self._wait()
        if self.outgoing.is_ready(events):
            self._turn_outgoing()
        elif self.incoming.state is FlowState.FINISHED and events.get(self.tunnel.fd, 0):
            self.outgoing.state = FlowState.BROKEN
        if self.incoming.is_ready(events):
            self._turn_incoming()
        elif self.incoming.state is FlowState.RUNNING and (
            events.get(self.incoming.sink.fd, 0) & _TROUBLE
        ):
            raise BrokenPipeError("the reader of the output is gone")

    def _turn_outgoing(self) -> None:
        try:
            if not self.outgoing.turn():
                self.outgoing.finish()
        except OSError:
            if not self.outgoing.pending:
                raise
            # The answer may still be on its way, or be there already: take it, then complain.
            self.outgoing.state = FlowState.BROKEN

    def _turn_incoming(self) -> None:
        try:
            if self.incoming.turn():
                return
        except OSError as exc:
            if self.incoming.pending:
                raise
            raise TunnelResetError from exc
        if self.outgoing.state is FlowState.RUNNING and self._is_hung_up():
            raise TunnelResetError
        self.incoming.finish()

    def _is_hung_up(self) -> bool:
        """Whether the other end closed altogether while it still owed us to take what we send, as
        when its process was killed: then nobody said that this is a reset."""
        look = select.poll()
        look.register(self.tunnel.fd, 0)
        return any(events & select.POLLHUP for _fd, events in look.poll(0))

    def _wait(self) -> dict[int, int]:
        wanted = self._interest()
        for fd in self._watched.keys() - wanted.keys():
            self._poll.unregister(fd)
        for fd, events in wanted.items():
            if self._watched.get(fd) != events:
                self._poll.register(fd, events)
        self._watched = wanted
        return dict(self._poll.poll())

    def _interest(self) -> dict[int, int]:
        """Descriptors and events. Trouble is reported even for 0, so that we end with our reader
        or with the tunnel, and not with the next octet for them."""
        wanted: dict[int, int] = {}
        if self.incoming.state is FlowState.RUNNING:
            wanted[self.incoming.sink.fd] = 0
        else:
            wanted[self.tunnel.fd] = 0
        for flow in (self.outgoing, self.incoming):
            if flow.state is FlowState.RUNNING:
                fd, event = flow.wants()
                wanted[fd] = wanted.get(fd, 0) | event
        return wanted
