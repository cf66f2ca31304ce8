"""From konnectivity's client to its agent in memory: whatever they do, and in whatever order,
octets arrive whole or an error does, all credit comes back, and nothing is left."""

from collections import Counter
from dataclasses import dataclass, field

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from frames import ErrorCode
from frames.packet import (
    CloseDial,
    CloseRequest,
    CloseResponse,
    Data,
    DialRequest,
    DialResponse,
    Drain,
    Packet,
)
from tests.tunneld.packetpair import Other, PacketPair, carry, open_packets
from tests.tunneld.sessionpair import Ended, run_relay
from tests.tunneld.test_sharedchannel import budget_of
from tunneld.agentinfo import AgentInfo
from tunneld.caller import CONTROL
from tunneld.dialing import DialError
from tunneld.dialrecord import DialRecord
from tunneld.relay import Relay
from tunneld.server.claims import Claims
from tunneld.server.dialledchannel import DialledChannel
from tunneld.server.frontchannel import FrontChannel
from tunneld.server.packettunnel import PacketTunnel
from tunneld.telemetry import CONNECT, PROXY, Histogram, ServerTelemetry

PATTERN = bytes(range(251)) * 4_200
"""About 1 MiB in which no two places a little apart are alike."""
WINDOWS = [60, 1_000, 65_535]
SIZES = [1, 100, 5_000, 70_000, 400_000]
BUDGETS = [0, 100_000, 1 << 27]

play_often = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def octets_of(packets: list[Packet], connect_id: int) -> bytes:
    found = [each for each in packets if isinstance(each, Data) and each.connect_id == connect_id]
    return b"".join(bytes(packet.data) for packet in found)


# -- one connection ---------------------------------------------------------------------------


@dataclass
class Side:
    """A client or an agent, and what it did."""

    pair: PacketPair
    connect_id: int
    sent: int = 0
    state: str = "open"
    got: list[Packet] = field(default_factory=list)

    def do(self, action: str, size: int) -> None:
        if self.state != "open" and action != "read":
            return
        match action:
            case "write":
                for start in range(self.sent, self.sent + size, 30_000):
                    stop = min(start + 30_000, self.sent + size)
                    self.pair.peer.send(Data(self.connect_id, expected(stop)[start:], ""))
                self.sent += size
            case "stall":
                self.pair.peer.crediting = False
            case "read":
                self.read_on()
            case "close":
                self.state = "closed"
                self.close()
            case "end":
                self.state = "ended"
                self.pair.peer.push(b"", end=True)
            case "reset":
                self.state = "reset"
                self.pair.peer.end.reset(ErrorCode.CANCEL)

    def close(self) -> None:
        self.pair.peer.send(CloseRequest(self.connect_id))

    def read_on(self) -> None:
        """Credit again, what came meanwhile too."""
        peer = self.pair.peer
        if not peer.crediting:
            peer.crediting = True
            stream = peer.end.stream
            peer.end.credit(stream.window_size - stream.receive_window - stream.unacked)

    def take(self) -> None:
        self.got += self.pair.peer.take()

    @property
    def octets(self) -> bytes:
        return octets_of(self.got, self.connect_id)


class AgentSide(Side):
    def close(self) -> None:
        self.pair.peer.send(CloseResponse("", self.connect_id))


class Connection:
    """A relay between the two streams."""

    def __init__(self, front: PacketPair, back: PacketPair, *, alone: bool) -> None:
        self.alone = alone
        self.overruns = 0
        self.client, self.agent = Side(front, 5), AgentSide(back, 9)
        self.closed: Counter[str] = Counter()
        self.telemetry = ServerTelemetry()
        self.dialled = DialledChannel(
            back.packets,
            9,
            back.reactor,
            lambda: self._on_closed("agent", back, 9),
            self,
            2.0,
            Histogram([1.0]),
        )
        self.front = FrontChannel(
            front.packets,
            5,
            front.reactor,
            lambda: self._on_closed("client", front, 5),
            self.dialled,
            self.telemetry,
        )
        front.user.channels[5], back.user.channels[9] = self.front, self.dialled
        self.ended = Ended()
        front.pair.nursery.start_soon(run_relay, Relay(self.front, self.dialled), self.ended)
        self.withholding = 0

    def _on_closed(self, side: str, pair: PacketPair, connect_id: int) -> None:
        self.closed[side] += 1
        del pair.user.channels[connect_id]

    def is_alone(self) -> bool:
        return self.alone

    def overran(self) -> None:
        self.overruns += 1

    def withholds(self, change: int) -> None:
        self.withholding += change

    def judge(self, sender: Side, receiver: Side, closing: type[Packet]) -> None:
        """What came is what was said; all of it, if both ends ended well."""
        assert expected(sender.sent).startswith(receiver.octets)
        closes = [each for each in receiver.got if isinstance(each, closing)]
        assert len(closes) <= 1
        if closes:
            assert receiver.got[-1] is closes[0], "octets behind the end"


