import json
import subprocess
import sys
from pathlib import Path

import pytest

from ctl import cli
from ctl.messages import EXIT_CODES, ControlError
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import FakeDaemon

COMMANDS = (
    "agents",
    "certs",
    "completion",
    "conns",
    "demo",
    "dial",
    "doctor",
    "events",
    "explain",
    "forward",
    "grpc",
    "http",
    "kill",
    "ns",
    "role",
    "secrets",
    "status",
)
PASSED_ON = ("certs", "doctor", "secrets")
"""Run by `tunneld`."""


@pytest.mark.parametrize("code", sorted([*EXIT_CODES, "failed", "refused", "internal"]))
def test_an_error_of_the_daemon_decides_the_exit_code(
    daemon: FakeDaemon, run: Run, code: str
) -> None:
    daemon.answers["status"] = ControlError(code, "it went wrong", "do this")
    done = run("status")
    assert done.code == EXIT_CODES.get(code, 1)
    assert done.stdout == ""
    assert done.stderr == f"error[{code}]: it went wrong\nhint: do this\n"


def test_an_error_is_an_object_where_objects_are_wanted(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["agents"] = ControlError("denied", "no", "ask")
    done = run("agents", "-o", "json")
    assert done.code == 5
    assert json.loads(done.stderr) == {
        "version": 1,
        "error": {"code": "denied", "message": "no", "hint": "ask"},
    }


def test_no_daemon_exits_with_3_and_says_how_to_start_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.run(["--control", str(tmp_path / "none"), "agents"]) == 3
    assert "tunneld start" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["status", "--nonsense"],
        ["status", "-o", "xml"],
        ["dial"],
        ["dial", "192.168.1.2"],
        ["dial", "h:0"],
        ["dial", "h:70000"],
        ["dial", "a" * 300 + ":80"],
        ["dial", "2001:db8::1:22"],
        ["dial", "h:1", "--cert", "/etc/passwd"],
        ["dial", "h:1", "--proxy", "server"],
        ["dial", "h:1", "--proxy", "unix:relative"],
        ["dial", "h:1", "--proxy", "p:1", "--cert", "/etc/passwd"],
        ["dial", "h:1", "--proxy", "p:1", "--server", "s"],
        ["dial", "h:1", "--proxy", "p:1", "--ca", "/no/such/file"],
        ["http", "h:1/x"],
        ["http", "ftp://h/"],
        ["http", "http:///x"],
        ["http", "http://h:0/"],
        ["http", "http://h:99999/"],
        ["http", "http://h/", "-H", "nonsense"],
        ["http", "http://h/", "-d", "@/no/such/file"],
        ["http", "http://h/", "--timeout", "0"],
        ["grpc", "h:1", "--timeout", "x"],
        ["forward", "99999", "h:1"],
        ["forward", "x:1:2", "h:1"],
        ["forward", "0"],
        ["role", "nonsense"],
        ["role", "stop"],
        ["role", "logs", "r", "-n", "-1"],
        ["ns", "up", "--topology", "/no/such/file"],
        ["ns", "exec"],
        ["--control", "/" + "a" * 200, "status"],
    ],
)
def test_usage_errors_exit_with_2(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr


def test_a_usage_error_shows_what_was_seen_and_an_example(run: Run) -> None:
    assert (
        "'192.168.1.2' has no port; expected HOST:PORT, as in" in run("dial", "192.168.1.2").stderr
    )


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in PASSED_ON])
def test_every_command_has_help(run: Run, command: str) -> None:
    done = run(command, "--help")
    assert done.code == 0
    assert done.stdout.startswith(f"Usage: tunnelctl {command}")


def test_the_help_lists_all_commands(run: Run) -> None:
    done = run("--help")
    assert done.code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in done.stdout


def test_the_version_is_the_package_s(run: Run) -> None:
    assert run("--version").stdout.startswith("tunnelctl 0.")


def test_no_command_imports_trio_or_other_heavy_things_before_it_needs_them() -> None:
    script = (
        "import sys\nfrom ctl import cli\n"
        "group = cli.cli\n"
        "for name in group.list_commands(None): group.get_command(None, name)\n"
        "heavy = {'trio', 'rich', 'h11', 'h2', 'google.protobuf', 'ssl', 'tunneld', 'netns'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_dial_loads_no_more_than_it_needs() -> None:
    script = (
        "import sys\nfrom ctl import cli\ncli.run(['dial', 'h'])\n"
        "print(sorted(m for m in sys.modules if m.startswith('ctl.cmd_')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "['ctl.cmd_dial']\n"
