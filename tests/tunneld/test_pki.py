"""The directory of certificates: what `Pki` makes, keeps, makes anew, and refuses."""

import os
import signal
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tunneld.certificate import Credential, Kind, PkiError, load
from tunneld.pki import Entry, Outcome, Pki, Side

WRITE_ORDER = [
    f"{side}/{name}.{suffix}"
    for side, leaf in (("frontend", "client"), ("agent", "agent"))
    for name in ("ca", "server", leaf)
    for suffix in ("key", "crt")
]


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki")


def credential(pki: Pki, side: Side, name: str) -> Credential:
    return load(
        pki.certificate_path(side, name).read_bytes(), pki.key_path(side, name).read_bytes()
    )


def made(outcomes: list[Outcome]) -> dict[str, str]:
    return {
        f"{each.path.parent.name}/{each.path.stem}": each.reason for each in outcomes if each.made
    }


def entries(pki: Pki) -> dict[str, Entry]:
    return {each.name: each for each in pki.entries() if isinstance(each, Entry)}


def files(pki: Pki) -> dict[str, bytes]:
    return {
        str(path.relative_to(pki.directory)): path.read_bytes()
        for path in pki.directory.rglob("*")
        if path.is_file()
    }


def test_init_makes_the_whole_set(pki: Pki) -> None:
    outcomes = pki.init(["2.2.2.2"], "demo")
    assert sorted(files(pki)) == sorted(WRITE_ORDER)
    assert set(made(outcomes).values()) == {"missing"}
    found = entries(pki)
    assert {name: each.kind for name, each in found.items()} == {
        "frontend/ca": Kind.CA,
        "frontend/client": Kind.CLIENT,
        "frontend/server": Kind.SERVER,
        "agent/ca": Kind.CA,
        "agent/agent": Kind.AGENT,
        "agent/server": Kind.SERVER,
    }
    assert found["agent/agent"].subject == "demo"


def test_servers_show_the_names_of_konnectivitys_demo_and_their_address(pki: Pki) -> None:
    pki.init(["2.2.2.2"], "demo")
    always = ("DNS:kubernetes", "DNS:localhost")
    found = entries(pki)
    assert found["frontend/server"].sans == (*always, "IP:127.0.0.1", "IP:2.2.2.2")
    assert found["agent/server"].sans == (*always, "IP:2.2.2.2")


def test_the_two_authorities_do_not_vouch_for_each_other(pki: Pki) -> None:
    pki.init()
    client = credential(pki, Side.FRONTEND, "client").certificate
    client.verify_directly_issued_by(credential(pki, Side.FRONTEND, "ca").certificate)
    with pytest.raises(ValueError, match="Issuer"):
        client.verify_directly_issued_by(credential(pki, Side.AGENT, "ca").certificate)


def test_files_load_as_ssl_contexts_do(pki: Pki) -> None:
    pki.init()
    for side, name in ((Side.FRONTEND, "server"), (Side.AGENT, "agent")):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_verify_locations(pki.certificate_path(side, "ca"))
        context.load_cert_chain(pki.certificate_path(side, name), pki.key_path(side, name))
        assert context.cert_store_stats()["x509_ca"] == 1


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("no_umask")
def test_nobody_else_reads_anything_whatever_the_umask(pki: Pki) -> None:
    pki.init()
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in pki.directory.rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert stat.S_IMODE(pki.directory.stat().st_mode) == 0o700


def test_loosened_modes_are_tightened_again(pki: Pki) -> None:
    pki.init()
    key = pki.key_path(Side.AGENT, "agent")
    key.chmod(0o644)
    pki.init()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_init_again_keeps_every_octet(pki: Pki) -> None:
    pki.init(["2.2.2.2"], "demo")
    before = files(pki)
    outcomes = pki.init(["2.2.2.2"], "demo")
    assert made(outcomes) == {}
    assert files(pki) == before


