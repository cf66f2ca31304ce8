"""``tunnelctl reload``, against a daemon of canned answers."""

import json

from ctl.messages import ControlError
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import FakeDaemon, Stream

CHANGES = [
    {"role": "edge", "field": "dial-timeout", "old": "10.0", "new": "3.0", "how": "live"},
    {"role": "home", "field": "server", "old": "a:1", "new": "b:1", "how": "restart"},
    {"role": "echo", "field": "", "old": "", "new": "", "how": "add"},
]


def test_what_changes_is_shown(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["reload"] = Stream(CHANGES, {"changes": 3, "applied": True})
    done = run("reload")
    assert done.code == 0
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["ROLE", "FIELD", "OLD", "NEW", "HOW"],
        ["edge", "dial-timeout", "10.0", "3.0", "live"],
        ["home", "server", "a:1", "b:1", "restart"],
        ["echo", "-", "-", "-", "add"],
    ]
    assert done.stderr == "role home restarts: server changes\n"
    assert daemon.calls == [("reload", {"check": False})]


def test_a_look_changes_nothing_and_says_so(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["reload"] = Stream(CHANGES, {"changes": 3, "applied": False})
    done = run("reload", "--check")
    assert done.code == 0
    assert done.stderr == "nothing was done; do it with: tunnelctl reload\n"
    assert daemon.calls == [("reload", {"check": True})]


def test_as_json_each_change_is_an_object(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["reload"] = Stream(CHANGES, {"changes": 3, "applied": True})
    lines = run("reload", "-o", "json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [{"version": 1, **each} for each in CHANGES]


def test_no_change_is_no_failure(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["reload"] = Stream([], {"changes": 0, "applied": True})
    done = run("reload")
    assert (done.code, done.stdout) == (0, "nothing has changed\n")


def test_a_refusal_exits_with_1_and_all_that_is_wrong(daemon: FakeDaemon, run: Run) -> None:
    message = "not reloaded, everything goes on as it was:\nt.toml: one\nt.toml: two"
    daemon.answers["reload"] = ControlError("failed", message, "mend that")
    done = run("reload")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr == f"error[failed]: {message}\nhint: mend that\n"
