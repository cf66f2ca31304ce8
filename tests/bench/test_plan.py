import pytest

from bench.errors import BenchError
from bench.metrics import METRICS
from bench.plan import GROUPS, QUICK_GROUPS, make_steps, select


def test_targets_take_turns_and_another_begins_each_round() -> None:
    steps = make_steps({"down": GROUPS["down"]}, ["a", "b", "c"], {"down": 2})
    assert [(step.round, step.target) for step in steps] == [
        *((0, "a"), (0, "b"), (0, "c")),
        *((1, "b"), (1, "c"), (1, "a")),
    ]


def test_groups_have_rounds_of_their_own() -> None:
    groups = {"down": GROUPS["down"], "idle": GROUPS["idle"]}
    steps = list(make_steps(groups, ["a"], {"down": 3, "idle": 1}))
    assert [step.group for step in steps] == ["down", "down", "down", "idle"]


def test_direct_way_has_no_part_in_what_is_of_tunnels() -> None:
    groups = {"down": GROUPS["down"], "idle": GROUPS["idle"]}
    steps = list(make_steps(groups, ["direct", "ssh"], {"down": 1, "idle": 1}))
    assert [(step.group, step.target) for step in steps] == [
        *(("down", "direct"), ("down", "ssh"), ("idle", "ssh")),
    ]


def test_every_metric_is_of_a_run_of_the_plan() -> None:
    names = {run.name for group in GROUPS.values() for run in group}
    assert {metric.run for metric in METRICS} == names
    assert {run.name for group in QUICK_GROUPS.values() for run in group} <= names


def test_groups_and_single_runs_can_be_selected() -> None:
    selected = select(GROUPS, ["up", "down-4", "echo-1", "down-1"])
    names = {group: [run.name for run in runs] for group, runs in selected.items()}
    assert names == {
        "up": ["up-1", "up-4", "up-32"],
        "down": ["down-4", "down-1"],
        "echo": ["echo-1"],
    }


def test_unknown_measure_is_named_with_those_that_there_are() -> None:
    with pytest.raises(BenchError, match="no measure 'speed'; there are: down, up"):
        select(GROUPS, ["speed"])
