"""Labs are built whole, or not at all, and stand as their topologies say."""

import json
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from netns import LabState, builtin_topology, list_labs, parse_topology, read_lab
from netns.journal import FILE
from netns.places import ETC, NAMED
from tests.netns.programs import PLAIN, Program, Site, foreign_namespace, new_site
from tests.netns.samples import ROUTED, pair

DEMO = builtin_topology("demo")
PAIR = parse_topology(pair())


def test_demo_stands_after_a_moment_and_every_step_is_told(site: Site) -> None:
    started = time.monotonic()
    builder = site.up(DEMO)
    *items, last = builder.messages()
    assert time.monotonic() - started < 5  # 0.25 s on an idle machine
    steps = [(item["item"]["step"], item["item"]["state"]) for item in items]
    assert (f"namespace {site.name}-private", "start") in steps
    assert steps[-1] == (f"routes of {site.name}-private", "done")
    spaces = {space["name"]: space["addresses"] for space in last["result"]["namespaces"]}
    assert spaces == {
        f"{site.name}-public": ["2.2.2.2/27"],
        f"{site.name}-rtr-pub": ["2.2.2.1/27", "10.10.10.1/27"],
        f"{site.name}-rtr-priv": ["10.10.10.2/27", "192.168.1.1/27"],
        f"{site.name}-private": ["192.168.1.2/27"],
    }
    assert site.down()["result"] == {}
    assert builder.close() == (0, "")
    assert site.remains() == []


def test_lab_is_listed_with_what_it_is(site: Site) -> None:
    before = time.time()
    builder = site.up(PAIR)
    builder.last()
    (lab,) = list_labs(site.directory.parent)
    assert (lab.name, lab.state) == (site.name, LabState.UP)
    assert lab.mode is site.mode
    assert before <= lab.since <= time.time()
    assert lab.topology == PAIR
    assert lab.namespace("a").full_name == f"{site.name}-a"
    assert lab.namespace(f"{site.name}-b").addresses == ("10.0.0.2/24",)
    site.down()
    builder.close()
    assert list_labs(site.directory.parent) == []


def test_second_up_finds_all_of_it_there(site: Site) -> None:
    first = site.up(PAIR)
    result = first.last()
    second = site.up(PAIR)
    *items, again = second.messages()
    assert {item["item"]["state"] for item in items} == {"skip"}
    assert again == result
    assert second.close() == (0, "")
    assert read_lab(site.directory).state is LabState.UP  # type: ignore[union-attr]


def test_second_up_with_another_topology_is_refused(site: Site) -> None:
    site.up(PAIR).last()
    error = site.up(DEMO).failure()
    assert (error["code"], "another topology" in error["message"]) == ("exists", True)


def test_second_up_with_other_roles_notes_them(site: Site) -> None:
    site.up(PAIR).last()
    other = parse_topology(pair(role=[{"kind": "x"}]))
    assert "result" in site.up(other).last()
    assert read_lab(site.directory).topology.roles == ({"kind": "x"},)  # type: ignore[union-attr]


def test_two_builders_at_once_build_one_lab(site: Site) -> None:
    builders = [site.up(PAIR), site.up(PAIR)]
    results = [builder.last() for builder in builders]
    assert results[0] == results[1]
    assert "result" in results[0]


def test_two_labs_have_the_same_addresses_and_do_not_meet(tmp_path: Path, site: Site) -> None:
    other = new_site(tmp_path / "other", site.prefix)
    with ExitStack() as stack:
        stack.callback(other.down)
        builders = [site.up(PAIR), other.up(PAIR)]
        assert all("result" in builder.last() for builder in builders)
        listen = "import socket; s = socket.create_server(('10.0.0.2', 5000)); print(flush=True); "
        with site.spawn("b", listen + "s.accept()[0].sendall(b'one')") as server:
            server.wait_for_line()
            connect = "import socket; print(socket.create_connection(('10.0.0.2', 5000)).recv(9))"
            done = other.run("a", "python3", "-c", connect)
            assert "ConnectionRefusedError" in done.stderr
            assert site.shell("a", connect) == "b'one'\n"


