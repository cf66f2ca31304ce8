import os
import socket
from pathlib import Path

import pytest

from tests.tunneld.doctor.samples import only
from tunneld.doctor.kernel import check_kernel
from tunneld.doctor.places import check_socket, check_state


@pytest.mark.parametrize(("mode", "verdict"), [(0o700, "pass"), (0o777, "fail")])
def test_the_state_directory_is_for_its_owner(tmp_path: Path, mode: int, verdict: str) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    directory.chmod(mode)
    assert str(only(check_state(directory, os.getuid())).verdict) == verdict
    assert str(only(check_state(directory, os.getuid() + 1)).verdict) == "fail"


def test_a_state_directory_that_is_none_fails_and_a_missing_one_is_noted(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    uid = os.getuid()
    assert str(only(check_state(tmp_path / "file", uid)).verdict) == "fail"
    assert str(only(check_state(tmp_path / "none", uid)).verdict) == "info"


@pytest.mark.parametrize(("mode", "verdict"), [(0o600, "pass"), (0o666, "warn")])
def test_the_control_socket_is_for_its_owner(tmp_path: Path, mode: int, verdict: str) -> None:
    path = tmp_path / "c"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.fspath(path))
        path.chmod(mode)
        assert str(only(check_socket(path)).verdict) == verdict


def test_what_is_no_control_socket_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "none"):
        assert str(only(check_socket(tmp_path / name)).verdict) == "fail"


def test_the_kernel_is_never_a_failure(tmp_path: Path) -> None:
    (tmp_path / "user").mkdir()
    (tmp_path / "user/max_user_namespaces").write_text("0\n")
    found = only(check_kernel(tmp_path))
    assert str(found.verdict) == "info"
    assert ("sysctl user.max_user_namespaces=0" in found.detail) == (os.geteuid() != 0)