def test_init_without_names_keeps_those_that_are_there(pki: Pki) -> None:
    pki.init(["2.2.2.2"], "branch-7")
    before = files(pki)
    pki.init()
    assert files(pki) == before
    pki.init(force=True)
    found = entries(pki)
    assert "IP:2.2.2.2" in found["agent/server"].sans
    assert found["agent/agent"].subject == "branch-7"


def test_force_makes_everything_anew(pki: Pki) -> None:
    pki.init()
    before = files(pki)
    pki.init(force=True)
    after = files(pki)
    assert all(after[name] != before[name] for name in WRITE_ORDER)


def test_new_address_remakes_the_server_certificates_alone(pki: Pki) -> None:
    pki.init(["2.2.2.2"])
    assert made(pki.init(["3.3.3.3"])) == {
        "frontend/server": "it lacks IP:3.3.3.3",
        "agent/server": "it lacks IP:3.3.3.3",
    }


def test_new_agent_id_remakes_the_agents_certificate_alone(pki: Pki) -> None:
    pki.init(agent_id="one")
    assert made(pki.init(agent_id="two")) == {"agent/agent": "it names 'one'"}
    assert entries(pki)["agent/agent"].subject == "two"


@pytest.mark.parametrize(
    ("days", "remade"),
    [
        (334, set()),
        (336, {"frontend/server", "frontend/client", "agent/server", "agent/agent"}),
        (3660, {each.removesuffix(".crt") for each in WRITE_ORDER if each.endswith(".crt")}),
    ],
)
def test_what_expires_soon_is_made_anew(pki: Pki, days: int, remade: set[str]) -> None:
    pki.init()
    later = datetime.now(UTC) + timedelta(days=days)
    assert set(made(pki.init(now=later))) == remade


def test_leaves_of_an_authority_near_its_end_are_not_remade_each_time(pki: Pki) -> None:
    pki.init()
    late = datetime.now(UTC) + timedelta(days=3645)
    pki.init(now=late)
    assert made(pki.init(now=late)) == {}


@pytest.mark.parametrize("written", range(len(WRITE_ORDER) + 1))
def test_init_completes_what_was_cut_short(pki: Pki, written: int) -> None:
    """The files of a process that was killed are the first few in order of writing."""
    pki.init()
    for name in WRITE_ORDER[written:]:
        (pki.directory / name).unlink()
    (pki.directory / "agent" / ".agent.key.new").write_bytes(b"half a k")
    pki.init()
    for each in entries(pki).values():
        credential(pki, each.side, each.path.stem)
    assert made(pki.init()) == {}


KEEPS_MAKING = """
import sys
from pathlib import Path
from tunneld.pki import Pki
pki = Pki(Path(sys.argv[1]))
while True:
    pki.init(force=True)
    print("made", flush=True)
"""


