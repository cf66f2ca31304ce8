"""`tunneld certs …` as a user types it."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tunneld.certs_cli import certs


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNNELD_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(certs, [str(each) for each in arguments], prog_name="certs")


def test_init_reports_what_it_made_and_kept(state: Path) -> None:
    first = run("init", "--server-address", "2.2.2.2")
    assert first.exit_code == 0
    assert first.stdout.count("made ") == 6
    again = run("init", "--server-address", "3.3.3.3")
    assert again.stdout.count("kept ") == 4
    assert again.stderr.count("it lacks IP:3.3.3.3") == 2


def test_default_directory_is_the_demo_labs_if_there_is_one(state: Path) -> None:
    run("init")
    assert (state / "pki/agent/ca.crt").is_file()
    (state / "labs/demo/pki").mkdir(parents=True, mode=0o700)
    run("init")
    assert (state / "labs/demo/pki/agent/ca.crt").is_file()


def test_lab_is_chosen_by_name(state: Path) -> None:
    (state / "labs/other").mkdir(parents=True, mode=0o700)
    assert run("init", "--name", "other").exit_code == 0
    assert (state / "labs/other/pki/frontend/client.key").is_file()


@pytest.mark.parametrize("name", ["nowhere", "../labs", "..", ".", ""])
def test_unknown_lab_is_an_error(state: Path, name: str) -> None:
    (state / "labs").mkdir(parents=True)
    result = run("init", "--name", name)
    assert result.exit_code == 1
    assert f"there is no lab {name!r}" in result.stderr


def test_state_option_wins_over_the_environment(state: Path, tmp_path: Path) -> None:
    run("--state", tmp_path / "mine", "init")
    assert (tmp_path / "mine/pki/agent/ca.crt").is_file()
    assert not state.exists()


def test_issue_makes_and_reports_a_certificate(state: Path) -> None:
    run("init")
    result = run("issue", "server", "edge.example.org", "--san", "1.2.3.4", "--days", "9")
    assert result.stdout.splitlines() == [
        f"made {state}/pki/frontend/edge.example.org.crt",
        f"made {state}/pki/agent/edge.example.org.crt",
    ]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (["issue", "agent", "x"], 1, "make the CAs first: tunnelctl certs init"),
        (["issue", "ca", "x"], 2, "'ca' is not one of"),
        (["issue", "agent", "x", "--days", "0"], 2, "0 is not in the range"),
        (["init", "--server-address", "a b"], 1, "give a host name, an IP address"),
        (["init", "--agent-id", "a/b"], 1, "use 1 to 64 letters"),
        (["env"], 1, "make them: tunnelctl certs init"),
        (["init", "--dir", "/proc/nowhere"], 1, "choose another directory with --dir"),
    ],
)
def test_errors_say_what_to_do(
    state: Path, arguments: list[str], exit_code: int, says: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == exit_code
    assert says in result.stderr
    assert result.stdout == ""


def test_list_shows_a_row_for_each_certificate(state: Path) -> None:
    run("init", "--server-address", "2.2.2.2")
    lines = run("list").stdout.splitlines()
    assert lines[0].split() == ["NAME", "KIND", "SUBJECT", "NOT", "AFTER", "DAYS", "SANS"]
    assert [line.split()[0] for line in lines[1:]] == [
        "frontend/ca",
        "frontend/client",
        "frontend/server",
        "agent/agent",
        "agent/ca",
        "agent/server",
    ]
    assert lines[-1].endswith("364   DNS:kubernetes, DNS:localhost, IP:2.2.2.2")


def test_list_as_json_has_a_version_and_every_fact(state: Path) -> None:
    run("init")
    listing = json.loads(run("list", "-o", "json").stdout)
    assert listing["version"] == 1
    agent = next(each for each in listing["certificates"] if each["name"] == "agent/agent")
    assert agent["kind"] == "agent"
    assert agent["subject"] == "demo"
    assert agent["sans"] == ["URI:spiffe://tunneld/agent/demo"]
    assert agent["days_left"] == 364
    assert agent["path"] == f"{state}/pki/agent/agent.crt"


def test_list_of_nothing_is_empty_and_says_so(state: Path) -> None:
    result = run("list", "-o", "json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["certificates"] == []
    assert f"there are no certificates in {state}/pki" in result.stderr


def test_list_names_a_damaged_file_and_shows_the_others(state: Path) -> None:
    run("init")
    (state / "pki/agent/agent.crt").write_bytes(b"garbage")
    result = run("list")
    assert result.exit_code == 1
    assert "agent/agent.crt: not a PEM certificate" in result.stderr
    assert "agent/server" in result.stdout


def shell(script: str) -> str:
    done = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, check=True)
    return done.stdout


def test_env_gives_a_shell_konnectivitys_flags(state: Path) -> None:
    run("init")
    exports = run("env").stdout
    show = "; ".join(
        f"printf '%s\\n' ${each}"
        for each in ("PROXY_SERVER_CERTS", "PROXY_AGENT_CERTS", "PROXY_CLIENT_CERTS")
    )
    frontend, agent = state / "pki/frontend", state / "pki/agent"
    assert shell(f"eval {shlex.quote(exports)}; {show}").splitlines() == [
        f"--server-ca-cert={frontend}/ca.crt",
        f"--server-cert={frontend}/server.crt",
        f"--server-key={frontend}/server.key",
        f"--cluster-ca-cert={agent}/ca.crt",
        f"--cluster-cert={agent}/server.crt",
        f"--cluster-key={agent}/server.key",
        f"--ca-cert={agent}/ca.crt",
        f"--agent-cert={agent}/agent.crt",
        f"--agent-key={agent}/agent.key",
        f"--client-cert={frontend}/client.crt",
        f"--client-key={frontend}/client.key",
        f"--ca-cert={frontend}/ca.crt",
    ]


def test_env_survives_quotes_in_the_path(tmp_path: Path) -> None:
    directory = tmp_path / "it's;$(x)'"
    run("init", "--dir", directory)
    exports = run("env", "--dir", directory).stdout
    shown = shell(f"eval {shlex.quote(exports)}; printf '%s\\n' $PROXY_AGENT_CERTS")
    assert shown.splitlines()[0] == f"--ca-cert={directory}/agent/ca.crt"


@pytest.mark.parametrize("name", ["a b", "a*", "a?", "a[b"])
def test_env_refuses_a_path_that_a_shell_would_take_apart(tmp_path: Path, name: str) -> None:
    run("init", "--dir", tmp_path / name)
    refused = run("env", "--dir", tmp_path / name)
    assert refused.exit_code == 1
    assert "has a blank or one of" in refused.stderr


def test_env_names_the_file_that_is_missing(state: Path) -> None:
    run("init")
    (state / "pki/agent/agent.key").unlink()
    result = run("env")
    assert result.exit_code == 1
    assert f"there is no {state}/pki/agent/agent.key" in result.stderr


def test_a_certificate_is_revoked_and_shown_so(state: Path) -> None:
    run("init")
    made = run("revoke", "agent/agent")
    assert made.stdout == f"made {state}/pki/agent/ca.crl\n"
    listed = json.loads(run("list", "-o", "json").stdout)["certificates"]
    by_name = {row["name"]: row for row in listed}
    assert by_name["agent/agent"]["revoked"]
    assert not by_name["agent/server"]["revoked"]
    assert by_name["agent/ca.crl"]["kind"] == "crl"
    assert by_name["agent/ca.crl"]["days_left"] == 29
    line = next(each for each in run("list").stdout.splitlines() if "agent/agent" in each)
    assert line.split()[4] == "revoked"


def test_a_certificate_is_revoked_by_its_number(state: Path) -> None:
    run("init")
    assert run("revoke", "frontend", "--serial", "0A:bc").exit_code == 0
    for arguments, text in (
        (("client", "--serial", "1"), "'client' is no side"),
        (("agent", "--serial", "x"), "'x' is no serial number"),
        (("nobody",), "there is no certificate 'nobody'"),
    ):
        result = run("revoke", *arguments)
        assert result.exit_code == 1
        assert text in result.stderr


def test_lists_are_made_anew(state: Path) -> None:
    run("init")
    assert run("crl").stdout.splitlines() == [
        f"made {state}/pki/frontend/ca.crl",
        f"made {state}/pki/agent/ca.crl",
    ]


def test_certificates_are_renewed(state: Path) -> None:
    run("init")
    assert run("renew", "client", "--days", "7").stdout == f"made {state}/pki/frontend/client.crt\n"
    listed = json.loads(run("list", "-o", "json").stdout)["certificates"]
    assert {row["name"]: row["days_left"] for row in listed}["frontend/client"] == 6
    assert run("renew").stdout.count("made ") == 4


def test_cas_are_replaced(state: Path) -> None:
    run("init")
    assert run("rotate-ca", "--side", "agent").stdout == f"made {state}/pki/agent/ca.crt\n"
    assert run("list").stdout.count("agent/ca ") == 2
    refused = run("rotate-ca", "--side", "agent", "--finish")
    assert refused.exit_code == 1
    assert "is signed by the old CA" in refused.stderr
    run("renew")
    assert run("rotate-ca", "--side", "agent", "--finish").exit_code == 0
    assert run("list").stdout.count("agent/ca ") == 1
