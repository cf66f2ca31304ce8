"""An end of a relay whose connection goes no faster than it may: it stands between the two ends.

What a socket sends is not read before it may go on. What a stream pushes is kept until then, and
not credited, so that the stream's window bounds it.
"""

from typing import cast

from tunneld.pace import Pace, Paces, Passage
from tunneld.relay import DialledEnd, End, Relay, Sink, Source
from tunneld.sharedchannel import SharedChannel


class _Way:
    """One direction: octets go to ``sink`` as `Passage` lets them."""

    __slots__ = ("_end", "_kept", "_passage", "_relay", "_source", "sink")

    def __init__(self, paces: list[Pace], sink: Sink) -> None:
        self.sink = sink
        self._passage = Passage(paces)
        self._relay: Relay | None = None
        self._kept = bytearray()
        self._end = False
        """Whether what is kept are the last octets."""
        self._source: Source | None = None
        """Who is to be resumed when it is our turn."""

    def begin(self, relay: Relay) -> None:
        """Know whom a fault ends."""
        self._relay = relay

    @property
    def backlog(self) -> int:
        """Octets that are kept."""
        return len(self._kept)

    @property
    def waits(self) -> bool:
        """Whether octets wait, kept or not."""
        return bool(self._kept) or self._source is not None

    @property
    def has_all(self) -> bool:
        """Whether the last octets have come."""
        return self._end or self.sink.has_all

    def ask(self, source: Source) -> int:
        """Octets that ``source`` may pass on itself; if 0, it is resumed later."""
        allowed = self._passage.ask(self)
        if not allowed:
            self._source = source
        return allowed

    def spend(self, size: int) -> None:
        """So many of them it has."""
        self._passage.spend(size)

    def deliver(self, data: memoryview, end: bool) -> None:
        """As `Sink.deliver`."""
        if self._kept:
            self._kept += data
            self._end = self._end or end
            return
        size, taken = len(data), 0
        while taken < size and (allowed := self._passage.ask(self)):
            step = min(allowed, size - taken)
            self._passage.spend(step)
            taken += step
        if taken < size:
            self._kept += data[taken:]
            self._end = end
            end = False
        if taken or end:
            self.sink.deliver(data[:taken], end)

    def go_on(self) -> None:
        """As `tunneld.pace.Waiter`."""
        self._passage.called()
        while self._kept and (allowed := self._passage.ask(self)):
            piece = bytes(self._kept[:allowed])
            del self._kept[:allowed]
            self._passage.spend(len(piece))
            self.sink.deliver(memoryview(piece), self._end and not self._kept)
        source, self._source = self._source, None
        if source is not None:
            source.resume()

    def stop(self) -> None:
        """The connection is over."""
        self._passage.leave(self)
        self._kept = bytearray()
        self._source = None

    def fail(self, error: Exception) -> None:
        """An error of ours, which the reactor has logged."""
        if self._relay is not None:
            self._relay.fail(f"internal error: {error}")


def paced(end: DialledEnd, paces: list[Paces]) -> DialledEnd:
    """``end``, slowed down by ``paces`` if there are any.

    What comes from a konnectivity agent is not: nobody could tell it to wait with one connection,
    and what waited here would only overrun.
    """
    if not paces:
        return end
    from_agent = [] if isinstance(end, SharedChannel) else [each.from_agent for each in paces]
    return PacedEnd(end, [each.to_agent for each in paces], from_agent)


class PacedEnd:
    """What leads to an endpoint, as `tunneld.relay.DialledEnd`, slowed down.

    Args:
      inner: the end that it stands for.
      to_agent, from_agent: what its directions go by; none is any speed.
    """

    def __init__(self, inner: DialledEnd, to_agent: list[Pace], from_agent: list[Pace]) -> None:
        self._inner = inner
        self._from_agent = from_agent
        self._forth = _Way(to_agent, inner)
        self._back: _Way | None = None

    # -- as an end of the relay ---------------------------------------------------------------

    def attach(self, relay: Relay, peer: End) -> None:
        self._forth.begin(relay)
        if not self._from_agent:
            self._inner.attach(relay, peer)
            return
        self._back = _Way(self._from_agent, peer)
        self._back.begin(relay)
        self._inner.attach(relay, cast(End, _Behind(self._back)))

    def start(self) -> None:
        self._inner.start()

    def close(self) -> None:
        self._stop()
        self._inner.close()

    def abort(self) -> None:
        self._stop()
        self._inner.abort()

    def _stop(self) -> None:
        self._forth.stop()
        if self._back is not None:
            self._back.stop()

    @property
    def carried(self) -> int:
        return self._inner.carried

    @property
    def sent(self) -> int:
        return self._inner.sent

    @property
    def backlog(self) -> int:
        return self._inner.backlog + self._forth.backlog

    @property
    def waits(self) -> bool:
        return self._inner.waits or self._forth.waits

    # -- towards the endpoint -----------------------------------------------------------------

    @property
    def has_all(self) -> bool:
        return self._forth.has_all

    def deliver(self, data: memoryview, end: bool) -> None:
        self._forth.deliver(data, end)

    def room(self, source: Source) -> int:
        allowed = self._forth.ask(source)
        return min(allowed, self._inner.room(source)) if allowed else 0

    def view(self, size: int) -> memoryview:
        return self._inner.view(size)

    def commit(self, size: int) -> None:
        self._forth.spend(size)
        self._inner.commit(size)

    def finish(self) -> None:
        self._inner.finish()

    # -- and the rest -------------------------------------------------------------------------

    def credit(self, size: int) -> None:
        self._inner.credit(size)

    def hold(self, early: int) -> None:
        self._inner.hold(early)

    def release(self) -> None:
        self._inner.release()

    def hang_up(self) -> None:
        self._inner.hang_up()


class _Behind:
    """The client, as the end that leads to an endpoint sees it: what it pushes takes its time."""

    __slots__ = ("_way",)

    def __init__(self, way: _Way) -> None:
        self._way = way

    def deliver(self, data: memoryview, end: bool) -> None:
        self._way.deliver(data, end)

    @property
    def has_all(self) -> bool:
        return self._way.has_all

    def credit(self, size: int) -> None:
        self._way.sink.credit(size)