def expected(size: int) -> bytes:
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


ACTIONS = st.tuples(
    st.booleans(),
    st.sampled_from(["write"] * 5 + ["stall"] * 3 + ["read", "wait", "close", "end", "reset"]),
    st.sampled_from(SIZES),
)


@play_often
@given(
    windows=st.tuples(st.sampled_from(WINDOWS), st.sampled_from(WINDOWS)),
    hold=st.booleans(),
    alone=st.booleans(),
    budget=st.sampled_from(BUDGETS),
    actions=st.lists(ACTIONS, min_size=6, max_size=20),
)
def test_octets_arrive_whole_or_an_error_does(
    windows: tuple[int, int],
    hold: bool,
    alone: bool,
    budget: int,
    actions: list[tuple[bool, str, int]],
) -> None:
    async def play() -> None:
        async with open_packets(windows[0]) as front, open_packets(windows[1]) as back:
            connection = Connection(front, back, alone=alone)
            if hold:
                connection.dialled.hold(0)
            await wait_all_tasks_blocked()
            for by_client, action, size in actions:
                if action == "wait":
                    await trio.sleep(size / 20_000)
                    connection.dialled.release()
                else:
                    (connection.client if by_client else connection.agent).do(action, size)
                    await wait_all_tasks_blocked()
            await finish(connection)

    with budget_of(budget):
        trio.run(play, clock=MockClock(autojump_threshold=0))


async def finish(connection: Connection) -> None:
    """Both read on and end; then it must be over in time."""
    client, agent = connection.client, connection.agent
    connection.dialled.release()
    for side in (client, agent):
        side.read_on()
    await wait_all_tasks_blocked()
    assert not connection.alone or not connection.overruns
    orderly = (client.state, agent.state) == ("open", "open") and not connection.overruns
    agent.do("close", 0)
    await trio.sleep(15)
    for side in (client, agent):
        side.take()
    assert connection.ended.event.is_set()
    assert connection.closed == {"client": 1, "agent": 1}
    connection.judge(client, agent, CloseRequest)
    connection.judge(agent, client, CloseResponse)
    if connection.overruns:
        assert connection.overruns == 1
        assert connection.ended.error is not None
    if orderly:
        assert connection.ended.error is None
        assert len(agent.octets) == client.sent
        assert len(client.octets) == agent.sent
    for side in (client, agent):
        assert side.pair.uncredited == 0 or side.state in ("ended", "reset")
        session = side.pair.end.session
        assert not session.over.is_set()
    assert connection.withholding == 0
    assert connection.telemetry.full_receive_channels[PROXY] == 0


# -- a tunnel ---------------------------------------------------------------------------------


class Endpoint:
    """A dial, and what its client makes of it."""

    def __init__(self, tunnel: PacketTunnel, pair: PacketPair) -> None:
        self.pair = pair
        self.scope = trio.CancelScope()
        self.other = Other()
        self.ended: Ended | None = None
        self.said_end = False
        pair.pair.nursery.start_soon(self._dial, tunnel)

    async def _dial(self, tunnel: PacketTunnel) -> None:
        with self.scope:
            try:
                channel = await tunnel.dial(
                    "endpoint:80", "tcp", 10, DialRecord(CONTROL, "endpoint:80"), ""
                )
            except (DialError, trio.TooSlowError):
                return
            channel.hold(0)
            self.ended = carry(self.pair, self.other, channel)

    def do(self, action: str, size: int) -> None:
        if self.ended is None:
            if action == "cancel":
                self.scope.cancel()
            return
        if self.other.relay is None or self.ended.event.is_set():
            return
        match action:
            case "cancel":
                self.other.relay.fail("client: reset")
            case "say" if not self.said_end:
                self.other.say(bytes(size))
            case "push" if not self.said_end and not self.other.to_send:
                self.other.push(bytes(size))
            case "end":
                self.said_end = True
                self.other.say(end=True)
            case "stall":
                self.other.taking = False
            case "take":
                self.other.channel.release()
                self.other.taking = True
                self.other.take()


