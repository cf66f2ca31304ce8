import pytest
from hypothesis import given
from hypothesis import strategies as st

from frames import ErrorCode, RemoteProtocolError, WindowBudget
from frames.errors import StreamProtocolError
from frames.frame import MAX_WINDOW
from frames.window import raised


def test_a_window_may_be_as_large_as_2_to_the_31_minus_1() -> None:
    assert raised(MAX_WINDOW - 1, 1, 0) == MAX_WINDOW


def test_a_window_comes_back_from_below_zero() -> None:
    assert raised(-100, 99, 1) == -1


def test_a_stream_whose_window_overflows_is_broken() -> None:
    with pytest.raises(StreamProtocolError, match=f"allowed: {MAX_WINDOW}") as caught:
        raised(MAX_WINDOW, 1, 7)
    assert (caught.value.stream_id, caught.value.code) == (7, ErrorCode.FLOW_CONTROL_ERROR)


def test_a_connection_whose_window_overflows_is_broken() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        raised(1, MAX_WINDOW, 0)
    assert caught.value.code is ErrorCode.FLOW_CONTROL_ERROR


def test_a_budget_gives_all_or_nothing() -> None:
    budget = WindowBudget(100)
    assert budget.take(60)
    assert not budget.take(41)
    assert budget.left == 40
    budget.give_back(60)
    assert budget.take(100)


@given(st.lists(st.integers(0, 100)))
def test_a_budget_never_gives_more_than_it_has(amounts: list[int]) -> None:
    budget = WindowBudget(250)
    taken = sum(amount for amount in amounts if budget.take(amount))
    assert taken + budget.left == 250
    assert budget.left >= 0
