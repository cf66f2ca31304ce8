import pytest

from frames import ErrorCode, Limits, Rate, Work
from frames.limits import DEFAULT_RATES, PER_STREAM, Allowances
from tests.frames.peer import error_of


def left(allowances: Allowances, work: Work) -> int:
    """Spend all there is; how much it was."""
    count = 0
    while (error := error_of(lambda: allowances.spend(work))) is None:
        count += 1
    assert error.code is ErrorCode.ENHANCE_YOUR_CALM
    assert work.value in str(error)
    return count


@pytest.mark.parametrize("work", Work)
def test_every_kind_of_work_has_an_allowance_of_its_own(work: Work) -> None:
    allowances = Allowances(Limits().rates)
    assert left(allowances, work) == DEFAULT_RATES[work].burst
    assert all(allowances._left[other] for other in Work if other is not work)


def test_kinds_that_are_not_named_keep_their_default() -> None:
    allowances = Allowances(((Work.PING, Rate(3, 1)),))
    assert left(allowances, Work.PING) == 3
    assert left(allowances, Work.RESET) == DEFAULT_RATES[Work.RESET].burst


def test_time_gives_back_up_to_the_burst() -> None:
    allowances = Allowances(((Work.PING, Rate(10, 2)),))
    allowances.refill(100.0)
    assert left(allowances, Work.PING) == 10
    allowances.refill(101.5)
    assert left(allowances, Work.PING) == 3
    allowances.refill(1000.0)
    assert left(allowances, Work.PING) == 10


def test_small_steps_of_time_add_up() -> None:
    allowances = Allowances(((Work.PING, Rate(10, 2)),))
    allowances.refill(0.0)
    left(allowances, Work.PING)
    for tick in range(1, 101):
        allowances.refill(tick / 50)  # 2 seconds in all
    assert left(allowances, Work.PING) in (3, 4)  # a float may fall just short of the fourth


def test_the_first_refill_only_starts_the_clock() -> None:
    allowances = Allowances(((Work.PING, Rate(10, 2)),))
    left(allowances, Work.PING)
    allowances.refill(1e9)
    assert left(allowances, Work.PING) == 0


def test_a_clock_that_goes_back_takes_nothing() -> None:
    allowances = Allowances(((Work.PING, Rate(10, 2)),))
    allowances.refill(100.0)
    allowances.refill(50.0)
    assert left(allowances, Work.PING) == 10


def test_useful_traffic_earns_up_to_the_burst() -> None:
    allowances = Allowances(((Work.PING, Rate(10, 2)),))
    left(allowances, Work.PING)
    allowances.grant(Work.PING, 4)
    assert left(allowances, Work.PING) == 4
    allowances.grant(Work.PING, 100)
    assert left(allowances, Work.PING) == 10


def test_a_stream_earns_some_of_what_comes_with_streams() -> None:
    allowances = Allowances(())
    spent = {work: left(allowances, work) for work in PER_STREAM}
    assert all(spent.values())
    allowances.grant_stream()
    assert {work: left(allowances, work) for work in PER_STREAM} == PER_STREAM
