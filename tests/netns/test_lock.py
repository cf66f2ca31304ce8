"""Locks on directories."""

from pathlib import Path

import pytest

from netns.errors import NetnsError
from netns.lock import is_locked, lock_directory


def test_lock_is_held_within_the_block_and_free_after_it(tmp_path: Path) -> None:
    with lock_directory(tmp_path, 0.0, "nobody"):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_second_holder_gives_up_and_names_the_first(tmp_path: Path) -> None:
    with (
        lock_directory(tmp_path, 0.0, "nobody"),
        pytest.raises(NetnsError, match="locked by a test") as caught,
        lock_directory(tmp_path, 0.0, "a test"),
    ):
        pass
    assert caught.value.code == "busy"


def test_missing_directory_is_not_locked(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "none")
