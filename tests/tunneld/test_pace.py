"""A bandwidth that several share."""

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tunneld.pace import Pace, Passage
from tunneld.reactor import Reactor


class Sender:
    """Passes on octets as soon and as much as it may; has ``left`` of them."""

    def __init__(self, paces: list[Pace], left: int = 1 << 40) -> None:
        self.passage = Passage(paces)
        self.left = left
        self.sent = 0
        self.errors: list[Exception] = []

    def go_on(self) -> None:
        self.passage.called()
        while self.left and (allowed := self.passage.ask(self)):
            step = min(allowed, self.left)
            self.passage.spend(step)
            self.left -= step
            self.sent += step

    def fail(self, error: Exception) -> None:
        self.errors.append(error)


@pytest.fixture
async def reactor() -> AsyncIterator[Reactor]:
    reactor = Reactor()
    async with trio.open_nursery() as nursery:
        await nursery.start(reactor.run)
        yield reactor
        nursery.cancel_scope.cancel()
    reactor.close()


@pytest.mark.parametrize("rate", [2_000, 100_000, 50_000_000])
async def test_the_rate_is_kept(autojump_clock: MockClock, reactor: Reactor, rate: int) -> None:
    sender = Sender([Pace(reactor, rate)])
    sender.go_on()
    await trio.sleep(20)
    assert sender.sent == pytest.approx(20 * rate, rel=0.02)


async def test_who_shares_it_gets_equal_parts(autojump_clock: MockClock, reactor: Reactor) -> None:
    pace = Pace(reactor, 1_000_000)
    senders = [Sender([pace]) for _ in range(7)]
    for sender in senders:
        sender.go_on()
    await trio.sleep(20)
    for sender in senders:
        assert sender.sent == pytest.approx(20_000_000 / 7, rel=0.05)


async def test_what_one_does_not_use_the_others_get(
    autojump_clock: MockClock, reactor: Reactor
) -> None:
    pace = Pace(reactor, 1_000_000)
    small, large = Sender([pace], left=1_000), Sender([pace])
    large.go_on()
    small.go_on()
    await trio.sleep(10)
    assert small.sent == 1_000
    assert large.sent == pytest.approx(10_000_000, rel=0.02)


async def test_of_two_bandwidths_the_narrower_counts_and_the_rest_is_for_others(
    autojump_clock: MockClock, reactor: Reactor
) -> None:
    wide, narrow = Pace(reactor, 1_000_000), Pace(reactor, 100_000)
    both = [Sender([wide, narrow]) for _ in range(3)]
    alone = Sender([wide])
    for sender in (*both, alone):
        sender.go_on()
    await trio.sleep(20)
    assert sum(sender.sent for sender in both) == pytest.approx(2_000_000, rel=0.05)
    assert alone.sent == pytest.approx(18_000_000, rel=0.05)


async def test_two_bandwidths_that_all_share_let_everybody_go_on(
    autojump_clock: MockClock, reactor: Reactor
) -> None:
    first, second = Pace(reactor, 100_000), Pace(reactor, 100_000)
    senders = [Sender([first, second]) for _ in range(10)]
    for sender in senders:
        sender.go_on()
    await trio.sleep(20)
    assert sum(sender.sent for sender in senders) == pytest.approx(2_000_000, rel=0.05)
    assert min(sender.sent for sender in senders) > 150_000


async def test_another_rate_counts_at_once_also_for_who_waits(
    autojump_clock: MockClock, reactor: Reactor
) -> None:
    pace = Pace(reactor, 1)
    sender = Sender([pace])
    sender.go_on()
    before = sender.sent
    pace.change(1_000_000)
    await trio.sleep(10)
    assert sender.sent - before == pytest.approx(10_000_000, rel=0.02)


async def test_without_a_rate_nobody_waits(autojump_clock: MockClock, reactor: Reactor) -> None:
    pace = Pace(reactor, 1)
    waiting = Sender([pace], left=100_000_000)
    waiting.go_on()
    assert pace.waiting == 1
    pace.change(0)
    await wait_all_tasks_blocked()
    assert waiting.sent == 100_000_000
    assert pace.waiting == 0


async def test_who_has_left_is_not_waited_for(autojump_clock: MockClock, reactor: Reactor) -> None:
    pace = Pace(reactor, 100_000)
    gone, there = Sender([pace]), Sender([pace])
    gone.go_on()
    there.go_on()
    gone.passage.leave(gone)
    gone.left = 0
    await trio.sleep(10)
    assert there.sent == pytest.approx(1_000_000, rel=0.05)


async def test_a_fault_in_one_is_its_own(autojump_clock: MockClock, reactor: Reactor) -> None:
    class Faulty(Sender):
        def go_on(self) -> None:
            if self.sent:
                raise ZeroDivisionError
            super().go_on()

    pace = Pace(reactor, 100_000)
    faulty, sound = Faulty([pace]), Sender([pace])
    faulty.go_on()
    sound.go_on()
    await trio.sleep(10)
    assert [type(error) for error in faulty.errors] == [ZeroDivisionError]
    assert sound.sent == pytest.approx(1_000_000, rel=0.05)


async def test_a_turn_that_is_not_used_in_time_is_forfeit(
    autojump_clock: MockClock, reactor: Reactor
) -> None:
    pace = Pace(reactor, 32_000)
    idle = [Sender([pace]) for _ in range(50)]
    for sender in idle:
        assert sender.passage.ask(sender) == 1_000
    await trio.sleep(1)
    for sender in idle:
        sender.go_on()
    sent = sum(sender.sent for sender in idle)
    assert sent <= 32_000 * 0.125
