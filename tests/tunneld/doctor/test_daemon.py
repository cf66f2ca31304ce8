"""What the daemon says of itself, and where it does not answer."""

from pathlib import Path
from typing import Any

import pytest

from ctl.messages import ControlError
from tests.tunneld.doctor.samples import only, verdicts
from tunneld import __version__
from tunneld.config import DnsConfig, EchoConfig
from tunneld.doctor.daemon import (
    Daemon,
    check_daemon,
    check_file,
    check_role_state,
    find_daemon,
    missing,
)

DNS = 'kind = "dns"\nname = "names"\nrecords = { a = "192.0.2.1" }\n'
ROLES = (DnsConfig(name="names", records={"a": "192.0.2.1"}), EchoConfig(name="lab/echo"))


def daemon(version: str = __version__, **change: Any) -> Daemon:
    rows: dict[str, dict[str, Any]] = {"names": {"lab": None}, "lab/echo": {"lab": "lab"}}
    return Daemon(1, version, Path("/s"), rows, ROLES, **change)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "tunneld.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        ("ready", "pass"),
        ("starting", "warn"),
        ("draining", "warn"),
        ("stopped", "warn"),
        ("backoff", "fail"),
        ("failed", "fail"),
    ],
)
def test_each_state_of_a_role_has_its_verdict(state: str, verdict: str) -> None:
    found = only(check_role_state({"name": "home", "state": state, "reason": "so it is"}))
    assert (str(found.verdict), "so it is" in found.detail) == (verdict, True)
    assert ("home" in found.action) == (verdict != "pass")


@pytest.mark.parametrize(("version", "verdict"), [(__version__, "pass"), ("0.0.1", "warn")])
def test_a_daemon_of_another_version_is_warned_of(version: str, verdict: str) -> None:
    assert str(only(check_daemon(daemon(version))).verdict) == verdict


def test_a_file_that_is_in_use_passes_whatever_labs_run(tmp_path: Path) -> None:
    path = written(tmp_path, f"[[role]]\n{DNS}")
    assert verdicts(check_file(daemon(), path)) == [("configuration", "pass")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"[[role]]\n{DNS.replace('192.0.2.1', '192.0.2.2')}",
        f'[[role]]\n{DNS}[[role]]\nkind = "echo"\nname = "more"\n',
    ],
)
def test_a_file_that_has_changed_is_warned_of(tmp_path: Path, text: str) -> None:
    found = only(check_file(daemon(), written(tmp_path, text)))
    assert (str(found.verdict), "reload" in found.action) == ("warn", True)


def test_what_could_not_be_reloaded_is_warned_of(tmp_path: Path) -> None:
    path = written(tmp_path, f"[[role]]\n{DNS}")
    found = list(check_file(daemon(not_reloaded=("role x:\n its key",)), path))
    assert [str(each.verdict) for each in found] == ["warn", "pass"]
    assert found[0].detail == "role x: its key"


def test_a_file_with_mistakes_or_none_fails(tmp_path: Path) -> None:
    path = written(tmp_path, "nonsense")
    assert verdicts(check_file(daemon(), path)) == [("configuration", "fail")]
    assert verdicts(check_file(daemon(), tmp_path / "none")) == [("configuration", "fail")]


def test_no_daemon_is_a_failure_unless_a_file_shall_be_looked_at(tmp_path: Path) -> None:
    with pytest.raises(ControlError) as caught:
        find_daemon(tmp_path / "none")
    assert str(missing(caught.value, has_config=False).verdict) == "fail"
    assert str(missing(caught.value, has_config=True).verdict) == "warn"
    stuck = ControlError("timeout", "it does not answer", "end it")
    assert str(missing(stuck, has_config=True).verdict) == "fail"
