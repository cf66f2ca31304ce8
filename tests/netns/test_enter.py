"""Commands inside of namespaces: what they get, and what their callers see."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from netns import NetnsError, enter_argv, parse_topology, read_lab
from netns.enter import EnterError, parse_arguments
from tests.netns.programs import Site
from tests.netns.samples import pair

PAIR = parse_topology(pair())


@pytest.fixture
def up(site: Site) -> Site:
    """A site whose lab stands."""
    assert "result" in site.up(PAIR).last()
    return site


def test_command_is_in_the_namespace(up: Site) -> None:
    show = "import os; print(*sorted(name for _, name in __import__('socket').if_nameindex()))"
    assert up.shell("a", show) == "b lo\n"
    assert up.shell(f"{up.name}-b", show) == "a lo\n"


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_exit_status_is_the_commands(up: Site, status: int) -> None:
    assert up.run("a", "sh", "-c", f"exit {status}").returncode == status


def test_death_by_signal_is_the_commands(up: Site) -> None:
    assert up.run("a", "sh", "-c", "kill -TERM $$").returncode == -15


def test_missing_command_is_127_as_in_a_shell(up: Site) -> None:
    done = up.run("a", "no-such-command")
    assert (done.returncode, done.stderr) == (
        127,
        "netns.enter: no-such-command: command not found\n",
    )


def test_command_that_cannot_be_executed_is_126_as_in_a_shell(up: Site, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("#!/bin/sh\n")
    done = up.run("a", str(file))
    assert (done.returncode, done.stderr) == (126, f"netns.enter: {file}: Permission denied\n")


def test_directory_environment_and_input_are_the_callers(up: Site, tmp_path: Path) -> None:
    done = up.run(
        "a",
        "sh",
        "-c",
        "pwd; echo $VALUE; cat",
        cwd=tmp_path,
        env={**os.environ, "VALUE": "of the caller"},
        input="said\n",
    )
    assert done.stdout == f"{tmp_path}\nof the caller\nsaid\n"


def test_package_of_our_name_in_the_callers_directory_is_not_run(up: Site, tmp_path: Path) -> None:
    (tmp_path / "netns").mkdir()
    (tmp_path / "netns" / "__init__.py").write_text("raise SystemExit('wrong package')")
    assert up.run("a", "true", cwd=tmp_path).returncode == 0


def test_mounts_of_the_command_stay_its_own(up: Site) -> None:
    here = Path("/etc/resolv.conf").read_bytes()
    up.shell("a", "open('/etc/resolv.conf').read()")
    assert Path("/etc/resolv.conf").read_bytes() == here


def test_sysfs_shows_the_namespaces_devices(up: Site) -> None:
    argv = up.enter_argv("a", "ls", "/sys/class/net", sysfs=True)
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["b", "lo"]


def test_command_inside_may_bind_low_ports(up: Site) -> None:
    script = "import socket; print(socket.create_server(('10.0.0.1', 53)).getsockname()[1])"
    assert up.shell("a", script) == "53\n"


def test_command_does_not_keep_the_other_namespaces_of_a_rootless_lab(rootless: Site) -> None:
    rootless.up(PAIR).last()
    script = f"import os; print(os.listdir({str(rootless.directory / 'held')!r}))"
    assert rootless.shell("a", script) == "[]\n"


def test_entering_takes_a_moment(up: Site) -> None:
    argv = up.enter_argv("a", "true")
    assert min(_duration(argv) for _ in range(5)) < 0.25  # 0.03 s on an idle machine


def test_lab_that_is_gone_is_125_with_the_reason(up: Site) -> None:
    argv = up.enter_argv("a", "true")
    up.down()
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert "is the lab up?" in done.stderr


def test_unknown_namespace_names_those_there_are(up: Site) -> None:
    lab = read_lab(up.directory)
    assert lab is not None
    with pytest.raises(NetnsError) as caught:
        enter_argv(lab, "c")
    assert caught.value.code == "not_found"
    assert caught.value.hint == f"there are: {up.name}-a, {up.name}-b"


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--"],
        ["--net", "x"],
        ["--net", "x", "--"],
        ["--net", "--", "true"],
        ["--unknown", "x", "--net", "x", "--", "true"],
        ["true"],
    ],
)
def test_usage_errors_are_refused(argv: list[str]) -> None:
    with pytest.raises(EnterError, match="usage"):
        parse_arguments(argv)


def test_options_end_at_two_dashes() -> None:
    argv = ["--net", "x", "--sysfs", "--", "cat", "--net", "--"]
    assert parse_arguments(argv) == ({"--net": "x", "--sysfs": ""}, ["cat", "--net", "--"])


def test_program_starts_without_the_rest_of_the_package() -> None:
    script = (
        "import sys, netns.enter; "
        "print(*(name for name in sys.modules if name.startswith(('netns', 'pyroute2'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["netns", "netns.kernel", "netns.enter"]


def _duration(argv: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(argv, check=True)
    return time.perf_counter() - started
