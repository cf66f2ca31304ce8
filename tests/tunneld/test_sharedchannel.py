"""Connections that share a stream: what may wait for one of them, and who has to go when it is
too much."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from trio.testing import wait_all_tasks_blocked

from frames.packet import CloseRequest, Data, Packet
from tests.tunneld.packetpair import Other, PacketPair, carry, open_packets
from tests.tunneld.sessionpair import Ended
from tunneld.packetstream import PacketStream
from tunneld.reactor import Reactor
from tunneld.sharedchannel import MAX_QUEUE, SharedChannel, queue_budget

FREE = 128 * 1024
MIB = 1 << 20


class Sharing:
    """Says who is alone, and counts."""

    def __init__(self) -> None:
        self.alone = False
        self.overruns = 0
        self.withholding = 0

    def is_alone(self) -> bool:
        return self.alone

    def overran(self) -> None:
        self.overruns += 1

    def withholds(self, change: int) -> None:
        self.withholding += change


class Channel(SharedChannel):
    """As simple as one can be."""

    def _close_packet(self, error: str) -> Packet:
        return CloseRequest(self.connect_id)

    def _source_ended(self) -> None:
        self._say_close()

    def peer_closed(self, error: str) -> None:
        self._closed_by_peer = True
        self._deliver_end()


@contextmanager
def budget_of(size: int) -> Iterator[None]:
    """Leave so much of the process's budget; in the end it must all be back."""
    taken = queue_budget.left - size
    assert queue_budget.take(taken)
    try:
        yield
        assert queue_budget.left == size
    finally:
        queue_budget.give_back(taken)


class Carried:
    """A channel whose other end takes octets when told to."""

    def __init__(self, pair: PacketPair, sharing: Sharing, connect_id: int = 1) -> None:
        self.pair = pair
        self.sharing = sharing
        self.closed = 0
        self.channel = Channel(pair.packets, connect_id, pair.reactor, self._on_closed, sharing)
        self.other = Other(taking=False)
        self.ended = Ended()
        pair.user.channels[connect_id] = self.channel

    def _on_closed(self) -> None:
        self.closed += 1
        del self.pair.user.channels[self.channel.connect_id]

    async def begin(self) -> None:
        self.ended = carry(self.pair, self.other, self.channel)
        await wait_all_tasks_blocked()

    async def send(self, size: int) -> None:
        """As the peer, as far as the window lets it."""
        while size:
            piece = min(size, 16_000)
            self.pair.peer.send(Data(self.channel.connect_id, bytes(piece), ""))
            size -= piece
        await wait_all_tasks_blocked()


async def begun(pair: PacketPair, sharing: Sharing, connect_id: int = 1) -> Carried:
    carried = Carried(pair, sharing, connect_id)
    await carried.begin()
    return carried


# -- with others ------------------------------------------------------------------------------


async def test_what_one_does_not_take_is_credited_and_waits() -> None:
    async with open_packets() as pair:
        carried = await begun(pair, Sharing())
        await carried.send(5 * MIB)
        assert pair.uncredited == 0
        assert len(carried.other.got) == 5 * MIB
        assert not carried.ended.event.is_set()
        carried.other.take()
        carried.other.relay.fail("done")


async def test_a_queue_takes_from_the_budget_and_gives_it_back_when_it_is_short_again() -> None:
    async with open_packets() as pair:
        with budget_of(MIB):
            carried = await begun(pair, Sharing())
            await carried.send(FREE)
            assert queue_budget.left == MIB
            await carried.send(300_000)
            assert queue_budget.left == MIB - 300_000
            carried.other.take(100_000)
            await carried.send(100_000)  # as much as there was before
            assert queue_budget.left == MIB - 300_000
            carried.other.take(299_999)
            assert queue_budget.left == MIB - 300_000
            carried.other.take(1)
            assert queue_budget.left == MIB
            carried.other.relay.fail("done")


