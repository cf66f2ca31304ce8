import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctl.demo_leftovers import daemon_leftovers, lab_leftovers
from ctl.demo_world import Done, ProofError, World, wait_until
from tests.ctl.fakedaemon import FakeDaemon


@pytest.fixture
def world() -> Iterator[World]:
    made = World(lambda _command: None)
    yield made
    made.remove()
    assert not made.folder.exists()


def test_commands_find_the_world_s_daemon(world: World) -> None:
    daemon = FakeDaemon(world.control)
    role = {"name": "x/http", "kind": "http", "addresses": ["192.168.1.2:8080"]}
    daemon.answers["role.list"] = {"roles": [role, {**role, "kind": "dns", "addresses": []}]}
    try:
        assert world.role("http")["name"] == "x/http"
        assert world.address("http") == "192.168.1.2:8080"
        with pytest.raises(ProofError, match="listens nowhere"):
            world.address("dns")
        with pytest.raises(ProofError, match="expected one role of kind echo, got 0"):
            world.role("echo")
    finally:
        daemon.close()


def test_commands_are_told_as_people_type_them() -> None:
    told: list[str] = []
    world = World(told.append)
    world.tunnelctl("grpc", "h", "--name", "a b")
    world.tunnelctl("--version", quiet=True)
    world.remove()
    assert told == ["tunnelctl grpc h --name 'a b'"]


def test_a_failed_command_is_quoted_with_what_was_expected() -> None:
    done = Done("tunnelctl x", 7, b"out\n", "note\nerror[no_agent]: none\nhint: start one\n")
    with pytest.raises(ProofError) as caught:
        done.require_success()
    assert str(caught.value) == (
        "tunnelctl x: expected success, got exit code 7, error[no_agent]: none"
    )
    with pytest.raises(ProofError, match="expected y, got exit code 0, 'out'"):
        Done("tunnelctl x", 0, b"out\n", "").require("y", holds=False)
    Done("tunnelctl x", 0, b"", "").require_success()


def test_the_last_line_of_a_traceback_is_the_complaint() -> None:
    err = "Traceback (most recent call last):\n  File x\nTimeoutError: timed out\n"
    assert Done("python", 1, b"", err).complaint == "TimeoutError: timed out"


def test_an_error_of_several_lines_is_quoted_whole_but_for_its_hint() -> None:
    err = "note\nerror[failed]: bad configuration\nf.toml: role: expected\nhint: see\n"
    complaint = Done("tunneld start", 1, b"", err).complaint
    assert complaint == "error[failed]: bad configuration f.toml: role: expected"


def test_the_code_of_an_error_in_json() -> None:
    error = '{"version": 1, "error": {"code": "forbidden", "message": "m", "hint": ""}}\n'
    done = Done("tunnelctl", 1, b"", f"note\n{error}")
    assert (done.error["code"], done.complaint) == ("forbidden", "error[forbidden]: m")
    assert Done("tunnelctl", 1, b"", "error[x]: y\n").error == {}


def test_waiting_ends_when_it_holds_or_the_time_is_over() -> None:
    looks = iter([False, True])
    wait_until(lambda: next(looks), "it", 30)
    with pytest.raises(ProofError, match="expected it within 0 s"):
        wait_until(lambda: False, "it", 0)


def test_an_untouched_world_has_nothing_left_over(world: World) -> None:
    assert lab_leftovers(world) == []
    assert daemon_leftovers(world) == []


def test_processes_of_the_world_are_found_by_their_environment(world: World) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **world.environment},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (left,) = daemon_leftovers(world)
        process.communicate()
    assert left.startswith(f"process {process.pid}: ")
    assert daemon_leftovers(world) == []


def test_files_of_the_lab_and_the_socket_are_found(world: World) -> None:
    lab = world.state / "labs" / world.lab
    lab.mkdir(parents=True)
    world.control.touch()
    assert lab_leftovers(world) == [str(lab)]
    assert daemon_leftovers(world) == [str(world.control)]


def test_the_folder_is_private_and_leaves_room_for_sockets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import tempfile

    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    world = World(lambda _command: None)
    try:
        assert world.folder.stat().st_mode & 0o777 == 0o700
        assert len(str(world.control)) < 100
        assert list(deep.iterdir()) == []
    finally:
        world.remove()
