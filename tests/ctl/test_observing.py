"""``tunnelctl kill``, ``events``, ``metrics``, ``health`` and ``top``, and long lists."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from typing import Any

import click
import pytest

from ctl.cmd_events import format_event, moment
from ctl.cmd_top import _ordered
from ctl.messages import ControlError, Message
from ctl.topview import SORTS, Order
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import FakeDaemon, Stream


def conn(number: int) -> Message:
    return {
        "id": f"abcde-{number}",
        "role": "edge",
        "identity": "cert:alice",
        "client": "1.2.3.4:5",
        "destination": "db:5432",
        "dialled": "10.0.0.5:5432",
        "agent": "home",
        "state": "open",
        "since": 1.0,
        "bytes_sent": 1,
        "bytes_received": 2,
        "rate_sent": 0.0,
        "rate_received": 2048.0,
        "queue": 0,
        "stalled_by": "",
        "stalled_seconds": 0.0,
        "rtt_ms": None,
    }


def paged(daemon: FakeDaemon, what: str, rows: list[Message]) -> None:
    """Answer with pages of ``rows``."""

    def answer(params: Message) -> Message:
        begin = params["after"][0] if params["after"] else 0
        end = begin + params["limit"]
        return {
            what: rows[begin:end],
            "total": len(rows),
            "next": [end] if end < len(rows) else None,
            "sums": {"rate_sent": 0.0, "rate_received": 2048.0, "queue": 5.0, "stalled": 1.0},
        }

    daemon.answers[what] = answer


def test_a_thousand_rows_are_shown_and_the_rest_is_mentioned(daemon: FakeDaemon, run: Run) -> None:
    paged(daemon, "conns", [conn(number) for number in range(1200)])
    done = run("conns", "--client", "ali*", "--sort", "rate")
    assert len(done.stdout.splitlines()) == 1001
    assert done.stderr == "1000 of 1200 are shown: choose with filters, or give --all\n"
    _, params = daemon.calls[-1]
    assert (params["client"], params["sort"], params["limit"]) == ("ali*", "rate", 500)


def test_all_rows_are_fetched_by_age(daemon: FakeDaemon, run: Run) -> None:
    paged(daemon, "conns", [conn(number) for number in range(1200)])
    done = run("conns", "--all", "-o", "json")
    rows = json.loads(done.stdout)["conns"]
    assert [row["id"] for row in rows] == [f"abcde-{number}" for number in range(1200)]
    asked = [params["sort"] for method, params in daemon.calls if method == "conns"]
    assert asked == ["age"] * 3


def test_what_was_killed_is_said(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["kill"] = {"killed": [{"role": "edge", "name": "abcde-1"}]}
    done = run("kill", "conn", "abcde-1", "abcde-2", "--reason", "late")
    assert done.stdout.splitlines() == ["killed connection abcde-1 of role edge"] * 2
    asked = [params for method, params in daemon.calls if method == "kill"]
    assert asked == [
        {"what": "conn", "name": name, "reason": "late"} for name in ("abcde-1", "abcde-2")
    ]
    assert "may come back" in run("kill", "agent", "home").stdout
    done = run("kill", "client", "alice", "-o", "json")
    assert json.loads(done.stdout)["killed"][0]["name"] == "abcde-1"


def test_a_kill_that_found_nothing_has_its_exit_code(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["kill"] = ControlError("not_found", "no connection 'x' here", "see: …")
    assert run("kill", "conn", "x").code == 4


EVENT: Message = {
    "time": 1.5,
    "event": "dial.failed",
    "level": "info",
    "text": "dial failed",
    "fields": {"dial": "abcde-1", "error": "no\nway"},
}


def test_events_are_lines(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["events"] = Stream([EVENT])
    done = run("events", "--event", "dial.*", "--role", "edge")
    line = "1970-01-01T00:00:01.500Z dial.failed          dial=abcde-1 error=no way\n"
    assert done.stdout == line
    assert daemon.calls[-1][1] == {
        "follow": False,
        "since": 0.0,
        "event": "dial.*",
        "role": "edge",
    }
    assert json.loads(run("events", "-o", "json").stdout) == {"version": 1, **EVENT}


def test_an_event_of_odd_shape_is_still_a_line() -> None:
    assert format_event({"time": "now", "fields": 5}) == "-                     "


def test_moments_are_durations_or_times() -> None:
    assert time.time() - moment("2m") == pytest.approx(120, abs=5)
    assert moment("1970-01-01T00:00:10Z") == 10
    with pytest.raises(click.BadParameter, match="neither like 30s"):
        moment("yesterday")


def test_metrics_are_printed_as_they_come(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["metrics"] = Stream([{"text": "a 1\nb"}, {"text": " 2\n"}])
    assert run("metrics").stdout == "a 1\nb 2\n"


@pytest.mark.parametrize(("problem", "code"), [("", 0), ("silent", 1)])
def test_health_tells_what_is_wrong(daemon: FakeDaemon, run: Run, problem: str, code: int) -> None:
    check = {"name": "edge", "ok": not problem, "problem": problem}
    daemon.answers["health"] = {"alive": [check], "ready": []}
    done = run("health")
    assert done.code == code
    assert done.stdout.splitlines()[1].split()[:2] == ["alive", "edge"]
    assert problem in done.stdout
    assert run("health", "-o", "json").code == code


def test_top_prints_into_a_pipe(daemon: FakeDaemon, run: Run) -> None:
    paged(daemon, "agents", [])
    paged(daemon, "conns", [conn(1)])
    lines = run("top", "-n", "2", "-d", "0.2").stdout.splitlines()
    summary = "0 agents, 1 connections, 1 stalled, 2.0 KiB/s, 5 B queued; by rate"
    assert [line for line in lines if "queued" in line] == [summary] * 2
    assert lines[3].startswith("ID       ROLE")
    assert "2.0 KiB/s" in lines[4]
    item = json.loads(run("top", "-o", "json", "--sort", "queue", "--reverse").stdout)
    assert item["conns"]["conns"][0]["id"] == "abcde-1"
    _, params = daemon.calls[-1]
    assert (params["sort"], params["reverse"]) == ("queue", True)


def test_keys_change_the_order() -> None:
    order = Order()
    assert _ordered(order, b"s").sort == SORTS[1]
    assert _ordered(order, b"S").sort == SORTS[-1]
    assert _ordered(order, b"r").reverse
    assert _ordered(order, b"") == _ordered(order, b"x") == order


def test_top_at_a_terminal_ends_with_q_and_leaves_it_as_it_was(
    daemon: FakeDaemon,
) -> None:
    paged(daemon, "agents", [])
    paged(daemon, "conns", [conn(1), {**conn(2), "destination": "[red]evil\x1b[31m:1"}])
    environment: dict[str, Any] = {**os.environ, "TERM": "xterm", "COLUMNS": "200", "LINES": "30"}
    argv = [sys.executable, "-m", "ctl", "--control", str(daemon.path), "top", "-d", "0.2"]
    descriptor, terminal = pty.openpty()
    process = subprocess.Popen(
        argv, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    seen, deadline = b"", time.monotonic() + 20
    sent = False
    while time.monotonic() < deadline:
        if select.select([descriptor], [], [], 0.2)[0]:
            try:
                seen += os.read(descriptor, 65536)
            except OSError:  # it has ended
                break
        if not sent and b"by sent" in seen:
            os.write(descriptor, b"q")
            sent = True
        elif not sent and b"by rate" in seen:
            os.write(descriptor, b"s")
    os.close(descriptor)
    assert process.wait(20) == 0
    assert b"\x1b[?1049h" in seen
    assert b"\x1b[?1049l" in seen
    assert b"[red]evil" in seen
    assert b"\x1b[31m:1" not in seen