CONNECT_IDS = [1, 1, 1, 2, 2, 0, -1]

SERVER_ACTIONS = st.tuples(
    st.sampled_from(
        ["dial"] * 2 + ["say", "push", "push", "cancel", "end"] + ["stall", "take", "wait"]
    ),
    st.integers(0, 3),
    st.sampled_from(SIZES),
)
AGENT_ACTIONS = st.tuples(
    st.sampled_from(["answer"] * 4 + ["error"] + ["data"] * 4 + ["close", "close", "oops"]),
    st.sampled_from(CONNECT_IDS),
    st.sampled_from([0, 1, 5_000, 200_000]),
)


@play_often
@given(
    window=st.sampled_from([200, 65_535]),
    budget=st.sampled_from(BUDGETS),
    actions=st.lists(st.one_of(SERVER_ACTIONS, AGENT_ACTIONS), min_size=10, max_size=50),
)
def test_an_agent_may_say_anything_at_any_time(
    window: int, budget: int, actions: list[tuple[str, int, int]]
) -> None:
    telemetry = ServerTelemetry()

    async def play() -> None:
        async with open_packets(window, start=False) as pair:
            tunnel = PacketTunnel(
                pair.end, pair.reactor, telemetry, AgentInfo("a"), Claims({}), "peer", 2.0
            )
            tunnel.start()
            pair.peer.start()
            await Play(pair, tunnel).play(actions)

    with budget_of(budget):
        trio.run(play, clock=MockClock(autojump_threshold=0))
    assert telemetry.full_receive_channels[CONNECT] == 0
    assert telemetry.tunneld_stalls.count == 0


class Play:
    """An agent that answers, or does what no agent should."""

    def __init__(self, pair: PacketPair, tunnel: PacketTunnel) -> None:
        self.pair = pair
        self.tunnel = tunnel
        self.endpoints: list[Endpoint] = []
        self.asked: list[int] = []
        self.open: set[int] = set()
        """Connect ids that the agent has given, and not closed."""

    async def play(self, actions: list[tuple[str, int, int]]) -> None:
        for action, which, size in actions:
            if action in ("answer", "error", "data", "close", "oops"):
                self.agent_does(action, which, size)
            elif action == "dial":
                self.endpoints.append(Endpoint(self.tunnel, self.pair))
            elif action == "wait":
                await trio.sleep(size / 10_000)
            elif self.endpoints:
                self.endpoints[which % len(self.endpoints)].do(action, size)
            await self.settle()
        await self.finish()

    async def settle(self) -> None:
        for packet in await self.pair.said():
            match packet:
                case DialRequest():
                    self.asked.append(packet.random)
                case CloseRequest():
                    self.pair.peer.send(CloseResponse("", packet.connect_id))
                    self.open.discard(packet.connect_id)
        await wait_all_tasks_blocked()

    def agent_does(self, action: str, connect_id: int, size: int) -> None:
        number = self.asked.pop(0) if self.asked else 77
        send = self.pair.peer.send
        match action:
            case "answer":
                send(DialResponse("", connect_id, number))
                self.open.add(connect_id)
            case "error":
                send(DialResponse("dial tcp: no", connect_id, number))
            case "data":
                send(Data(connect_id, bytes(size), ""))
            case "close":
                send(CloseResponse("why" if size % 2 else "", connect_id))
                self.open.discard(connect_id)
            case "oops":
                send(Drain(), CloseDial(number), CloseRequest(connect_id), DialRequest("", "", 0))

    async def finish(self) -> None:
        for endpoint in self.endpoints:
            endpoint.do("take", 0)
            endpoint.do("end", 0)
            endpoint.scope.cancel()
        for _ in range(3):
            await trio.sleep(5)
            await self.settle()
        tunnel = self.tunnel
        assert tunnel.error is None
        assert not self.pair.end.session.over.is_set()
        assert tunnel._pending == {}
        assert tunnel._channels == {}
        assert tunnel._closing == set()
        assert self.pair.uncredited == 0
        for endpoint in self.endpoints:
            assert endpoint.ended is None or endpoint.ended.event.is_set()
        tunnel.close("done")
