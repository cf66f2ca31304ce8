"""The script `dev`: when it makes and when it mends the virtual environment, and what it says when
it cannot. The interpreter is a stand-in that writes down how it is called."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("cat", "cksum", "cp", "dirname", "grep", "id", "mkdir", "rm", "sh", "tail", "tee")
INTERPRETER = """#!/bin/sh
echo "$*" >>"$CALLS"
case "$1 $2" in
  "-m venv") mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
  "-m pip") test ! -e "$CALLS.no-network" ;;
  "-m pytest") exit 5 ;;
  "-m bench") exit 6 ;;
esac
"""
OLD = """#!/bin/sh
case "$2" in *version.split*) echo 3.9.2 ;; *) exit 1 ;; esac
"""
NO_ENSUREPIP = """#!/bin/sh
case "$2" in *ensurepip*) exit 1 ;; esac
"""


class Checkout:
    """A checkout with nothing in it but `dev`, and a PATH of its own."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "checkout"
        self.calls_file = directory / "calls"
        self.bin = directory / "bin"
        for each in (self.root, self.bin):
            each.mkdir()
        shutil.copy(ROOT / "dev", self.root)
        (self.root / "pyproject.toml").write_text("one")
        for tool in TOOLS:
            path = shutil.which(tool)
            assert path is not None
            (self.bin / tool).symlink_to(path)

    def install_python(self, script: str) -> None:
        path = self.bin / "python3"
        path.write_text(script)
        path.chmod(0o755)

    def dev(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(self.root / "dev"), *arguments],
            env={"PATH": str(self.bin), "CALLS": str(self.calls_file), **environ},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self) -> list[str]:
        """What was installed and run since the last look, without the probes."""
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        self.calls_file.unlink(missing_ok=True)
        return [line for line in lines if line.startswith("-m ")]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def pip_install(what: str) -> str:
    return f"-m pip --disable-pip-version-check install --progress-bar off -e {what}"


def test_first_use_makes_the_environment_and_the_next_goes_straight_on(checkout: Checkout) -> None:
    checkout.install_python(INTERPRETER)
    first = checkout.dev("test", "-k", "x")
    assert first.returncode == 5
    assert "making a virtual environment" in first.stderr
    assert checkout.calls() == [
        f"-m venv --clear {checkout.root}/.venv",
        pip_install(f"{checkout.root}[dev]"),
        "-m pytest -k x",
    ]
    second = checkout.dev("test")
    assert (second.returncode, second.stderr) == (5, "")
    assert checkout.calls() == ["-m pytest"]


def test_changed_requirements_are_installed_into_the_same_environment(checkout: Checkout) -> None:
    checkout.install_python(INTERPRETER)
    checkout.dev("test")
    checkout.calls()
    (checkout.root / "pyproject.toml").write_text("two")
    checkout.dev("test")
    assert checkout.calls() == [pip_install(f"{checkout.root}[dev]"), "-m pytest"]


def test_demo_needs_less_than_the_tests_and_is_content_with_theirs(checkout: Checkout) -> None:
    checkout.install_python(INTERPRETER)
    assert checkout.dev("run", "sh", "-c", "exit 7").returncode == 7
    assert checkout.calls()[1:] == [pip_install(str(checkout.root))]
    checkout.dev("test")
    assert checkout.calls() == [pip_install(f"{checkout.root}[dev]"), "-m pytest"]
    checkout.dev("run", "sh", "-c", "true")
    assert checkout.calls() == []


def test_bench_has_what_the_tests_have_for_it_builds_what_they_build(checkout: Checkout) -> None:
    checkout.install_python(INTERPRETER)
    assert checkout.dev("bench", "--quick").returncode == 6
    assert checkout.calls()[1:] == [pip_install(f"{checkout.root}[dev]"), "-m bench --quick"]


def test_environment_that_does_not_run_is_made_anew(checkout: Checkout) -> None:
    checkout.install_python(INTERPRETER)
    checkout.dev("test")
    checkout.calls()
    (checkout.root / ".venv/bin/python").write_text("#!/no/such/python\n")
    checkout.dev("test")
    assert checkout.calls()[0] == f"-m venv --clear {checkout.root}/.venv"


def test_environment_may_be_elsewhere(checkout: Checkout, tmp_path: Path) -> None:
    checkout.install_python(INTERPRETER)
    checkout.dev("test", TUNNELD_VENV=str(tmp_path / "mine"))
    assert checkout.calls()[0] == f"-m venv --clear {tmp_path}/mine"
    assert not (checkout.root / ".venv").exists()


def test_failed_install_shows_why_and_is_tried_again(checkout: Checkout) -> None:
    checkout.install_python(INTERPRETER)
    marker = checkout.calls_file.with_name("calls.no-network")
    marker.touch()
    failed = checkout.dev("test")
    assert failed.returncode == 1
    assert f"the whole output is in {checkout.root}/.venv/dev.log" in failed.stderr
    marker.unlink()
    checkout.calls()
    assert checkout.dev("test").returncode == 5
    assert checkout.calls()[-2:] == [pip_install(f"{checkout.root}[dev]"), "-m pytest"]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (None, "there is no python3; on Debian and Ubuntu: apt-get install python3 python3-venv"),
        (OLD, "python3 is version 3.9.2, 3.11 or newer is needed"),
        (NO_ENSUREPIP, "apt-get install python3-venv"),
    ],
)
def test_python_that_will_not_do_says_what_to_install(
    checkout: Checkout, script: str | None, says: str
) -> None:
    if script is not None:
        checkout.install_python(script)
    result = checkout.dev("demo")
    assert result.returncode == 1
    assert says in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.plain
@pytest.mark.parametrize(
    ("locked", "says"), [("checkout", "git clone"), ("venv", "TUNNELD_VENV=$HOME")]
)
def test_what_cannot_be_written_says_where_to_go(
    checkout: Checkout, tmp_path: Path, locked: str, says: str
) -> None:
    checkout.install_python(INTERPRETER)
    (tmp_path / "place").mkdir()
    where = checkout.root if locked == "checkout" else tmp_path / "place"
    where.chmod(0o555)
    result = checkout.dev("demo", TUNNELD_VENV=str(tmp_path / "place" / "venv"))
    where.chmod(0o755)
    assert result.returncode == 1
    assert says in result.stderr


def test_no_command_shows_the_usage(checkout: Checkout) -> None:
    assert checkout.dev().stdout.startswith("Usage: sh dev COMMAND")
    unknown = checkout.dev("frobnicate")
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("Usage: sh dev COMMAND")
