"""The mark, and files that carry it."""

from pathlib import Path

import pytest

from netns.mark import is_marked, is_marked_file, mark, place_file, token_of


def test_token_belongs_to_the_directory(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    link = tmp_path / "link"
    link.symlink_to(other)
    assert token_of(tmp_path) != token_of(other)
    assert token_of(link) == token_of(other)


def test_mark_fits_into_the_alias_of_a_device(tmp_path: Path) -> None:
    assert len(mark("n" * 63, token_of(tmp_path))) < 256


def test_mark_of_another_lab_is_not_ours() -> None:
    assert is_marked(mark("demo", "abc"), "abc")
    assert not is_marked(mark("demo", "abd"), "abc")
    assert not is_marked("abc", "abc")
    assert not is_marked("", "abc")


def test_placed_file_is_marked_and_complete(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    place_file(path, "demo", "abc", "nameserver 10.0.0.1\n", prefix="# ")
    assert is_marked_file(path, "abc")
    assert path.read_text() == "# made by tunneld for lab demo abc\nnameserver 10.0.0.1\n"
    assert list(tmp_path.iterdir()) == [path]


def test_file_of_somebody_else_is_neither_replaced_nor_ours(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("theirs\n")
    with pytest.raises(FileExistsError):
        place_file(path, "demo", "abc", "ours\n")
    assert path.read_text() == "theirs\n"
    assert not is_marked_file(path, "abc")
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_kill_left_behind_does_not_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / ".tunneld-abc").write_text("half")
    place_file(tmp_path / "x", "demo", "abc", "")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_missing_and_binary_files_are_not_ours(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    assert not is_marked_file(tmp_path / "none", "abc")
    assert not is_marked_file(tmp_path / "binary", "abc")
    assert not is_marked_file(tmp_path, "abc")
