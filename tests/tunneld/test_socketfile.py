import socket
from pathlib import Path

import pytest

from ctl.paths import PathError
from tunneld.socketfile import (
    SocketInUseError,
    control_socket,
    prepare_directory,
    remove_stale_socket,
)


def test_the_socket_is_for_its_owner_and_removed_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with control_socket(path) as listener:
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            listener.accept()[0].close()
    assert not path.exists()


def test_a_stale_socket_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with control_socket(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_that_answers_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with control_socket(path):
        with pytest.raises(SocketInUseError), control_socket(path):
            pass
        assert path.exists()


def test_a_listener_with_a_full_backlog_answers_too(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(path))
        listener.listen(0)
        client.connect(str(path))
        with pytest.raises(SocketInUseError):
            remove_stale_socket(path)


def test_another_file_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(PathError, match="is no socket"):
        remove_stale_socket(path)
    assert path.read_text() == "precious"


def test_a_successors_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with control_socket(path):
        path.unlink()
        path.write_text("a successor's")
    assert path.exists()


def test_a_missing_directory_is_made_private(tmp_path: Path) -> None:
    directory = tmp_path / "run" / "tunneld"
    prepare_directory(directory)
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_directory_where_others_write_needs_the_sticky_bit(tmp_path: Path) -> None:
    directory = tmp_path / "shared"
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(PathError, match="others can write to it"):
        prepare_directory(directory)
    directory.chmod(0o1777)
    prepare_directory(directory)
    assert directory.stat().st_mode & 0o7777 == 0o1777
