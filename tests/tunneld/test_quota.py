"""Who has how many connections and dials, and who may have one more."""

import pytest
from structlog.testing import capture_logs
from trio.testing import MockClock

from tunneld.dialing import OVERLOADED
from tunneld.quota import Account, Accounts, LimitedError, Quota, Refusals, Visit
from tunneld.reactor import Reactor

RATE_TEXT = (
    "limit reached: client a dials more than 0.25 times a second, and more than 2 times at once "
    "(client-rate = 0.25)"
)


def test_a_dial_counts_as_a_connection_from_its_beginning_to_the_end_of_what_came_of_it() -> None:
    account = Account("client a", "client-", Quota())
    with Visit() as visit:
        visit.enter(account)
        assert (account.connections, account.pending) == (1, 1)
        visit.connected()
        assert (account.connections, account.pending) == (1, 0)
    assert (account.connections, account.pending) == (0, 0)


def test_a_dial_that_fails_leaves_nothing() -> None:
    account = Account("client a", "client-", Quota())
    with Visit() as visit:
        visit.enter(account)
    assert (account.connections, account.pending) == (0, 0)


@pytest.mark.parametrize(
    ("quota", "limit", "text", "retry_after"),
    [
        (
            Quota(connections=2),
            "client-connections",
            "limit reached: client a has 2 connections (client-connections = 2)",
            5,
        ),
        (
            Quota(pending=2),
            "client-pending",
            "limit reached: client a has 2 dials under way (client-pending = 2)",
            1,
        ),
        (
            Quota(rate=0.25, burst=2),
            "client-rate",
            RATE_TEXT,
            4,
        ),
    ],
)
async def test_one_too_many_is_told_which_limit_it_is_and_does_not_count(
    quota: Quota, limit: str, text: str, retry_after: int, mock_clock: MockClock
) -> None:
    account = Account("client a", "client-", quota)
    for _ in range(2):
        account.enter()
    with pytest.raises(LimitedError) as caught:
        account.enter()
    assert str(caught.value) == text
    assert caught.value.limit == limit
    assert caught.value.kind is OVERLOADED
    assert caught.value.retry_after == retry_after
    assert account.connections == 2


async def test_who_is_refused_by_one_account_does_not_count_on_another() -> None:
    roomy, full = Account("a", "", Quota()), Account("b", "", Quota(connections=1))
    full.enter()
    with Visit() as visit:
        visit.enter(roomy)
        with pytest.raises(LimitedError):
            visit.enter(full)
    assert roomy.connections == 0
    assert full.connections == 1


async def test_other_limits_count_for_the_next_dial(mock_clock: MockClock) -> None:
    account = Account("client a", "client-", Quota(rate=1))
    account.enter()
    with pytest.raises(LimitedError):
        account.enter()
    account.change(Quota())
    account.enter()
    account.change(Quota(connections=2))
    with pytest.raises(LimitedError):
        account.enter()


async def test_of_those_who_have_gone_nothing_is_kept_but_what_they_owe(
    mock_clock: MockClock,
) -> None:
    reactor = Reactor()
    accounts = Accounts("client", lambda name: Quota(rate=1), reactor)
    present = accounts.get("present")
    present.enter()
    hasty = accounts.get("hasty")
    hasty.enter()
    hasty.connections = hasty.pending = 0
    for number in range(3000):
        accounts.get(f"client-{number}")
    assert accounts.get("present") is present
    assert accounts.get("hasty") is hasty
    assert len(accounts) < 1100
    mock_clock.jump(10)
    for number in range(3000):
        accounts.get(f"other-{number}")
    assert accounts.get("hasty") is not hasty
    reactor.close()


async def test_a_log_line_a_second_is_enough_for_one_limit_of_one_client(
    mock_clock: MockClock,
) -> None:
    refusals = Refusals()
    exc = LimitedError("client-rate", "client a", "too fast", 1)
    other = LimitedError("client-rate", "client b", "too fast", 1)
    with capture_logs() as logs:
        for number in range(100):
            refusals.log(exc, f"dial-{number}", "a from here")
        refusals.log(other, "another", "b from there")
        mock_clock.jump(1)
        refusals.log(exc, "later", "a from here")
    assert [(line["dial"], line["more"]) for line in logs] == [
        ("dial-0", 0),
        ("another", 0),
        ("later", 99),
    ]
