"""Files of secrets: what is found in them, and how they change."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tunneld import secretsfile
from tunneld.secret import PasswordHash, Secret, of_token
from tunneld.secretsfile import SecretsError, SecretsFile
from tunneld.tokenproof import authorization, new_challenge

PAST = datetime(2020, 1, 1, tzinfo=UTC)
CHEAP = PasswordHash.of("open sesame", (16, 1, 1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


def test_a_token_is_known_by_itself_or_by_a_proof(path: Path) -> None:
    secretsfile.add(path, of_token("home", "t1"))
    secretsfile.add(path, of_token("away", "t2"))
    known, challenge = SecretsFile(path), new_challenge()
    assert known.check_token("t1") == "home"
    assert known.check_token("t3") is None
    assert known.check_proof(authorization("t2", challenge, "x"), challenge, "x") == "away"
    assert known.check_proof(authorization("t3", challenge, "x"), challenge, "x") is None
    assert known.check_proof(authorization("t2", challenge, "x"), new_challenge(), "x") is None
    assert known.check_proof("Bearer t2", challenge, "x") is None


def test_an_expired_secret_counts_no_more(path: Path) -> None:
    secretsfile.add(path, of_token("home", "t1", PAST))
    secretsfile.add(path, Secret("alice", CHEAP, PAST))
    known, challenge = SecretsFile(path), new_challenge()
    assert known.check_token("t1") is None
    assert known.check_proof(authorization("t1", challenge, "x"), challenge, "x") is None
    found = known.password_of("alice")
    assert found is not None
    assert not found.matches("open sesame")


def test_names_without_a_password_get_one_that_costs_as_much(path: Path) -> None:
    secretsfile.add(path, of_token("home", "t1"))
    assert SecretsFile(path).password_of("home") is None
    secretsfile.add(path, Secret("alice", CHEAP))
    known = SecretsFile(path)
    assert known.password_of("alice") == CHEAP
    for name in ("home", "nobody", ""):
        found = known.password_of(name)
        assert found is not None
        assert (found.n, found.r, found.p) == (16, 1, 1)


def test_a_bad_file_changes_nothing_on_reload(path: Path) -> None:
    secretsfile.add(path, of_token("home", "t1"))
    known = SecretsFile(path)
    path.write_text("nonsense\n")
    with pytest.raises(SecretsError, match="line 1: '' is no kind of secret"):
        known.reload()
    path.unlink()
    with pytest.raises(SecretsError, match="No such file"):
        known.reload()
    assert known.check_token("t1") == "home"
    secretsfile.add(path, of_token("home", "t2"))
    known.reload()
    assert (known.check_token("t1"), known.check_token("t2")) == (None, "home")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
def test_a_file_that_others_may_read_or_write_is_refused(path: Path, mode: int) -> None:
    secretsfile.add(path, of_token("home", "t1"))
    path.chmod(mode)
    with pytest.raises(SecretsError, match=rf"has mode {mode:04o}.*chmod 600"):
        SecretsFile(path)


def test_a_name_is_there_once(path: Path) -> None:
    secretsfile.add(path, of_token("home", "t1"))
    with pytest.raises(SecretsError, match="has a secret home already"):
        secretsfile.add(path, of_token("home", "t2"))
    secretsfile.add(path, of_token("home", "t3"), force=True)
    assert SecretsFile(path).check_token("t3") == "home"
    with path.open("a") as file:
        file.write(of_token("home", "t2").line() + "\n")
    with pytest.raises(SecretsError, match="line 3: home is in line 2 already"):
        SecretsFile(path)


@pytest.mark.parametrize(
    ("octets", "says"), [(b"\xff\n", "utf-8"), (b"x" * (secretsfile.MAX_SIZE + 1), "more than")]
)
def test_a_file_of_something_else_is_refused(path: Path, octets: bytes, says: str) -> None:
    path.write_bytes(octets)
    path.chmod(0o600)
    with pytest.raises(SecretsError, match=says):
        SecretsFile(path)


def test_comments_and_other_lines_stay_as_they_are(path: Path) -> None:
    path.write_text(f"# ours\n\n  {of_token('a', 't1').line()}\n# theirs\n")
    path.chmod(0o600)
    secretsfile.add(path, of_token("b", "t2"))
    secretsfile.remove(path, "a")
    assert path.read_text() == f"# ours\n\n# theirs\n{of_token('b', 't2').line()}\n"


def test_removing_what_is_not_there_is_an_error(path: Path) -> None:
    secretsfile.add(path, of_token("home", "t1"))
    with pytest.raises(SecretsError, match="has no secret away"):
        secretsfile.remove(path, "away")


def test_a_file_is_written_with_mode_0600_whatever_the_umask(path: Path) -> None:
    umask = os.umask(0)
    try:
        secretsfile.add(path, of_token("home", "t1"))
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_cannot_be_used_is_not_written(path: Path) -> None:
    path.write_text("nonsense\n")
    path.chmod(0o600)
    with pytest.raises(SecretsError):
        secretsfile.add(path, of_token("home", "t1"))
    assert path.read_text() == "nonsense\n"


def test_a_link_stays_one(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "real")
    secretsfile.add(path, of_token("home", "t1"))
    assert path.is_symlink()
    assert SecretsFile(path).check_token("t1") == "home"


def test_there_must_be_a_directory(tmp_path: Path) -> None:
    with pytest.raises(SecretsError, match="make the directory first"):
        secretsfile.add(tmp_path / "none" / "secrets", of_token("home", "t1"))


@pytest.mark.root
def test_roots_change_leaves_the_owner(path: Path) -> None:
    secretsfile.add(path, of_token("home", "t1"))
    os.chown(path, 1234, 1235)
    secretsfile.add(path, of_token("away", "t2"))
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)