def test_links_leave_nothing_in_the_hosts_own_namespace(site: Site) -> None:
    before = Path("/proc/net/dev").read_text().count(":")
    site.up(DEMO).last()
    assert Path("/proc/net/dev").read_text().count(":") == before


def test_names_resolve_by_the_namespaces_own_file(site: Site) -> None:
    value = pair()
    value["namespace"][0] |= {"nameservers": ["10.0.0.2"], "search": ["svc"]}
    site.up(parse_topology(value)).last()
    show = "print(open('/etc/resolv.conf').read())"
    assert "nameserver 10.0.0.2\nsearch svc\n" in site.shell("a", show)
    assert "nameserver " not in site.shell("b", show)


def test_settings_of_a_namespace_are_set(site: Site) -> None:
    value = pair()
    value["namespace"][0]["sysctls"] = {"net.ipv4.ip_local_port_range": "20000 20010"}
    value["namespace"][1]["forwards"] = True
    site.up(parse_topology(value)).last()
    show = "print(open('/proc/sys/net/ipv4/{}').read().strip())"
    assert site.shell("a", show.format("ip_local_port_range")) == "20000\t20010\n"
    assert site.shell("a", show.format("ip_forward")) == "0\n"
    assert site.shell("b", show.format("ip_forward")) == "1\n"


def test_step_that_fails_takes_all_of_it_back(site: Site) -> None:
    value = pair()
    value["namespace"][1]["sysctls"] = {"net.ipv4.no_such_setting": "1"}
    builder = site.up(parse_topology(value))
    *items, last = builder.messages()
    assert len(items) >= 3
    assert last["error"]["code"] == "failed"
    assert "cannot set net.ipv4.no_such_setting = 1 in b" in last["error"]["message"]
    assert builder.close() == (1, "")
    assert site.remains() == []


def test_builder_whose_caller_is_gone_takes_all_of_it_back(site: Site) -> None:
    builder = site.up(DEMO)
    next(builder.messages())
    status, errors = builder.close()
    assert (status, errors) == (1, "")
    assert site.remains() == []


def test_builder_that_is_told_to_stop_takes_all_of_it_back(site: Site) -> None:
    builder = site.up(DEMO)
    messages = builder.messages()
    next(messages)
    builder.signal(signal.SIGTERM)
    assert "told to stop" in list(messages)[-1]["error"]["message"]
    builder.close()
    assert site.remains() == []


def test_builder_ignores_ctrl_c_of_the_terminal(site: Site) -> None:
    builder = site.up(PAIR)
    messages = builder.messages()
    next(messages)
    builder.signal(signal.SIGINT)
    assert "result" in list(messages)[-1]


def test_lab_of_an_earlier_boot_is_built_anew(site: Site) -> None:
    first = site.up(PAIR)
    first.last()
    first.kill()
    journal = json.loads((site.directory / FILE).read_text())
    (site.directory / FILE).write_text(json.dumps({**journal, "boot": "another"}))
    assert read_lab(site.directory).state is LabState.BROKEN  # type: ignore[union-attr]
    *items, last = site.up(PAIR).messages()
    assert items[0]["item"]["step"] == "leftovers"
    assert "result" in last
    assert read_lab(site.directory).state is LabState.UP  # type: ignore[union-attr]


def test_damaged_journal_stops_up_but_not_down(site: Site) -> None:
    site.up(PAIR).last()
    (site.directory / FILE).write_text("{")
    assert "is damaged" in site.up(PAIR).failure()["message"]
    assert site.down()["result"] == {}
    assert site.remains() == []


