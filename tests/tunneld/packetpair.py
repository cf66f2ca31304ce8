"""Two ends of a stream of packets over a socket pair, and relays of its connections."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from trio.testing import wait_all_tasks_blocked

from frames import Limits, Setting
from frames.grpc import GrpcError, MessageReader, prefix
from frames.packet import CloseRequest, CloseResponse, Data, Packet, parse, serialize
from tests.tunneld.sessionpair import Ended, SessionPair, open_pair, run_relay
from tunneld.channelend import ChannelEnd
from tunneld.packetstream import PacketStream
from tunneld.reactor import Reactor
from tunneld.relay import End, FrameEnd, Relay
from tunneld.streamend import StreamEnd


class Recorder:
    """Whose stream it is: notes what comes."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        """Those not yet taken, `Data` among them."""
        self.ends: list[GrpcError | None] = []
        self.channels: dict[int, ChannelEnd] = {}
        """Take the data and the ends of their connections."""

    def on_data(self, connect_id: int, data: memoryview) -> int:
        channel = self.channels.get(connect_id)
        if channel is not None:
            return channel.receive(data)
        self.on_packet(Data(connect_id, bytes(data), ""))
        return 0

    def on_packet(self, packet: Packet) -> None:
        if isinstance(packet, CloseRequest | CloseResponse):
            channel = self.channels.get(packet.connect_id)
            if channel is not None:
                channel.peer_closed(getattr(packet, "error", ""))
                return
        self.packets.append(packet)

    def on_end(self, error: GrpcError | None) -> None:
        self.ends.append(error)
        for channel in list(self.channels.values()):
            channel.lose("tunnel lost")

    def take(self) -> list[Packet]:
        """What has come since the last call."""
        packets, self.packets = self.packets, []
        return packets


class Peer:
    """The other side: a stream that knows packets, but nothing of `PacketStream`."""

    def __init__(self, end: StreamEnd) -> None:
        self.end = end
        self.packets: list[Packet] = []
        """Those not yet taken."""
        self.crediting = True
        self.ended = False
        self.lost = ""
        self._reader = MessageReader(self._on_message)

    def start(self) -> None:
        self.end.attach(self, self)
        self.end.start()

    def send(self, *packets: Packet) -> None:
        """All in one go."""
        self.push(b"".join(map(message, packets)))

    def push(self, octets: bytes, *, end: bool = False) -> None:
        """Octets of the stream, whatever they are."""
        self.end.deliver(memoryview(octets), end)

    def open_window(self, size: int) -> None:
        """Take ``size`` octets more from the other side, for when it is not `crediting`."""
        connection = self.end.session.connection
        window = connection._initial_window + size
        connection.send_settings({Setting.INITIAL_WINDOW_SIZE: window})
        self.end.session.kick()

    def take(self) -> list[Packet]:
        """What has come since the last call."""
        packets, self.packets = self.packets, []
        return packets

    def _on_message(self, octets: memoryview) -> None:
        packet = parse(octets)
        if isinstance(packet, Data):
            packet = Data(packet.connect_id, bytes(packet.data), "")
        self.packets.append(packet)

    # -- as keeper and sink of the stream -----------------------------------------------------

    has_all = False

    def deliver(self, data: memoryview, end: bool) -> None:
        self.ended = self.ended or end
        self._reader.feed(data)
        if self.crediting:
            self.end.credit(len(data))

    def fail(self, error: str) -> None:
        self.lost = error

    def way_ended(self) -> None:
        pass

    def credit(self, size: int) -> None:
        pass


class PacketPair:
    """``packets`` are what is tested, ``user`` has them; ``peer`` is at the other side."""

    def __init__(self, pair: SessionPair, near: StreamEnd, far: StreamEnd) -> None:
        self.pair = pair
        self.end = near
        self.user = Recorder()
        self.counts: Counter[tuple[str, str]] = Counter()
        self.packets = PacketStream(near, self.user, self.counts, incoming="in", outgoing="out")
        self.peer = Peer(far)

    @property
    def reactor(self) -> Reactor:
        return self.pair.reactor

    def start(self) -> None:
        self.packets.start()
        self.peer.start()

    async def said(self) -> list[Packet]:
        """What came to the peer since the last call, once nothing is under way."""
        await wait_all_tasks_blocked()
        return self.peer.take()

    async def heard(self) -> list[Packet]:
        """The same for what came to our user."""
        await wait_all_tasks_blocked()
        return self.user.take()

    @property
    def uncredited(self) -> int:
        """Octets that came to us and have not been credited."""
        stream = self.end.stream
        return stream.window_size - stream.receive_window - stream.unacked


@asynccontextmanager
async def open_packets(
    window: int | None = None, *, start: bool = True, connection_window: int = 1 << 24
) -> AsyncIterator[PacketPair]:
    """Both streams are open, and started unless told otherwise.

    Args:
      window: octets that the peer lets us send before it has credited them.
      connection_window: the same for all streams.
    """
    async with open_pair(receive_window=connection_window) as pair:
        if window is not None:
            pair.client.connection.limits = Limits(max_window=window)
            pair.client.connection.send_settings({Setting.INITIAL_WINDOW_SIZE: window})
            pair.client.kick()
            await wait_all_tasks_blocked()
        far, near = await pair.open()
        made = PacketPair(pair, near, far)
        if start:
            made.start()
        yield made


def message(packet: Packet) -> bytes:
    """As a gRPC message."""
    octets = serialize(packet)
    return prefix(len(octets)) + octets


@dataclass
class Other:
    """The other end of a channel's relay, as a socket or as a stream."""

    taking: bool = True
    """Whether it takes what comes at once; else when told to `take`."""
    got: bytearray = field(default_factory=bytearray)
    ended: bool = False
    untaken: int = 0
    to_send: bytes = b""
    """What it says, as a socket, when there is room."""
    ends: bool = False
    """Whether it ends its way after that."""
    credited: int = 0
    """Octets that it has said, as a stream, and that the channel is done with."""
    hung_up: int = 0
    closed: int = 0
    aborted: int = 0
    channel: Any = None
    relay: Any = None

    def attach(self, relay: Relay, peer: End) -> None:
        self.relay, self.channel = relay, peer

    def start(self) -> None:
        self.resume()

    def close(self) -> None:
        self.closed += 1

    def abort(self) -> None:
        self.aborted += 1

    def hang_up(self) -> None:
        self.hung_up += 1

    # -- what comes -----------------------------------------------------------------------

    def deliver(self, data: memoryview, end: bool) -> None:
        assert not self.ended
        self.got += data
        self.untaken += len(data)
        self.ended = end
        if self.taking:
            self.take()

    def take(self, size: int | None = None) -> None:
        """Be done with ``size`` octets, or all."""
        size = self.untaken if size is None else size
        self.untaken -= size
        if size:
            self.channel.credit(size)
        if self.ended and not self.untaken:
            self.relay.way_ended()

    @property
    def has_all(self) -> bool:
        return self.ended

    # -- what goes ------------------------------------------------------------------------

    def say(self, octets: bytes = b"", *, end: bool = False) -> None:
        """As a socket: when there is room."""
        self.to_send += octets
        self.ends = end
        self.resume()

    def resume(self) -> None:
        while self.to_send and (room := self.channel.room(self)):
            piece, self.to_send = self.to_send[:room], self.to_send[room:]
            self.channel.view(room)[: len(piece)] = piece
            self.channel.commit(len(piece))
        if self.ends and not self.to_send:
            self.ends = False
            self.channel.finish()

    @property
    def carried(self) -> int:
        return len(self.got) - self.untaken

    @property
    def backlog(self) -> int:
        return self.untaken

    @property
    def waits(self) -> bool:
        return bool(self.untaken)

    def push(self, octets: bytes = b"", *, end: bool = False) -> None:
        """As a stream: at once."""
        self.channel.deliver(memoryview(octets), end)

    def credit(self, size: int) -> None:
        self.credited += size