async def test_one_that_finds_no_budget_is_closed_for_the_others_sake() -> None:
    async with open_packets() as pair:
        sharing = Sharing()
        with budget_of(100_000):
            carried = await begun(pair, sharing)
            await carried.send(FREE + 100_000)
            assert sharing.overruns == 0
            await carried.send(50_000)
            assert sharing.overruns == 1
            assert await pair.said() == [CloseRequest(1)]
            assert carried.ended.error is not None
            assert "octets wait to be taken, and others need the tunnel" in carried.ended.error
            assert carried.other.aborted == carried.closed == 1
        assert pair.uncredited == 0


async def test_a_queue_has_a_bound_whatever_the_budget() -> None:
    async with open_packets() as pair:
        sharing = Sharing()
        carried = await begun(pair, sharing)
        before = queue_budget.left
        for _ in range(16):
            assert carried.channel.receive(memoryview(bytes(MIB))) == 0
        assert sharing.overruns == 0
        assert MAX_QUEUE == 16 * MIB
        assert carried.channel.receive(memoryview(b"x")) == 0
        assert sharing.overruns == 1
        await wait_all_tasks_blocked()
        assert carried.ended.error is not None
        assert queue_budget.left == before


async def test_one_that_overruns_before_its_relay_is_closed_once() -> None:
    async with open_packets() as pair:
        sharing = Sharing()
        with budget_of(100_000):
            carried = Carried(pair, sharing)
            await carried.send(FREE + 200_000)
            assert sharing.overruns == 1
            await carried.begin()
            assert carried.ended.error is not None
            assert len(carried.other.got) <= FREE + 100_000 + 16_000
        assert await pair.said() == [CloseRequest(1)]
        assert pair.uncredited == 0


async def test_the_others_go_on() -> None:
    async with open_packets() as pair:
        with budget_of(100_000):
            stuck, other = [await begun(pair, Sharing(), number) for number in (1, 2)]
            other.other.taking = True
            for _ in range(10):
                await stuck.send(100_000)
                await other.send(100_000)
            assert stuck.ended.error is not None
            assert len(other.other.got) == 1_000_000
            other.other.relay.fail("done")


# -- alone ------------------------------------------------------------------------------------


