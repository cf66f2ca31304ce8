import os
from pathlib import Path

import pytest

from ctl.messages import ControlError
from netns import builtin_topology
from netns.journal import Journal, Mode, Phase, boot_id, write_journal
from netns.mark import token_of
from netns.processes import start_time
from netns.topology_map import topology_to_map
from tunneld.namespaces import way_into


def make_lab(labs: Path, name: str, mode: Mode = Mode.ROOT, phase: Phase = Phase.UP) -> None:
    """A lab as far as its files tell."""
    directory = labs / name
    directory.mkdir(parents=True)
    journal = Journal(
        name=name,
        token=token_of(directory),
        mode=mode,
        phase=phase,
        boot=boot_id(),
        since=0.0,
        pid=os.getpid(),
        started=start_time(os.getpid()),
        topology=topology_to_map(builtin_topology("demo")),
    )
    write_journal(directory, journal)


def path_of(argv: list[str]) -> str:
    return argv[argv.index("--net") + 1]


def test_a_namespace_is_found_by_its_name_on_the_machine(tmp_path: Path) -> None:
    make_lab(tmp_path, "demo")
    make_lab(tmp_path, "x")
    assert path_of(way_into(tmp_path, "private")) == "/run/netns/private"
    argv = way_into(tmp_path, "x-private")
    assert path_of(argv) == "/run/netns/x-private"
    assert argv[-1] == "--"
    assert "--sysfs" not in argv
    assert "--sysfs" in way_into(tmp_path, "x-private", sysfs=True)


def test_the_name_in_the_topology_is_enough_where_one_lab_has_it(tmp_path: Path) -> None:
    make_lab(tmp_path, "x")
    assert path_of(way_into(tmp_path, "private")) == "/run/netns/x-private"
    make_lab(tmp_path, "y")
    with pytest.raises(ControlError) as caught:
        way_into(tmp_path, "private")
    assert (caught.value.code, caught.value.hint) == (
        "bad_request",
        "name one: x-private, y-private",
    )


def test_a_lab_without_root_is_entered_by_its_holder(tmp_path: Path) -> None:
    make_lab(tmp_path, "demo", Mode.ROOTLESS)
    argv = way_into(tmp_path, "private")
    assert argv[argv.index("--userns") + 1] == f"/proc/{os.getpid()}/ns/user"


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ControlError) as caught:
        way_into(tmp_path, "private")
    assert (caught.value.code, caught.value.hint) == ("not_found", "make a lab: tunnelctl ns up")
    make_lab(tmp_path, "demo")
    with pytest.raises(ControlError) as caught:
        way_into(tmp_path, "nosuch")
    assert caught.value.hint == "there are: public, rtr-pub, rtr-priv, private"


@pytest.mark.parametrize("name", ["", ".", "..", "../../proc/self/ns/net", "a/b"])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ControlError) as caught:
        way_into(tmp_path, name)
    assert caught.value.code == "not_found"
