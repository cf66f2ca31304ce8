import json
import time

from ctl.messages import ControlError, Message
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import FakeDaemon

STEPS = [
    {"where": "server", "ms": 0.0, "step": "entry", "text": "control"},
    {"where": "server", "ms": 0.1, "step": "agent", "text": "home at 1.2.3.4:5"},
    {"where": "server", "ms": 2.5, "step": "connected", "text": "10.0.0.1:80"},
]
AT_AGENT = [{"where": "agent", "ms": 0.4, "step": "resolve", "text": "10.0.0.1"}]
GOOD: Message = {
    "dial": "abcde-1",
    "since": time.time(),
    "client": "control",
    "identity": "control",
    "destination": "web:80",
    "agent": "home",
    "address": "10.0.0.1:80",
    "rule": "open = true",
    "steps": STEPS,
    "agent_steps": AT_AGENT,
    "code": "",
    "error": "",
    "role": "edge",
}
FAILED: Message = {
    **GOOD,
    "steps": [
        *STEPS[:2],
        {"where": "server", "ms": 3.0, "step": "failed", "text": "refused: connection refused"},
    ],
    "code": "refused",
    "error": "connection refused",
}


def test_a_dial_is_shown_step_by_step(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["trace"] = GOOD
    done = run("trace", "web:80", "--as", "cert:alice", "--agent", "home", "--role", "edge")
    assert done.code == 0
    assert daemon.calls[-1] == (
        "trace",
        {"host": "web", "port": 80, "client": "cert:alice", "agent": "home", "role": "edge"},
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "dial abcde-1 of control to web:80, by edge"
    assert [line.split()[2] for line in lines[2:-1]] == ["entry", "agent", "resolve", "connected"]
    assert lines[-1] == "ok: connected to 10.0.0.1:80"


def test_a_failed_dial_ends_with_its_code(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["trace"] = FAILED
    done = run("trace", "web:80")
    assert done.code == 1
    lines = done.stdout.splitlines()
    assert [line.split()[2] for line in lines[2:-1]] == ["entry", "agent", "resolve", "failed"]
    assert lines[-1] == "failed: connection refused"
    assert "tunnelctl explain refused" in done.stderr


def test_exit_codes_are_those_of_a_dial(daemon: FakeDaemon, run: Run) -> None:
    for code, number in {"denied": 5, "timeout": 6, "no_agent": 7}.items():
        daemon.answers["trace"] = {**FAILED, "code": code}
        assert run("trace", "web:80", "-o", "json").code == number


def test_the_last_failed_dials_are_listed(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["trace.last"] = {"dials": [FAILED]}
    lines = run("trace", "--last").stdout.splitlines()
    assert lines[0].split() == [
        *("DIAL", "AGO", "ROLE", "IDENTITY", "DESTINATION", "AGENT", "CODE")
    ]
    assert lines[1].split()[0] == "abcde-1"
    assert lines[1].endswith("refused")
    assert daemon.calls[-1] == ("trace.last", {"role": None, "dial": "", "limit": 20})


def test_one_of_them_is_shown_step_by_step(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["trace.last"] = {"dials": [FAILED]}
    done = run("trace", "--last", "abcde-1")
    assert daemon.calls[-1][1]["dial"] == "abcde-1"
    assert "failed: connection refused" in done.stdout
    assert json.loads(run("trace", "--last", "abcde-1", "-o", "json").stdout)["dial"] == "abcde-1"


def test_one_that_is_not_remembered_is_not_found(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["trace.last"] = ControlError("not_found", "no failed dial 'x' is remembered")
    assert run("trace", "--last", "x").code == 4


def test_without_failures_it_says_so(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["trace.last"] = {"dials": []}
    done = run("trace", "--last")
    assert (done.code, done.stdout) == (0, "")
    assert "no dial has failed" in done.stderr


def test_a_destination_is_wanted(daemon: FakeDaemon, run: Run) -> None:
    assert run("trace").code == 2
    assert run("trace", "web").code == 2
    assert daemon.calls == []
