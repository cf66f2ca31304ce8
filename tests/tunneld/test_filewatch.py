"""Which changes of files are told, and when."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tunneld.filewatch import INTERVAL, FileWatch, _look_at


class Watched:
    """A watch of some files, with what it has told of."""

    def __init__(self) -> None:
        self.files: dict[str, Iterable[str]] = {}
        self.watch = FileWatch(lambda: self.files)

    async def next_change(self, patience: float = 10.0) -> tuple[set[str], float]:
        """What changes next, and after how many looks; nothing if that takes too many."""
        looks = 0
        while looks < patience:
            looks += 1
            files = {owner: list(paths) for owner, paths in self.files.items()}
            if changed := self.watch._compare(_look_at(files)):
                return changed, looks
        return set(), looks


@pytest.fixture
async def watched(tmp_path: Path) -> Watched:
    """With the file ``a``, which has settled."""
    watched = Watched()
    (tmp_path / "a").write_text("one")
    watched.files = {"role": [str(tmp_path / "a")]}
    assert await watched.next_change() == ({"role"}, 2)
    return watched


async def test_files_that_stay_are_not_told_of(watched: Watched) -> None:
    assert (await watched.next_change())[0] == set()


async def test_a_change_is_told_once_it_has_settled(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("another")
    assert await watched.next_change() == ({"role"}, 2)
    assert (await watched.next_change())[0] == set()


async def test_what_goes_on_changing_is_waited_for(watched: Watched, tmp_path: Path) -> None:
    for size in range(5, 9):
        (tmp_path / "a").write_text("x" * size)
        assert (await watched.next_change(1))[0] == set()
    assert await watched.next_change() == ({"role"}, 1)


async def test_a_file_of_the_same_size_and_time_in_its_place_is_a_change(
    watched: Watched, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    status = path.stat()
    new = tmp_path / "new"
    new.write_text("two")
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(path)
    assert (await watched.next_change())[0] == {"role"}


async def test_a_file_that_goes_and_comes_is_a_change(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "a").unlink()
    assert (await watched.next_change())[0] == {"role"}
    (tmp_path / "a").write_text("back")
    assert (await watched.next_change())[0] == {"role"}


async def test_a_directory_that_is_swapped_by_a_link_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes does it: the files are links through ``..data``, which is replaced."""
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "tls.crt").write_text("same size")
    data, certificate = tmp_path / "..data", tmp_path / "tls.crt"
    data.symlink_to("v1")
    certificate.symlink_to("..data/tls.crt")
    watched = Watched()
    watched.files = {"role": [str(certificate)]}
    await watched.next_change()
    (tmp_path / "..data_tmp").symlink_to("v2")
    (tmp_path / "..data_tmp").replace(data)
    assert (await watched.next_change())[0] == {"role"}


async def test_each_owner_is_told_of_its_own(watched: Watched, tmp_path: Path) -> None:
    watched.files = {**watched.files, "other": [str(tmp_path / "b"), "\0"]}
    assert (await watched.next_change())[0] == {"other"}
    (tmp_path / "b").write_text("now it is there")
    assert (await watched.next_change())[0] == {"other"}


async def test_who_comes_again_is_new(watched: Watched) -> None:
    files, watched.files = watched.files, {}
    assert (await watched.next_change())[0] == set()
    watched.files = files
    assert (await watched.next_change())[0] == {"role"}


async def test_it_looks_now_and_then(tmp_path: Path, autojump_clock: MockClock) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    watch = FileWatch(lambda: {"role": [str(path)]})
    started = trio.current_time()
    assert await watch.next_change() == {"role"}
    assert trio.current_time() - started == pytest.approx(INTERVAL)
