import pytest

from bench.goals import GOALS, Goal, verdicts
from bench.metrics import BY_KEY
from tests.bench.factories import result, rounds


def test_every_goal_is_about_a_metric_and_a_peer_that_there_are() -> None:
    for goal in GOALS:
        assert goal.metric in BY_KEY
        assert goal.peer in ("", "konnectivity", "ssh")
        assert not (goal.peer and BY_KEY[goal.metric].absolute)


def test_direction_of_a_goal_is_that_of_its_metric() -> None:
    for goal in GOALS:
        assert goal.at_least == BY_KEY[goal.metric].more_is_better


@pytest.mark.parametrize(
    ("goal", "met", "missed"),
    [(Goal("x", "", 2), 2, 1.9), (Goal("x", "", 2, at_least=False), 2, 2.1)],
)
def test_limit_itself_meets_the_goal(goal: Goal, met: float, missed: float) -> None:
    assert goal.met_by(met)
    assert not goal.met_by(missed)


def test_verdict_says_by_how_much_a_goal_is_missed() -> None:
    results = [*rounds("ours", 150, 150), *rounds("konnectivity", 100, 60)]
    (verdict,) = verdicts(results)
    assert verdict.row == (
        "download, 1 connection, MB/s",
        "÷ konnectivity",
        "≥ 3",
        "2.00 [1.50-2.50]",
        "missed by 33%",
    )


def test_absolute_goals_look_at_ours_alone() -> None:
    (verdict,) = verdicts([result("ours", "stall-memory", growth_mb=7.96)])
    assert verdict.row[1:] == ("absolute", "≤ 8", "8.0", "met")


def test_nothing_is_said_where_nothing_was_measured() -> None:
    assert not list(verdicts(rounds("ssh", 1)))