def carry(pair: PacketPair, other: Other, channel: ChannelEnd) -> Ended:
    """Begin a relay between the two; `wait_all_tasks_blocked` starts it."""
    ended = Ended()
    relay = Relay(other, cast(FrameEnd, channel))
    pair.pair.nursery.start_soon(run_relay, relay, ended)
    return ended


class Alone:
    """Shares a stream with one connection, which must take what comes."""

    def is_alone(self) -> bool:
        return True

    def overran(self) -> None:
        raise AssertionError("overran")

    def withholds(self, change: int) -> None:
        raise AssertionError("withholds")


class CarriedOne:
    """A connection of id 1, carried between the stream's peer and ``other``.

    Args:
      make: makes the channel; it gets what is to be called when the connection is over.
    """

    def __init__(
        self, pair: PacketPair, other: Other, make: Callable[[Callable[[], None]], ChannelEnd]
    ) -> None:
        self.pair = pair
        self.closed = 0
        self.other = other
        self.channel = pair.user.channels[1] = make(self._on_closed)
        self.ended: Ended = carry(pair, other, self.channel)

    def _on_closed(self) -> None:
        self.closed += 1
        del self.pair.user.channels[1]

    async def peer_says(self, *packets: Packet) -> None:
        self.pair.peer.send(*packets)
        await wait_all_tasks_blocked()

    async def said(self) -> list[Packet]:
        return await self.pair.said()

    @property
    def over(self) -> bool:
        assert self.closed == int(self.ended.event.is_set())
        return self.ended.event.is_set()
