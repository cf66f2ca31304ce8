import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest

from ctl import cli
from ctl.messages import ControlError
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import FakeDaemon, Stream

UP = Stream(
    [
        {"step": "namespace public", "state": "start", "detail": ""},
        {"step": "namespace public", "state": "done", "detail": "2.2.2.2/27"},
        {"step": "certificates", "state": "skip", "detail": "valid"},
    ],
    {
        "name": "demo",
        "namespaces": ["public", "private"],
        "roles": ["server", "agent"],
        "next": ["tunnelctl a", "tunnelctl b", "tunnelctl c"],
    },
)


def test_up_shows_steps_on_stderr_and_what_to_try_next_on_stdout(
    daemon: FakeDaemon, run: Run
) -> None:
    daemon.answers["ns.up"] = UP
    done = run("ns", "up")
    assert done.code == 0
    assert daemon.calls == [("ns.up", {"name": None, "topology": None, "bare": False})]
    assert done.stderr == "ok     namespace public  (2.2.2.2/27)\n--     certificates  (valid)\n"
    assert done.stdout.endswith("try next:\n  tunnelctl a\n  tunnelctl b\n  tunnelctl c\n")


def test_up_as_json_is_an_object_a_line_with_the_end_last(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["ns.up"] = UP
    done = run("ns", "up", "-o", "json")
    items = [json.loads(line) for line in done.stdout.splitlines()]
    assert [item.get("state") for item in items] == ["start", "done", "skip", None]
    assert items[-1]["next"] == ["tunnelctl a", "tunnelctl b", "tunnelctl c"]
    assert all(item["version"] == 1 for item in items)
    assert done.stderr == ""


def test_up_sends_the_topology_of_a_file(daemon: FakeDaemon, run: Run, tmp_path: Path) -> None:
    daemon.answers["ns.up"] = UP
    (tmp_path / "t.toml").write_text('name = "own"\n[[namespace]]\nname = "a"\n')
    run("ns", "up", "--name", "x", "--bare", "--topology", str(tmp_path / "t.toml"))
    topology = {"name": "own", "namespace": [{"name": "a"}]}
    assert daemon.calls == [("ns.up", {"name": "x", "topology": topology, "bare": True})]


def test_a_topology_that_is_no_toml_is_a_usage_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text("not toml")
    done = run("ns", "up", "--topology", str(tmp_path / "t.toml"))
    assert done.code == 2
    assert "is not TOML" in done.stderr


def test_up_that_fails_midway_shows_the_error(daemon: FakeDaemon, run: Run) -> None:
    error = ControlError("forbidden", "no permission for namespaces", "run as root")
    daemon.answers["ns.up"] = Stream(UP.items[:1], error=error)
    done = run("ns", "up")
    assert done.code == 1
    assert done.stderr.endswith(
        "error[forbidden]: no permission for namespaces\nhint: run as root\n"
    )


def test_down_shows_its_steps(daemon: FakeDaemon, run: Run) -> None:
    items = [{"step": "namespace public", "state": "done", "detail": ""}]
    daemon.answers["ns.down"] = Stream(items, {"name": "demo"})
    done = run("ns", "down", "--name", "demo")
    assert daemon.calls == [("ns.down", {"name": "demo"})]
    assert done.stdout == "lab demo is gone\n"


def test_down_without_a_daemon_cleans_up_by_tunneld(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _fake_tunneld(tmp_path, monkeypatch)
    control = tmp_path / "none.sock"
    assert cli.run(["--control", str(control), "ns", "down", "--name", "x"]) == 7
    out, err = capfd.readouterr()
    assert out == f"cleanup --name x control={control}\n"
    assert "cleaning up without it" in err


def test_down_with_a_daemon_of_another_version_does_not_clean_up_behind_its_back(
    daemon: FakeDaemon, run: Run
) -> None:
    daemon.answers["hello"] = ControlError("bad_version", "too old")
    assert run("ns", "down").code == 1


def test_labs_are_listed_by_namespace(daemon: FakeDaemon, run: Run) -> None:
    lab = {
        "name": "demo",
        "mode": "root",
        "state": "up",
        "since": 0,
        "namespaces": [
            {"name": "public", "addresses": ["2.2.2.2/27"]},
            {"name": "rtr-pub", "addresses": ["2.2.2.1/27", "10.10.10.1/27"]},
        ],
    }
    daemon.answers["ns.list"] = {"labs": [lab]}
    lines = run("ns", "list").stdout.splitlines()
    assert lines[1].split() == ["demo", "public", "2.2.2.2/27", "root", "up", "-"]
    assert "2.2.2.1/27 10.10.10.1/27" in lines[2]
    assert json.loads(run("ns", "list", "-o", "json").stdout)["labs"] == [lab]


def test_check_fails_if_one_check_fails(daemon: FakeDaemon, run: Run) -> None:
    good = {"check": "private reaches 2.2.2.2", "ok": True, "detail": "0.1 ms"}
    untried = {"check": "ipv6", "ok": None, "detail": "no IPv6"}
    bad = {"check": "public does not reach 192.168.1.2", "ok": False, "detail": "it answered"}
    daemon.answers["ns.check"] = Stream([good, untried])
    done = run("ns", "check")
    assert done.code == 0
    assert done.stdout == "ok     private reaches 2.2.2.2  (0.1 ms)\n--     ipv6  (no IPv6)\n"
    daemon.answers["ns.check"] = Stream([good, bad])
    done = run("ns", "check")
    assert done.code == 1
    assert "FAILED public does not reach 192.168.1.2  (it answered)" in done.stdout
    assert "error[failed]: 1 checks failed" in done.stderr


def test_graph_prints_the_daemon_s_drawing(daemon: FakeDaemon, run: Run) -> None:
    answer = {"topology": {"name": "demo"}, "drawing": "+--+\n|  |\n", "dot": "graph {\n}\n"}
    daemon.answers["ns.graph"] = answer
    assert run("ns", "graph").stdout == "+--+\n|  |\n"
    assert run("ns", "graph", "--dot").stdout == "graph {\n}\n"
    done = run("ns", "graph", "-o", "json")
    assert json.loads(done.stdout) == {"version": 1, **answer}


def test_exec_becomes_the_command_in_the_namespace(
    daemon: FakeDaemon, start: Callable[..., "Popen[bytes]"]
) -> None:
    daemon.answers["ns.enter"] = {"argv": ["env", "IN=private"]}
    script = "import os, sys; print(os.environ['IN'], sys.argv[1:]); sys.exit(42)"
    process = start("ns", "exec", "private", sys.executable, "-c", script, "-o", "--help")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 42
    assert out == b"private ['-o', '--help']\n"
    assert daemon.calls == [("ns.enter", {"namespace": "private"})]


def test_exec_passes_over_a_double_dash_and_restores_the_broken_pipe_signal(
    daemon: FakeDaemon, start: Callable[..., "Popen[bytes]"]
) -> None:
    daemon.answers["ns.enter"] = {"argv": ["env"]}
    process = start("ns", "exec", "private", "--", "grep", "SigIgn", "/proc/self/status")
    out, _ = process.communicate(timeout=30)
    ignored = int(out.split()[1], 16)
    sigpipe = 1 << (13 - 1)
    assert not ignored & sigpipe


def test_exec_without_a_command_is_a_shell(
    daemon: FakeDaemon, start: Callable[..., "Popen[bytes]"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", "/bin/sh")
    daemon.answers["ns.enter"] = {"argv": ["env"]}
    out, _ = start("ns", "exec", "private").communicate(b"echo shell $((1+1))\n", timeout=30)
    assert out == b"shell 2\n"


def test_exec_in_an_unknown_namespace_exits_with_4(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["ns.enter"] = ControlError("not_found", "no namespace x")
    assert run("ns", "exec", "x", "true").code == 4


def test_exec_that_cannot_be_executed_says_so(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["ns.enter"] = {"argv": ["/no/such/program"]}
    done = run("ns", "exec", "x", "true")
    assert done.code == 1
    assert "cannot execute /no/such/program" in done.stderr


def test_certs_are_passed_on_to_tunneld(
    tmp_path: Path,
    daemon: FakeDaemon,
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[..., "Popen[bytes]"],
) -> None:
    _fake_tunneld(tmp_path, monkeypatch)
    process = start("certs", "init", "--dir", "x", "--help")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 7
    assert out == f"certs init --dir x --help control={daemon.path}\n".encode()


def _fake_tunneld(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `python -m tunneld` that says what it was called with and exits with 7."""
    package = folder / "tunneld"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import os, sys\n"
        "print(*sys.argv[1:], f\"control={os.environ['TUNNELD_CONTROL']}\", flush=True)\n"
        "sys.exit(7)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, sys.path)]))
