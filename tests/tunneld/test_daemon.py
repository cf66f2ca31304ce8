"""Real daemons, started from the command line; their roles need no namespace."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TIMEOUT = 30
"""Seconds that anything may take; a start takes a third of one."""

ECHO = '[[role]]\nkind = "echo"\nname = "echo"\nlisten = "127.0.0.1:0"\n'


class Site:
    """A place for a daemon, and the commands for it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.control = directory / "run" / "control.sock"
        self.state = directory / "state"
        self.environment = {
            **os.environ,
            "TUNNELD_CONTROL": str(self.control),
            "TUNNELD_STATE": str(self.state),
        }

    def popen(self, *argv: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tunneld", *argv],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        process = self.popen(*argv)
        out, err = process.communicate(timeout=TIMEOUT)
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def good(self, *argv: str) -> str:
        done = self.run(*argv)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self) -> Any:
        return json.loads(self.good("status", "-o", "json"))

    def config(self, text: str) -> str:
        path = self.directory / "tunneld.toml"
        path.write_text(text)
        return str(path)

    def log(self) -> str:
        return (self.state / "tunneld.log").read_text()

    def files(self) -> list[str]:
        """What there is but for the log."""
        found = (path for path in self.directory.rglob("*") if not path.is_dir())
        return sorted(
            path.name for path in found if path.name not in ("tunneld.log", "tunneld.toml")
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    if site.run("stop").returncode == 0:
        assert site.files() == []


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def ended(pid: int) -> bool:
    """Whether a process that is no child of ours ends in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], TIMEOUT)[0])
    finally:
        os.close(descriptor)


def test_a_daemon_starts_detached_and_stops(site: Site) -> None:
    out = site.good("start")
    status = site.status()
    assert out == f"tunneld is ready: pid {status['pid']}, control socket {site.control}\n"
    assert status["roles"] == []
    assert status["version"]
    assert abs(status["since"] - time.time()) < TIMEOUT
    assert os.getsid(status["pid"]) not in (status["pid"], os.getsid(0))
    assert site.control.stat().st_mode & 0o777 == 0o600
    assert site.control.parent.stat().st_mode & 0o777 == 0o700
    assert site.good("stop") == f"tunneld stopped, pid {status['pid']}\n"
    assert ended(status["pid"])
    assert site.files() == []


def test_a_start_is_quick(site: Site) -> None:
    begun = time.monotonic()
    site.good("start")
    assert time.monotonic() - begun < 5  # alone on the machine it is a third of a second


def test_a_second_start_says_which_daemon_runs(site: Site) -> None:
    site.good("start")
    done = site.run("start")
    assert done.returncode == 1
    pid = site.status()["pid"]
    assert f"tunneld already runs: pid {pid}, control socket {site.control}" in done.stderr


@pytest.mark.parametrize("option", ["--control", "--state"])
def test_a_daemon_shares_neither_socket_nor_state(site: Site, option: str) -> None:
    site.good("start")
    other = str(site.directory / "other" / "place")
    done = site.run("start", option, other)
    assert done.returncode == 1
    assert "already runs" in done.stderr
    assert site.status()["roles"] == []


def test_of_many_starts_at_once_one_wins(site: Site) -> None:
    processes = [site.popen("start") for _ in range(5)]
    results = [(process.communicate(timeout=TIMEOUT), process.returncode) for process in processes]
    codes = sorted(code for _, code in results)
    assert codes == [0, 1, 1, 1, 1]
    assert all("already runs" in err for (_, err), code in results if code)


def test_no_daemon_is_said(site: Site) -> None:
    for command in ("status", "stop"):
        done = site.run(command)
        assert done.returncode == 3
        assert f"no daemon at {site.control}" in done.stderr
        assert "tunneld start" in done.stderr


def test_a_killed_daemon_leaves_files_that_do_not_matter(site: Site) -> None:
    site.good("start")
    pid = site.status()["pid"]
    os.kill(pid, signal.SIGKILL)
    assert ended(pid)
    assert site.files() == ["control.sock", "control.sock.pid", "tunneld.pid"]
    assert site.run("status").returncode == 3
    site.good("start")
    assert site.status()["pid"] != pid


def test_cleanup_removes_what_a_killed_daemon_left(site: Site) -> None:
    site.good("start")
    assert site.run("cleanup").returncode == 1  # it runs
    pid = site.status()["pid"]
    os.kill(pid, signal.SIGKILL)
    assert ended(pid)
    (site.state / "labs" / "x" / "pki").mkdir(parents=True)
    out = site.good("cleanup")
    assert f"{site.control} removed" in out
    assert f"{site.state / 'labs' / 'x'} removed" in out
    assert site.files() == []
    assert list((site.state / "labs").iterdir()) == []
    assert site.good("cleanup") == "nothing to clean up\n"


def test_cleanup_of_one_lab_leaves_the_others(site: Site) -> None:
    for name in ("x", "y"):
        (site.state / "labs" / name).mkdir(parents=True)
    site.good("cleanup", "--name", "x")
    assert [path.name for path in (site.state / "labs").iterdir()] == ["y"]
    assert site.run("cleanup", "--name", "../..").returncode == 2


def test_roles_of_the_configuration_run(site: Site) -> None:
    site.good("start", "--config", site.config(ECHO))
    (role,) = site.status()["roles"]
    assert (role["name"], role["kind"], role["state"]) == ("echo", "echo", "ready")
    assert role["pid"] == site.status()["pid"]
    host, port = role["addresses"][0].split(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as sock:
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        assert sock.makefile("rb").read() == b"hello"


def test_a_role_that_is_not_well_is_told_and_harms_nobody(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        bad = ECHO.replace('"echo"\nl', '"bad"\nl').replace(":0", f":{port}")
        done = site.run("start", "--config", site.config(ECHO + bad))
        assert done.returncode == 0
        assert "note: role bad: backoff" in done.stderr
        assert {role["name"]: role["state"] for role in site.status()["roles"]} == {
            "echo": "ready",
            "bad": "backoff",
        }


@pytest.mark.parametrize(
    ("text", "says"),
    [("x = 1", "x: unknown key"), (ECHO * 2, "'echo' is taken by role[0].name")],
)
def test_a_bad_configuration_starts_nothing(site: Site, text: str, says: str) -> None:
    path = site.config(text)
    start = site.run("start", "--config", path)
    assert start.returncode == 1
    check = site.run("check-config", path)
    assert check.returncode == 2
    for done in (start, check):
        assert f"{path}: " in done.stderr
        assert says in done.stderr
    assert site.run("status").returncode == 3


def test_a_good_configuration_is_ok(site: Site) -> None:
    path = site.config(ECHO)
    assert site.good("check-config", path) == f"{path}: ok, 1 role\n"


def test_a_missing_configuration_is_said(site: Site) -> None:
    done = site.run("start", "--config", "none.toml")
    assert done.returncode == 1
    assert "none.toml: cannot be read: No such file or directory" in done.stderr


def test_a_socket_that_answers_is_not_taken_over(site: Site) -> None:
    site.control.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(site.control))
        other.listen()
        done = site.run("start")
    assert done.returncode == 1
    assert f"somebody else listens on {site.control}" in done.stderr
    assert site.control.exists()
    site.control.unlink()


def test_a_directory_open_to_others_is_refused(site: Site) -> None:
    site.state.mkdir()
    site.state.chmod(0o777)
    done = site.run("start")
    assert done.returncode == 1
    assert f"chmod 700 {site.state}" in done.stderr


def test_a_state_directory_that_cannot_be_made_is_said(site: Site) -> None:
    done = site.run("start", "--state", "/proc/nowhere")
    assert done.returncode == 1
    assert "cannot use /proc/nowhere" in done.stderr


def test_a_path_too_long_for_a_socket_is_refused(site: Site) -> None:
    done = site.run("start", "--control", f"/tmp/{'x' * 200}")
    assert done.returncode == 2
    assert "limit 107" in done.stderr


def test_a_daemon_in_the_foreground_logs_and_ends_by_a_signal(site: Site) -> None:
    process = site.popen("start", "--foreground", "--config", site.config(ECHO))
    assert process.stdout is not None
    assert process.stdout.readline() == (
        f"tunneld is ready: pid {process.pid}, control socket {site.control}\n"
    )
    process.send_signal(signal.SIGHUP)
    until(lambda: "reloaded changes=0" in site.log())
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    events = ("daemon started", "role started role=echo", "reloaded changes=0", "daemon stopped")
    for event in events:
        assert event in err
    assert err == site.log()
    assert site.files() == []


def test_a_start_in_the_foreground_fails_as_any_other(site: Site) -> None:
    site.good("start")
    done = site.run("start", "--foreground")
    assert done.returncode == 1
    assert "already runs" in done.stderr


def test_a_stop_lets_connections_end_and_a_second_signal_does_not(site: Site) -> None:
    site.good("start", "--config", site.config(ECHO))
    status = site.status()
    host, port = status["roles"][0]["addresses"][0].split(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        os.kill(status["pid"], signal.SIGINT)
        until(lambda: site.status()["roles"][0]["state"] == "draining")
        sock.sendall(b"y")
        assert sock.recv(1) == b"y"
        os.kill(status["pid"], signal.SIGTERM)
        assert ended(status["pid"])
    assert "daemon stops at once" in site.log()
    assert site.files() == []


def test_a_daemon_without_anybody_reading_its_output_runs(site: Site) -> None:
    process = site.popen("start", "--foreground")
    assert process.stdout is not None
    process.stdout.close()
    until(lambda: site.run("status").returncode == 0)
    process.terminate()
    assert process.wait(TIMEOUT) == 0
    assert process.stderr is not None
    process.stderr.close()


def test_a_daemon_that_hangs_is_named(site: Site) -> None:
    site.good("start")
    pid = site.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        done = site.run("status")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert done.returncode == 6
    assert f"kill -9 {pid}" in done.stderr


def test_the_version_is_told(site: Site) -> None:
    assert site.good("--version").startswith("tunneld ")


def test_a_role_in_a_namespace_that_is_not_there_is_told(site: Site) -> None:
    config = site.config(ECHO + 'namespace = "nosuchspace"\n')
    done = site.run("start", "--config", config)
    assert "role echo: backoff, no namespace 'nosuchspace'" in done.stderr
