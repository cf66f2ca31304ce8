import os
from pathlib import Path

import pytest

from ctl import paths


def test_root_uses_run_and_var_lib() -> None:
    assert paths.control_path(environ={}, uid=0) == Path("/run/tunneld/control.sock")
    assert paths.state_directory(environ={}, uid=0) == Path("/var/lib/tunneld")


def test_root_ignores_the_xdg_variables_of_the_user_it_came_from() -> None:
    environ = {"XDG_RUNTIME_DIR": "/run/user/7", "XDG_STATE_HOME": "/home/u/state"}
    assert paths.control_path(environ=environ, uid=0) == Path("/run/tunneld/control.sock")
    assert paths.state_directory(environ=environ, uid=0) == Path("/var/lib/tunneld")


def test_users_follow_xdg() -> None:
    environ = {"XDG_RUNTIME_DIR": "/run/user/7", "XDG_STATE_HOME": "/home/u/state"}
    assert paths.control_path(environ=environ, uid=7) == Path("/run/user/7/tunneld/control.sock")
    assert paths.state_directory(environ=environ, uid=7) == Path("/home/u/state/tunneld")


def test_users_without_xdg_get_tmp_and_home() -> None:
    environ = {"HOME": "/home/u"}
    assert paths.control_path(environ=environ, uid=7) == Path("/tmp/tunneld-7/control.sock")
    assert paths.state_directory(environ=environ, uid=7) == Path("/home/u/.local/state/tunneld")


def test_relative_xdg_directories_are_ignored() -> None:
    environ = {
        "XDG_RUNTIME_DIR": "run",
        "XDG_STATE_HOME": "state",
        "TMPDIR": "/var/tmp",
        "HOME": "/h",
    }
    assert paths.control_path(environ=environ, uid=7) == Path("/var/tmp/tunneld-7/control.sock")
    assert paths.state_directory(environ=environ, uid=7) == Path("/h/.local/state/tunneld")


def test_the_option_wins_over_the_environment_and_that_over_the_default() -> None:
    environ = {"TUNNELD_CONTROL": "/env/c.sock", "TUNNELD_STATE": "/env/state"}
    assert paths.control_path(environ=environ, uid=0) == Path("/env/c.sock")
    assert paths.control_path("/opt/c.sock", environ, uid=0) == Path("/opt/c.sock")
    assert paths.state_directory(environ=environ, uid=0) == Path("/env/state")
    assert paths.state_directory("/opt/state", environ, uid=0) == Path("/opt/state")


def test_explicit_paths_become_absolute() -> None:
    assert paths.control_path("c.sock", {}, uid=0) == Path.cwd() / "c.sock"
    assert paths.state_directory("state", {}, uid=0) == Path.cwd() / "state"


def test_a_socket_path_that_does_not_fit_the_kernel_is_refused_with_its_length() -> None:
    assert paths.control_path("/" + "a" * 106, {}, uid=0)
    with pytest.raises(paths.PathError, match="108 octets, limit 107"):
        paths.control_path("/" + "a" * 107, {}, uid=0)


def test_a_private_directory_is_made_with_mode_0700_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        paths.make_private_directory(tmp_path / "a/b")
    finally:
        os.umask(before)
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o700
    paths.make_private_directory(tmp_path / "a/b")


def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(paths.PathError, match="mode 0777"):
        paths.make_private_directory(tmp_path)


def test_a_symlink_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(paths.PathError, match="not a directory"):
        paths.make_private_directory(tmp_path / "link")


@pytest.mark.root
def test_a_directory_of_someone_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    os.chown(tmp_path / "d", 65534, 65534)
    with pytest.raises(paths.PathError, match="belongs to uid 65534"):
        paths.make_private_directory(tmp_path / "d")
