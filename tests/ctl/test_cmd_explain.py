import json

from ctl.catalogue import REASONS, errors
from tests.ctl.conftest import Run


def test_a_code_is_explained_with_its_causes_and_what_to_do(run: Run) -> None:
    done = run("explain", "no_agent")
    assert done.code == 0
    assert done.stdout.startswith("no_agent: No agent is connected")
    for words in ("exit code     7", "503", "destination_unavailable", "-> ", "tunnelctl doctor"):
        assert words in done.stdout
    assert "`" not in done.stdout


def test_a_reason_has_no_exit_code(run: Run) -> None:
    done = run("explain", "UNSUPPORTED_PROTOCOL")
    assert done.stdout.startswith("TLSV1_ALERT_PROTOCOL_VERSION: ")
    assert "exit code" not in done.stdout


def test_without_a_code_all_are_listed(run: Run) -> None:
    lines = run("explain").stdout.splitlines()
    names = [line.split()[0] for line in lines[1:]]
    assert names == [error.code for error in [*errors(), *REASONS]]


def test_each_is_an_object_where_objects_are_wanted(run: Run) -> None:
    (line,) = run("explain", "denied", "-o", "json").stdout.splitlines()
    value = json.loads(line)
    assert (value["version"], value["kind"], value["code"]) == (1, "error", "denied")
    assert value["exit_code"] == 5
    assert value["reply"] == {"status": 403, "error": "destination_ip_prohibited"}


def test_an_unknown_code_is_not_found_and_the_closest_is_named(run: Run) -> None:
    done = run("explain", "no_agnt")
    assert done.code == 4
    assert "did you mean no_agent?" in done.stderr
