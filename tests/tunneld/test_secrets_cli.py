"""`tunneld secrets …` as a user types it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tunneld.secret import PasswordHash
from tunneld.secrets_cli import secrets
from tunneld.secretsfile import SecretsFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


def run(*arguments: str | Path, stdin: str = "") -> Result:
    argv = [str(each) for each in arguments]
    return CliRunner().invoke(secrets, argv, prog_name="secrets", input=stdin)


def test_a_new_token_is_printed_once_and_not_kept(path: Path) -> None:
    done = run("add", path, "home")
    assert done.exit_code == 0
    token = done.stdout.strip()
    assert token.startswith("tnl_")
    assert token not in path.read_text()
    assert SecretsFile(path).check_token(token) == "home"


def test_a_password_comes_from_stdin_and_nothing_is_printed(path: Path) -> None:
    done = run("add", path, "alice", "--password", stdin="open sesame\n")
    assert (done.exit_code, done.stdout) == (0, "")
    found = SecretsFile(path).password_of("alice")
    assert isinstance(found, PasswordHash)
    assert found.matches("open sesame")


def test_the_list_shows_names_kinds_and_ends(path: Path) -> None:
    run("add", path, "home", "--expires", "2099-01-31")
    run("add", path, "old", "--expires", "2020-01-31T12:00:00+01:00")
    run("add", path, "away")
    assert run("list", path).stdout.splitlines() == [
        "NAME  KIND   EXPIRES",
        "home  token  2099-01-31T00:00:00Z",
        "old   token  2020-01-31T11:00:00Z (expired)",
        "away  token  -",
    ]
    shown = json.loads(run("list", path, "-o", "json").stdout)
    assert shown["version"] == 1
    assert shown["secrets"][1] == {
        "name": "old",
        "kind": "token",
        "expires": "2020-01-31T11:00:00Z",
        "expired": True,
    }


def test_a_secret_is_replaced_only_when_that_is_wanted(path: Path) -> None:
    run("add", path, "home")
    again = run("add", path, "home")
    assert again.exit_code == 1
    assert "replace it with --force" in again.stderr
    token = run("add", path, "home", "--force").stdout.strip()
    assert SecretsFile(path).check_token(token) == "home"


def test_a_removed_secret_is_gone(path: Path) -> None:
    token = run("add", path, "home").stdout.strip()
    assert run("remove", path, "home").exit_code == 0
    assert SecretsFile(path).check_token(token) is None


@pytest.mark.parametrize(
    ("arguments", "stdin", "says"),
    [
        (["add", "FILE", "a b"], "", "'a b' is no name of a secret"),
        (["add", "FILE", "home", "--expires", "soon"], "", "'soon' is no time"),
        (["add", "FILE", "alice", "--password"], "", "no password on stdin"),
        (["add", "FILE", "alice", "--password"], "x" * 256, "more than 255 octets"),
        (["add", "FILE/x/y", "home"], "", "make the directory first"),
        (["remove", "FILE", "home"], "", "has no secret home"),
        (["list", "FILE"], "", "No such file"),
    ],
)
def test_mistakes_are_explained(path: Path, arguments: list[str], stdin: str, says: str) -> None:
    done = run(*(each.replace("FILE", str(path)) for each in arguments), stdin=stdin)
    assert done.exit_code == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
