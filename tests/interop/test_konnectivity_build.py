"""How the Go programs are built and kept, with a command in place of go's."""

from pathlib import Path

import pytest

from tests.interop.konnectivity import build

FAKE = """#!/bin/sh
echo run >>"{log}"
{then}
for argument; do
  case $argument in
  */unfinished/) touch "$argument/server" "$argument/agent" "$argument/bridge" ;;
  esac
done
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    build.build.cache_clear()
    return build.cache_directory()


def fake_go(tmp_path: Path, then: str = "") -> str:
    go = tmp_path / "go"
    go.write_text(FAKE.format(log=tmp_path / "log", then=then))
    go.chmod(0o755)
    return str(go)


def runs(tmp_path: Path) -> int:
    return len((tmp_path / "log").read_text().splitlines())


def test_programs_are_built_once(tmp_path: Path, cache: Path) -> None:
    go = fake_go(tmp_path)
    programs = build.build(go)
    build.build.cache_clear()  # as another test run has it
    assert build.build(go) == programs
    assert programs.bridge.exists()
    assert runs(tmp_path) == 1
    assert {path.name for path in cache.iterdir()} == {build.digest(), "lock"}


def test_programs_of_other_sources_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "module"
    (module / "cmd").mkdir(parents=True)
    monkeypatch.setattr(build, "MODULE", module)
    digests = {build.digest()}
    for name in ("go.mod", "go.sum", "cmd/main.go"):
        (module / name).write_text("one")
        digests.add(build.digest())
        (module / name).write_text("two")
        digests.add(build.digest())
    assert len(digests) == 7


def test_a_failed_build_leaves_nothing_and_says_why(tmp_path: Path, cache: Path) -> None:
    go = fake_go(tmp_path, "echo no such module >&2; exit 1")
    with pytest.raises(build.BuildError, match="no such module"):
        build.build(go)
    assert [path.name for path in cache.iterdir()] == ["lock"]


def test_the_version_of_go_is_known(tmp_path: Path) -> None:
    assert build.go_version(fake_go(tmp_path, "echo go version go1.19.8 linux/amd64")) == (1, 19)
    assert build.go_version(fake_go(tmp_path, "exit 1")) == (0, 0)
