"""The journal: written whole, read back, never trusted blindly."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from netns.errors import NetnsError
from netns.journal import (
    FILE,
    Journal,
    Mode,
    Phase,
    boot_id,
    read_journal,
    remove_journal,
    write_journal,
)
from netns.mark import token_of


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(
        name="demo",
        token=token_of(tmp_path),
        mode=Mode.ROOT,
        phase=Phase.BUILDING,
        boot=boot_id(),
        since=1.5,
        pid=7,
        started=9,
        topology={"name": "demo", "namespace": [{"name": "a"}]},
        folders=("/run/netns",),
    )


def test_what_is_written_is_read(tmp_path: Path, journal: Journal) -> None:
    write_journal(tmp_path, journal)
    assert read_journal(tmp_path) == journal


def test_finished_build_replaces_the_entry(tmp_path: Path, journal: Journal) -> None:
    write_journal(tmp_path, journal)
    write_journal(tmp_path, journal.up({"a": 5}))
    assert read_journal(tmp_path) == replace(journal, phase=Phase.UP, inodes={"a": 5})
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_only_the_owner_may_read_it(tmp_path: Path, journal: Journal) -> None:
    write_journal(tmp_path, journal)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_there_is_none_where_there_is_no_directory(tmp_path: Path) -> None:
    assert read_journal(tmp_path) is None
    assert read_journal(tmp_path / "none") is None


def test_removing_twice_is_harmless(tmp_path: Path, journal: Journal) -> None:
    write_journal(tmp_path, journal)
    remove_journal(tmp_path)
    remove_journal(tmp_path)
    assert not any(tmp_path.iterdir())


def test_entry_cut_off_by_a_kill_does_not_count(tmp_path: Path, journal: Journal) -> None:
    write_journal(tmp_path, journal)
    (tmp_path / f".{FILE}").write_text('{"version": 1, "na')
    assert read_journal(tmp_path) == journal
    remove_journal(tmp_path)
    assert not any(tmp_path.iterdir())


def test_journal_of_another_directory_is_refused(tmp_path: Path, journal: Journal) -> None:
    write_journal(tmp_path, journal)
    copy = tmp_path / "copy"
    copy.mkdir()
    (tmp_path / FILE).rename(copy / FILE)
    with pytest.raises(NetnsError, match="written for another directory"):
        read_journal(copy)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"version": 99}',
        '{"version": 1}',
        '{"version": 1, "mode": "x", "phase": "up", "folders": []}',
    ],
)
def test_damaged_journal_is_refused_with_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(NetnsError, match="is damaged") as caught:
        read_journal(tmp_path)
    assert (caught.value.code, "remove that file" in caught.value.hint) == ("failed", True)


def test_journal_with_unknown_members_is_refused(tmp_path: Path, journal: Journal) -> None:
    write_journal(tmp_path, journal)
    value = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**value, "extra": 1}))
    with pytest.raises(NetnsError, match="is damaged"):
        read_journal(tmp_path)