async def test_one_that_is_alone_makes_its_peer_wait() -> None:
    async with open_packets() as pair:
        sharing = Sharing()
        sharing.alone = True
        with budget_of(100_000):
            carried = await begun(pair, sharing)
            await carried.send(10 * MIB)
            assert sharing.overruns == 0
            held = pair.uncredited
            assert held > 0
            waiting = len(carried.other.got)
            assert waiting < 5 * MIB
            while len(carried.other.got) < 10 * MIB:
                carried.other.take(carried.other.untaken // 2 + 1)
                await wait_all_tasks_blocked()
            carried.other.take()
            await wait_all_tasks_blocked()
            assert pair.uncredited == 0
            assert sharing.overruns == 0
            carried.other.relay.fail("done")


async def test_one_that_makes_its_peer_wait_has_to_go_when_somebody_comes() -> None:
    async with open_packets() as pair:
        sharing = Sharing()
        sharing.alone = True
        with budget_of(100_000):
            carried = await begun(pair, sharing)
            await carried.send(5 * MIB)
            assert pair.uncredited > 0
            carried.channel.make_way()
            await wait_all_tasks_blocked()
            assert sharing.overruns == 1
            assert carried.ended.error is not None
        assert pair.uncredited == 0


async def test_one_that_stands_in_nobody_s_way_stays() -> None:
    async with open_packets() as pair:
        sharing = Sharing()
        sharing.alone = True
        with budget_of(MIB):
            carried = await begun(pair, sharing)
            await carried.send(FREE + 500_000)
            carried.channel.make_way()
            await wait_all_tasks_blocked()
            assert not carried.ended.event.is_set()
            carried.other.relay.fail("done")


@pytest.mark.parametrize("how", ["abort", "lose", "fail"])
async def test_however_it_ends_what_was_held_back_is_credited(how: str) -> None:
    async with open_packets() as pair:
        sharing = Sharing()
        sharing.alone = True
        with budget_of(100_000):
            carried = await begun(pair, sharing)
            await carried.send(5 * MIB)
            assert pair.uncredited > 0
            match how:
                case "abort":
                    carried.channel.abort()
                case "lose":
                    carried.channel.lose("gone")
                case "fail":
                    carried.other.relay.fail("broken")
            await wait_all_tasks_blocked()
        assert pair.uncredited == 0


# -- in any order -----------------------------------------------------------------------------


class CountingStream:
    """As much of a stream of packets as the credit goes through."""

    def __init__(self) -> None:
        self.released = 0
        self.said: list[Packet] = []

    def release(self, size: int) -> None:
        assert size >= 0
        self.released += size

    def send(self, packet: Packet) -> None:
        self.said.append(packet)


class AtOnce:
    """A relay that ends at once."""

    def __init__(self, channel: Channel, other: Other) -> None:
        self.error = ""
        self._channel = channel
        channel.attach(cast(Any, self), cast(Any, other))
        other.attach(cast(Any, self), cast(Any, channel))
        channel.start()

    def fail(self, error: str) -> None:
        self.error = self.error or error
        self._channel.abort()


class Queueing(RuleBasedStateMachine):
    """One connection's queue; the budget and whether it is alone change as they like."""

    def __init__(self) -> None:
        super().__init__()
        self.stream, self.sharing, self.other = CountingStream(), Sharing(), Other(taking=False)
        self.closed = 0
        self.channel = Channel(
            cast(PacketStream, self.stream), 1, cast(Reactor, None), self.on_closed, self.sharing
        )
        self.relay = AtOnce(self.channel, self.other)
        self.held = 0
        self.taken = queue_budget.left - 400_000
        assert queue_budget.take(self.taken)

    def on_closed(self) -> None:
        self.closed += 1

    @rule(size=st.sampled_from([1, 4_096, 16_352, 100_000, 300_000]), times=st.integers(1, 8))
    def receive(self, size: int, times: int) -> None:
        for _ in range(times):
            self.held += self.channel.receive(memoryview(bytes(size)))

    @precondition(lambda self: self.other.untaken and not self.closed)
    @rule(share=st.sampled_from([0.001, 0.3, 1.0]))
    def take(self, share: float) -> None:
        self.other.take(max(1, int(self.other.untaken * share)))

    @rule(alone=st.booleans())
    def change_company(self, alone: bool) -> None:
        if self.sharing.alone and not alone:
            self.channel.make_way()
        self.sharing.alone = alone

    @precondition(lambda self: queue_budget.left >= 50_000)
    @rule()
    def take_budget(self) -> None:
        queue_budget.take(50_000)
        self.taken += 50_000

    @rule(how=st.sampled_from(["abort", "lose"]))
    @precondition(lambda self: self.held or self.sharing.overruns)
    def end(self, how: str) -> None:
        if how == "lose" and not self.closed:
            self.channel.lose("gone")
        else:
            self.channel.abort()

    @invariant()
    def no_more_waits_than_was_asked_for(self) -> None:
        assert 0 <= self.stream.released <= self.held
        assert self.sharing.withholding == int(self.stream.released < self.held)
        if self.closed:
            assert self.stream.released == self.held
            assert queue_budget.left + self.taken == TOTAL
            assert self.closed == 1
            return
        budgeted = TOTAL - self.taken - queue_budget.left
        assert self.other.untaken <= FREE + budgeted + self.held - self.stream.released
        assert budgeted <= MAX_QUEUE
        if not self.other.untaken:
            assert self.stream.released == self.held
            assert budgeted == 0
        if self.stream.released < self.held:
            assert self.sharing.alone

    def teardown(self) -> None:
        self.channel.abort()
        self.no_more_waits_than_was_asked_for()
        queue_budget.give_back(self.taken)


TOTAL = queue_budget.left


def test_budget_and_credit_come_back_whatever_happens() -> None:
    run_state_machine_as_test(Queueing)
