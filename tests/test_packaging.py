"""The wheel: what is in it, what its console scripts are, and that they run when installed."""

import os
import subprocess
import sys
import tomllib
import zipfile
from configparser import ConfigParser
from importlib.metadata import version
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("ctl", "frames", "netns", "tunneld")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools writes beside the sources, which may not be ours."""
    source = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        copytree(ROOT / package, source / package, ignore=ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    target = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target), str(source))
    [path] = target.iterdir()
    return path


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_is_for_every_platform_and_named_for_its_version(wheel: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert wheel.name == f"tunneld-{project['version']}-py3-none-any.whl"


def test_every_module_is_in_the_wheel_and_nothing_else(wheel: Path) -> None:
    """Packages are listed by hand in pyproject.toml: a new one is easily forgotten."""
    expected = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert {name for name in names_in(wheel) if name.endswith(".py")} == expected


def test_data_files_are_in_the_wheel(wheel: Path) -> None:
    names = names_in(wheel)
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    topologies = {str(path.relative_to(ROOT)) for path in ROOT.glob("netns/topologies/*.toml")}
    assert "netns/topologies/demo.toml" in topologies
    assert topologies <= names
    pages = {str(path.relative_to(ROOT)) for path in ROOT.glob("tunneld/man/*")}
    assert {"tunneld/man/tunnelctl.1", "tunneld/man/tunneld.toml.5"} <= pages <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_console_scripts_are_the_programs(wheel: Path) -> None:
    [entry_points] = [name for name in names_in(wheel) if name.endswith("entry_points.txt")]
    parser = ConfigParser()
    with zipfile.ZipFile(wheel) as archive:
        parser.read_string(archive.read(entry_points).decode())
    assert dict(parser["console_scripts"]) == {
        "tunneld": "tunneld.cli:main",
        "tunnelctl": "ctl.cli:main",
        "proxy-server": "tunneld.dropin.proxy_server:main",
        "proxy-agent": "tunneld.dropin.proxy_agent:main",
    }


@pytest.mark.parametrize(
    ("program", "option", "shows"),
    [
        ("tunneld", "--version", version("tunneld")),
        ("tunnelctl", "--version", version("tunneld")),
        ("proxy-server", "--help", "--cluster-ca-cert"),
        ("proxy-agent", "--help", "--proxy-server-host"),
    ],
)
def test_installed_programs_run_without_the_checkout(
    wheel: Path, tmp_path: Path, program: str, option: str, shows: str
) -> None:
    pip("install", "--no-deps", "--target", str(tmp_path), str(wheel))
    done = subprocess.run(
        [tmp_path / "bin" / program, option],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert shows in done.stdout


def test_installed_packages_are_those_of_the_wheel(wheel: Path, tmp_path: Path) -> None:
    pip("install", "--no-deps", "--target", str(tmp_path), str(wheel))
    script = "; ".join(f"import {package}; print({package}.__file__)" for package in PACKAGES)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = [str(tmp_path / package / "__init__.py") for package in PACKAGES]
    assert done.stdout.splitlines() == expected
