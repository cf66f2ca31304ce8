"""Whatever happened to a lab and its builder, one teardown leaves nothing of it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns import NetnsError, builtin_topology, parse_topology, read_lab, tear_down
from netns.folders import is_mount_point
from netns.places import ETC, NAMED
from tests.netns.programs import PLAIN, Program, Site, foreign_namespace
from tests.netns.samples import ROUTED, pair

DEMO = builtin_topology("demo")
PAIR = parse_topology(pair())
SOLO = parse_topology({"name": "solo", "namespace": [{"name": "a", "nameservers": ["10.0.0.1"]}]})

MAX_TOUCHES = 200
"""A program that has not ended after so many is not the one these tests know."""


def test_down_without_a_lab_is_harmless(site: Site) -> None:
    assert site.down() == {"result": {}}
    assert site.down() == {"result": {}}


def test_down_after_down_is_harmless(site: Site) -> None:
    site.up(PAIR).last()
    assert site.down() == {"result": {}}
    assert site.down() == {"result": {}}
    assert site.remains() == []


def test_down_tells_what_it_removes(site: Site) -> None:
    site.up(PAIR).last()
    items: list[dict[str, object]] = []
    tear_down(site.directory, items.append)
    assert [(item["step"], item["state"]) for item in items if item["step"] != "processes"] == [
        (f"namespace {site.name}-a", "done"),
        (f"namespace {site.name}-b", "done"),
    ]
    assert site.remains() == []


def test_down_ends_the_processes_inside_stubborn_ones_too(site: Site) -> None:
    site.up(PAIR).last()
    stubborn = "import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); signal.pause()"
    with (
        site.spawn("a", stubborn) as first,
        site.spawn("b", "print(flush=True); input()") as second,
    ):
        first.wait_for_line()
        second.wait_for_line()
        assert site.down() == {"result": {}}
        assert (first.close()[0], second.close()[0]) == (-9, -15)
    assert site.remains() == []


def test_down_finds_processes_inside_though_their_holder_was_killed(rootless: Site) -> None:
    builder = rootless.up(PAIR)
    builder.last()
    with rootless.spawn("a", "print(flush=True); input()") as left:
        left.wait_for_line()
        builder.kill()
        assert rootless.down() == {"result": {}}
        assert left.close()[0] == -15
    assert rootless.remains() == []


def test_builder_killed_after_any_step_leaves_nothing_that_down_does_not_remove(site: Site) -> None:
    for steps in _count():
        builder = site.up(ROUTED)
        messages = builder.messages()
        said = [message for _, message in zip(range(steps), messages, strict=False)]
        builder.kill()
        assert site.down() == {"result": {}}
        assert site.remains() == [], f"after {said[-1:]}"
        if said and "result" in said[-1]:
            return


@pytest.mark.root
def test_builder_killed_at_any_touch_leaves_nothing_that_down_does_not_remove(named: Site) -> None:
    for touches in _count():
        status = _run_dying(touches, "netns.build", named, named.request(SOLO))
        assert named.down() == {"result": {}}
        assert named.remains() == [], f"killed before touch {touches}"
        if status == 0:
            assert touches > 20
            return


@pytest.mark.root
def test_up_after_a_kill_at_any_touch_builds_the_lab(named: Site) -> None:
    for touches in range(1, 40, 4):
        _run_dying(touches, "netns.build", named, named.request(SOLO))
        assert "result" in named.up(SOLO).last(), f"killed before touch {touches}"
        assert named.down() == {"result": {}}


@pytest.mark.root
def test_teardown_killed_at_any_touch_is_finished_by_the_next(named: Site) -> None:
    for touches in _count():
        assert "result" in named.up(SOLO).last()
        status = _run_dying(touches, "netns.teardown", named, b"")
        assert named.down() == {"result": {}}
        assert named.remains() == [], f"killed before touch {touches}"
        if status == 0:
            assert touches > 8
            return


@pytest.mark.root
def test_lab_without_its_directory_is_found_by_its_marks(named: Site) -> None:
    named.up(PAIR).last()
    shutil.rmtree(named.directory)
    assert named.down() == {"result": {}}
    assert named.remains() == []


@pytest.mark.root
def test_namespace_that_somebody_else_put_in_our_place_is_left_alone(named: Site) -> None:
    named.up(PAIR).last()
    path = NAMED / f"{named.name}-b"
    subprocess.run(["umount", str(path)], check=True)
    path.unlink()
    with foreign_namespace(path.name) as theirs:
        items: list[dict[str, object]] = []
        tear_down(named.directory, items.append)
        assert [item["state"] for item in items] == ["done", "skip"]
        assert items[-1]["detail"] == "left alone: this lab did not make it"
        assert theirs.stands()


@pytest.mark.root
def test_namespace_mounted_over_ours_is_left_alone(named: Site) -> None:
    named.up(PAIR).last()
    path = NAMED / f"{named.name}-b"
    script = (
        "import sys; from netns import kernel; kernel.unshare(kernel.CLONE_NEWNET); "
        "kernel.mount('/proc/self/ns/net', sys.argv[1], 'none', kernel.MS_BIND)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    items: list[dict[str, object]] = []
    tear_down(named.directory, items.append)
    assert items[-1]["state"] == "skip"
    assert path.exists()
    subprocess.run(["umount", str(path)], check=True)
    assert named.down() == {"result": {}}


@pytest.mark.root
def test_files_that_the_user_added_stay(named: Site) -> None:
    named.up(PAIR).last()
    theirs = ETC / f"{named.name}-a" / "hosts"
    theirs.write_text("10.0.0.9 nine\n")
    named.down()
    assert theirs.read_text() == "10.0.0.9 nine\n"
    assert named.remains() == [f"etc {theirs.parent.name}"]
    shutil.rmtree(theirs.parent)


@pytest.mark.root
def test_directories_go_with_the_last_lab_whoever_made_them(tmp_path: Path, named: Site) -> None:
    if ETC.exists() or NAMED.exists():
        pytest.xfail("somebody else uses /run/netns or /etc/netns just now")
    second = Site(tmp_path / "second", f"{named.name}s")
    named.up(PAIR).last()
    second.up(PAIR).last()
    assert is_mount_point(NAMED)
    named.down()
    second.down()
    assert not ETC.exists()
    assert not NAMED.exists()


@pytest.mark.root
def test_plain_user_cannot_take_roots_lab_down(named: Site) -> None:
    named.up(PAIR).last()
    plain = Site(named.directory, named.name, PLAIN)
    assert plain.down()["error"]["code"] == "forbidden"
    assert read_lab(named.directory) is not None


def test_failed_program_raises_its_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NetnsError) as caught:
        tear_down(tmp_path / "file" / "lab")
    assert caught.value.code == "failed"


def _count() -> Iterator[int]:
    yield from range(1, MAX_TOUCHES)
    pytest.fail(f"no end after {MAX_TOUCHES}")


def _run_dying(touches: int, module: str, site: Site, request: bytes) -> int:
    argv = [
        sys.executable,
        str(Path(__file__).with_name("dying.py")),
        str(touches),
        module,
        str(site.directory),
    ]
    program = Program(argv, request)
    list(program.messages())
    return program.close()[0]