@pytest.mark.parametrize(
    ("request_line", "message"),
    [
        (b"", "no request on stdin"),
        (b"{\n", "the request is not JSON"),
        (b"[]\n", "the request is not a map"),
        (b"{}\n", "expected a table"),
        (b'{"name": "x", "topology": {"name": "y", "namespace": []}}\n', "at least one"),
    ],
)
def test_request_that_is_none_is_refused(tmp_path: Path, request_line: bytes, message: str) -> None:
    site = new_site(tmp_path)
    program = Program(site.up_argv(), request_line, end=True)
    error = program.failure()
    assert (error["code"], message in error["message"]) == ("bad_request", True)
    assert site.remains() == []


@pytest.mark.parametrize("name", ["", "..", "a/b", "-a", "a b", "n" * 64])
def test_lab_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    site = Site(tmp_path / "lab", name)
    assert "bad lab name" in site.up(PAIR).failure()["message"]
    assert site.remains() == []


@pytest.mark.root
def test_named_namespaces_are_where_ip_netns_looks(named: Site) -> None:
    builder = named.up(PAIR)
    builder.last()
    assert builder.close() == (0, "")  # no holder is needed
    for name in ("a", "b"):
        path = NAMED / f"{named.name}-{name}"
        done = subprocess.run(
            ["findmnt", "-no", "FSTYPE", str(path)], capture_output=True, text=True, check=True
        )
        assert done.stdout == "nsfs\n"
        assert (ETC / path.name / "resolv.conf").is_file()


@pytest.mark.root
def test_namespace_of_somebody_else_stops_up_before_anything_is_built(named: Site) -> None:
    with foreign_namespace(f"{named.name}-b") as theirs:
        error = named.up(PAIR).failure()
        assert error["code"] == "exists"
        assert f"there is a namespace '{theirs.name}' already" in error["message"]
        assert "ip netns delete" in error["hint"]
        assert named.remains() == [f"namespace {theirs.name}"]
        named.down()
        assert theirs.stands()


@pytest.mark.root
def test_file_of_somebody_else_stops_up_before_anything_is_built(named: Site) -> None:
    theirs = ETC / f"{named.name}-b" / "resolv.conf"
    with ExitStack() as stack:
        if not ETC.exists():
            ETC.mkdir()
            stack.callback(ETC.rmdir)
        theirs.parent.mkdir()
        stack.callback(theirs.parent.rmdir)
        theirs.write_text("theirs\n")
        stack.callback(theirs.unlink)
        error = named.up(PAIR).failure()
        assert (error["code"], str(theirs) in error["message"]) == ("exists", True)
        named.down()
        assert theirs.read_text() == "theirs\n"
        assert named.remains() == [f"etc {theirs.parent.name}"]


@pytest.mark.root
def test_lab_that_lost_a_namespace_is_broken_and_up_repairs_it(named: Site) -> None:
    named.up(ROUTED).last()
    path = NAMED / f"{named.name}-a"
    subprocess.run(["umount", str(path)], check=True)
    path.unlink()
    assert read_lab(named.directory).state is LabState.BROKEN  # type: ignore[union-attr]
    assert "result" in named.up(ROUTED).last()
    assert read_lab(named.directory).state is LabState.UP  # type: ignore[union-attr]


def test_without_permission_up_says_what_the_kernel_refused_and_what_to_do(rootless: Site) -> None:
    # The limit is one of each user namespace, so a test can set it in one of its own.
    script = (
        "import os, sys; from pathlib import Path; from netns.holder import become_holder; "
        f"held = Path({str(rootless.directory)!r}); held.mkdir(); become_holder(held); "
        "Path('/proc/sys/user/max_user_namespaces').write_text('0'); "
        "libc = __import__('ctypes').CDLL(None); "
        "[libc.prctl(24, number, 0, 0, 0) for number in range(64)]; "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    argv = [*PLAIN, rootless.python, "-c", script, *rootless.up_argv()[1:]]
    error = Program(argv, rootless.request(PAIR)).failure()
    assert error["code"] == "forbidden"
    assert error["message"] == (
        "the kernel does not let us make a user namespace: ENOSPC (No space left on device); "
        "the limit of user namespaces, sysctl user.max_user_namespaces, is 0"
    )
    assert "sysctl -w user.max_user_namespaces=10000" in error["hint"]
