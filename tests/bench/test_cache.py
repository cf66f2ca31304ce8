from pathlib import Path

import pytest

from bench.cache import built, cache_directory
from bench.errors import BenchError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def build(tmp_path: Path, text: str) -> Path:
    source = tmp_path / "source"
    source.write_text(text)
    return built(
        "thing", [source], ["sh", "-c", "date +%N >OUT/made; cat source >>OUT/made"], tmp_path
    )


def test_what_is_built_is_kept(tmp_path: Path) -> None:
    first = (build(tmp_path, "one") / "made").read_text()
    assert (build(tmp_path, "one") / "made").read_text() == first
    assert first.endswith("one")


def test_changed_sources_are_built_anew(tmp_path: Path) -> None:
    assert build(tmp_path, "one") != build(tmp_path, "two")


def test_failed_build_is_quoted_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="sh failed: no luck"):
        built("thing", [], ["sh", "-c", "touch OUT/half; echo no luck >&2; exit 1"], tmp_path)
    assert not list(cache_directory().iterdir())


def test_missing_builder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="cannot build with no-such-compiler"):
        built("thing", [], ["no-such-compiler", "OUT"], tmp_path)
