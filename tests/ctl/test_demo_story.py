import json

import pytest

from ctl.demo_story import JsonNarrator, Narrator, Story
from ctl.demo_world import ProofError
from ctl.messages import ControlError


def fail() -> str:
    raise ProofError("expected a, got b")


def test_the_first_line_says_where_though_it_is_known_only_later(
    capsys: pytest.CaptureFixture[str],
) -> None:
    narrator = Narrator()
    with Story(narrator) as story:

        def prove() -> str:
            narrator.command("tunneld start")
            return "pid 1"

        story.tell("start", prove)
        assert capsys.readouterr().out == ""
        story.open("in a lab")
        story.tell("next", lambda: "")
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert lines == [
        "The whole story on one machine, in a lab.",
        " 1  start",
        "    $ tunneld start",
        "    ok     pid 1  (0.00 s)",
        " 2  next",
        "    ok     done  (0.00 s)",
    ]


def test_a_story_that_begins_anew_forgets_what_it_held_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Story(Narrator()) as story:
        story.tell("in vain", lambda: "")
        story.restart()
        story.open("on loopback")
        story.tell("start", lambda: "")
    out = capsys.readouterr().out
    assert out.startswith("The whole story on one machine, on loopback.")
    assert "in vain" not in out
    assert " 1  start" in out


@pytest.mark.parametrize("narrator", [Narrator, JsonNarrator])
def test_the_first_step_that_fails_ends_the_story_and_is_named(
    narrator: type[Narrator] | type[JsonNarrator], capsys: pytest.CaptureFixture[str]
) -> None:
    with Story(narrator()) as story:
        story.open("here")
        story.tell("one", lambda: "")
        with pytest.raises(ControlError) as caught:
            story.tell("two", fail)
    assert caught.value.message == "step 2 failed: two: expected a, got b"
    assert "expected a, got b" in capsys.readouterr().out


def test_a_failure_before_the_place_is_known_is_shown_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ControlError), Story(Narrator()) as story:
        story.tell("start", fail)
    assert "FAILED expected a, got b" in capsys.readouterr().out


def test_json_has_an_object_for_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    with Story(JsonNarrator()) as story:
        story.tell("one", lambda: "fine")
        story.open("in a lab")
        story.skip("two", "cannot")
        with pytest.raises(ControlError):
            story.tell("three", fail)
    items = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(i["version"], i["step"], i["title"], i["ok"], i["detail"]) for i in items] == [
        (1, 0, "choose where", True, "in a lab"),
        (1, 1, "one", True, "fine"),
        (1, 2, "two", None, "cannot"),
        (1, 3, "three", False, "expected a, got b"),
    ]
    assert all(item["seconds"] >= 0 for item in items)