@pytest.mark.parametrize("rounds", range(1, 5))
def test_killed_at_any_moment_it_leaves_what_init_mends(pki: Pki, rounds: int) -> None:
    command = [sys.executable, "-c", KEEPS_MAKING, str(pki.directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(rounds):
            assert process.stdout.readline() == b"made\n"
        process.send_signal(signal.SIGKILL)
    pki.init()
    assert len(entries(pki)) == 6
    assert made(pki.init()) == {}


def test_whole_set_takes_less_than_a_tenth_of_a_second(pki: Pki) -> None:
    started = time.process_time()
    pki.init()
    assert time.process_time() - started < 0.1


def test_damaged_leaf_is_made_anew(pki: Pki) -> None:
    pki.init()
    pki.certificate_path(Side.AGENT, "agent").write_bytes(b"garbage")
    pki.key_path(Side.FRONTEND, "client").write_bytes(pki.key_path(Side.AGENT, "ca").read_bytes())
    assert made(pki.init()) == {
        "agent/agent": "not a PEM certificate",
        "frontend/client": "certificate and key do not belong together",
    }


def test_damaged_authority_is_left_alone_and_named(pki: Pki) -> None:
    pki.init()
    path = pki.certificate_path(Side.AGENT, "ca")
    path.write_bytes(b"garbage")
    with pytest.raises(PkiError, match="not a PEM certificate") as caught:
        pki.init()
    assert str(path) in str(caught.value)
    assert "--force" in caught.value.hint
    assert path.read_bytes() == b"garbage"


def test_authority_without_its_key_is_left_alone(pki: Pki) -> None:
    pki.init()
    pki.key_path(Side.FRONTEND, "ca").unlink()
    with pytest.raises(PkiError, match=r"frontend/ca\.key") as caught:
        pki.init()
    assert "bring that key back" in caught.value.hint


def test_bad_names_are_refused_before_anything_is_written(pki: Pki) -> None:
    with pytest.raises(PkiError, match="cannot be the name"):
        pki.init(agent_id="../../etc/passwd")
    with pytest.raises(PkiError, match="not a subject alternative name"):
        pki.init(["not a host"])
    assert files(pki) == {}


def test_issue_binds_more_agents_and_clients_to_their_names(pki: Pki) -> None:
    pki.init()
    assert pki.issue(Kind.AGENT, "branch-7") == [pki.certificate_path(Side.AGENT, "branch-7")]
    assert pki.issue(Kind.CLIENT, "joe") == [pki.certificate_path(Side.FRONTEND, "joe")]
    found = entries(pki)
    assert found["agent/branch-7"].sans == ("URI:spiffe://tunneld/agent/branch-7",)
    assert found["frontend/joe"].sans == ("URI:spiffe://tunneld/client/joe",)


def test_issue_gives_a_server_one_of_each_authority(pki: Pki) -> None:
    pki.init()
    paths = pki.issue(Kind.SERVER, "edge.example.org", ["203.0.113.7"], 20)
    assert [path.parent.name for path in paths] == ["frontend", "agent"]
    entry = entries(pki)["agent/edge.example.org"]
    assert entry.sans == ("DNS:edge.example.org", "IP:203.0.113.7")
    assert entry.days_left(datetime.now(UTC)) == 19


def test_issue_overwrites_only_when_told_to(pki: Pki) -> None:
    pki.init()
    pki.issue(Kind.CLIENT, "joe")
    before = files(pki)
    with pytest.raises(PkiError, match="is there already"):
        pki.issue(Kind.CLIENT, "joe")
    assert files(pki) == before
    pki.issue(Kind.CLIENT, "joe", force=True)
    assert files(pki)["frontend/joe.crt"] != before["frontend/joe.crt"]


def test_issue_never_replaces_an_authority(pki: Pki) -> None:
    pki.init()
    with pytest.raises(PkiError, match="the name of the CA"):
        pki.issue(Kind.CLIENT, "ca", force=True)


def test_issue_without_authorities_says_how_to_make_them(pki: Pki) -> None:
    with pytest.raises(PkiError, match="there is no") as caught:
        pki.issue(Kind.CLIENT, "joe")
    assert "certs init" in caught.value.hint
    assert not pki.directory.exists()


def test_entries_name_the_file_that_cannot_be_read(pki: Pki) -> None:
    pki.init()
    broken = pki.certificate_path(Side.AGENT, "agent")
    broken.write_bytes(b"")
    errors = [each for each in pki.entries() if isinstance(each, PkiError)]
    assert [str(each) for each in errors] == [f"cannot read {broken}: not a PEM certificate"]
    assert len(entries(pki)) == 5


def test_entries_of_a_directory_that_is_not_there_are_none(pki: Pki) -> None:
    assert list(pki.entries()) == []


def test_directory_that_others_can_write_to_is_refused(pki: Pki) -> None:
    pki.directory.mkdir()
    pki.directory.chmod(0o777)
    with pytest.raises(PkiError, match="others can write to it"):
        pki.init()


def test_directory_behind_a_link_is_refused(pki: Pki, tmp_path: Path) -> None:
    pki.directory.mkdir(mode=0o700)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (pki.directory / "frontend").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PkiError, match="is not a directory"):
        pki.init()


def test_directory_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"/proc"):
        Pki(Path("/proc/pki")).init()
