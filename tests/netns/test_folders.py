"""Directories that several labs share: the last one removes what one of them made."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns import folders

pytestmark = pytest.mark.root


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A path that is unmounted at the end."""
    path = tmp_path / "netns"
    yield path
    while path.exists() and folders.is_mount_point(path):
        subprocess.run(["umount", str(path)], check=True)


def test_missing_ones_are_told(tmp_path: Path, folder: Path) -> None:
    assert folders.missing([tmp_path, folder]) == (str(folder),)


def test_what_we_made_goes_though_the_journal_of_another_lab_knows_nothing(folder: Path) -> None:
    folders.make(folder)
    folders.share(folder)
    assert folders.is_mount_point(folder)
    folders.remove(folder, ours=False)
    assert not folder.exists()


def test_what_somebody_else_made_stays(folder: Path) -> None:
    folder.mkdir()
    folders.make(folder)
    folders.remove(folder, ours=False)
    assert folder.is_dir()


def test_mount_of_ours_goes_and_the_directory_of_somebody_else_stays(folder: Path) -> None:
    folder.mkdir()
    folders.share(folder)
    folders.remove(folder, ours=False)
    assert folder.is_dir()
    assert not folders.is_mount_point(folder)


def test_mount_of_somebody_else_is_shared_and_stays(folder: Path) -> None:
    folder.mkdir()
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    folders.share(folder)
    folders.remove(folder, ours=False)
    assert folders.is_mount_point(folder)


def test_what_is_in_use_stays_until_it_is_not(folder: Path) -> None:
    folders.make(folder)
    folders.share(folder)
    (folder / "theirs").touch()
    folders.remove(folder, ours=True)
    assert folders.is_mount_point(folder)
    (folder / "theirs").unlink()
    folders.remove(folder, ours=False)
    assert not folder.exists()


def test_lab_killed_before_it_noted_what_it_made_notes_it_at_its_end(folder: Path) -> None:
    folder.mkdir()
    (folder / "of-another-lab").touch()
    folders.remove(folder, ours=True)
    (folder / "of-another-lab").unlink()
    folders.remove(folder, ours=False)
    assert not folder.exists()


def test_removing_what_is_gone_is_harmless(folder: Path) -> None:
    folders.remove(folder, ours=True)
    assert not folder.exists()
