import os
from pathlib import Path

import pytest

from tunneld.lockfile import LockFile, LockHeldError, lock_holder


def test_a_held_lock_says_who_holds_it(tmp_path: Path) -> None:
    lock = LockFile.acquire(tmp_path / "pid", {"pid": 7, "control": "/x"})
    assert lock_holder(tmp_path / "pid") == {"pid": 7, "control": "/x"}
    with pytest.raises(LockHeldError, match="locked by pid 7") as caught:
        LockFile.acquire(tmp_path / "pid", {"pid": 8})
    assert caught.value.holder == {"pid": 7, "control": "/x"}
    lock.release()


def test_a_released_lock_leaves_no_file(tmp_path: Path) -> None:
    LockFile.acquire(tmp_path / "pid", {"pid": 7}).release()
    assert list(tmp_path.iterdir()) == []
    assert lock_holder(tmp_path / "pid") is None


def test_a_file_left_behind_means_nothing(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text('{"pid": 1}, of a daemon that was killed')
    assert lock_holder(tmp_path / "pid") is None
    lock = LockFile.acquire(tmp_path / "pid", {"pid": 8})
    assert lock_holder(tmp_path / "pid") == {"pid": 8}
    lock.release()


def test_a_lock_of_a_file_that_was_removed_does_not_count(tmp_path: Path) -> None:
    first = LockFile.acquire(tmp_path / "pid", {"pid": 7})
    (tmp_path / "pid").unlink()
    second = LockFile.acquire(tmp_path / "pid", {"pid": 8})
    assert lock_holder(tmp_path / "pid") == {"pid": 8}
    second.release()
    first.release()


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    lock = LockFile.acquire(tmp_path / "pid", {})
    assert (tmp_path / "pid").stat().st_mode & 0o777 == 0o600
    lock.release()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "pid").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        LockFile.acquire(tmp_path / "pid", {})
    assert not os.path.lexists(tmp_path / "elsewhere")
