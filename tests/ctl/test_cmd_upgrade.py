import json

from ctl.messages import ControlError
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import FakeDaemon, Stream

UPGRADE = Stream(
    [
        {"step": "started", "pid": 8},
        {"step": "listening"},
        {"step": "agents", "agents": 3},
        {"step": "serving"},
    ],
    {"pid": 8, "old_pid": 7, "conns": 2, "deadline": 60.0},
)


def test_an_upgrade_tells_each_step(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["upgrade"] = UPGRADE
    done = run("upgrade", "--deadline", "60")
    assert (done.code, done.stdout) == (0, "tunneld runs on as pid 8\n")
    assert done.stderr.splitlines() == [
        "the new process has started: pid 8",
        "its roles are ready",
        "agents on their way to it: 3",
        "it serves clients",
        "pid 7 finishes 2 connections, 60 s at most",
    ]
    assert daemon.calls[-1][1] == {"deadline": 60.0, "program": None}
    lines = run("upgrade", "-o", "json").stdout.splitlines()
    assert [json.loads(line).get("step") for line in lines][:4] == [
        *("started", "listening", "agents", "serving")
    ]


def test_a_failed_upgrade_says_why(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["upgrade"] = Stream([], None, ControlError("failed", "role edge is backoff"))
    done = run("upgrade")
    assert done.code == 1
    assert "role edge is backoff" in done.stderr


def test_a_drain_tells_what_is_left(daemon: FakeDaemon, run: Run) -> None:
    items = [
        {"role": "edge", "state": "draining", "conns": 2},
        {"role": "edge", "state": "draining", "conns": 2},
        {"role": "edge", "state": "draining", "conns": 1},
    ]
    end = {"roles": [{"name": "edge", "state": "stopped"}]}
    daemon.answers["drain"] = Stream(items, end)
    done = run("drain", "edge", "--timeout", "5")
    assert (done.code, done.stdout) == (0, "edge: stopped\n")
    assert done.stderr.splitlines() == [
        "edge: draining, 2 connections left",
        "edge: draining, 1 connections left",
    ]
    assert daemon.calls[-1][1] == {"roles": ["edge"], "timeout": 5.0}
