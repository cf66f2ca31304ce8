from bench.metrics import BY_KEY
from bench.results import Spread, ratio, spread, spread_of, targets_of
from tests.bench.factories import result, rounds

SPEED = BY_KEY["down-1.MBps"]


def test_spread_is_the_median_with_its_range() -> None:
    assert spread(rounds("ours", 3, 1, 2), SPEED, "ours") == Spread(2, 1, 3, 3)


def test_spread_of_nothing_is_none() -> None:
    assert spread_of([]) is None
    assert spread(rounds("ours", 1), SPEED, "ssh") is None


def test_spread_leaves_out_rounds_without_the_field() -> None:
    results = [*rounds("ours", 1, 5), result("ours", number=2, jain=1)]
    assert spread(results, SPEED, "ours") == Spread(3, 1, 5, 2)


def test_ratio_is_formed_within_each_round() -> None:
    # Of the medians it would be 200 / 100: one slow minute of the machine would count once.
    results = [*rounds("ours", 300, 200, 30), *rounds("ssh", 100, 100, 10)]
    assert ratio(results, SPEED, "ours", "ssh") == Spread(3, 2, 3, 3)


def test_ratio_leaves_out_rounds_that_one_lacks_or_where_the_divisor_is_0() -> None:
    results = [*rounds("ours", 4, 4, 4), *rounds("ssh", 2, 0)]
    assert ratio(results, SPEED, "ours", "ssh") == Spread(2, 2, 2, 1)
    assert ratio(results, SPEED, "ours", "frp") is None


def test_text_has_a_range_only_where_it_shows() -> None:
    assert Spread(1.25, 1.2, 1.31, 3).text(2) == "1.25 [1.20-1.31]"
    assert Spread(1.25, 1.249, 1.251, 3).text(2) == "1.25"
    assert Spread(1234.5, 1000, 2000, 3).text(0) == "1234 [1000-2000]"


def test_targets_come_in_the_order_of_their_first_result() -> None:
    assert targets_of([*rounds("ssh", 1), *rounds("ours", 1), *rounds("ssh", 1)]) == ["ssh", "ours"]
