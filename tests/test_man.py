"""The manual pages are fit for `man`, and say all that the programs and their files take.

That they are up to date is checked with the reference, in `test_docs.py`.
"""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import click
import msgspec
import pytest

from ctl.app import App
from ctl.passed_on import PassedOn
from tests.conftest import need
from tests.docpages import PROGRAMS, ROOT
from tunneld import cli, config

FOLDER = ROOT / "tunneld/man"
PAGES = [pytest.param(path, id=path.name) for path in sorted(FOLDER.iterdir())]


def tool(name: str) -> str:
    path = shutil.which(name)
    need(path, f"{name} (package {'man-db' if name == 'man' else name})")
    return str(path)


@cache
def rendered(page: Path) -> str:
    """A page as plain text, each paragraph one line."""
    argv = [tool("groff"), "-man", "-Tutf8", "-Kutf8", "-P-bcou", "-rLL=5000n", str(page)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("page", PAGES)
def test_groff_has_no_objection(page: Path) -> None:
    argv = [tool("groff"), "-ww", "-man", "-Tutf8", "-Kutf8", "-z", str(page)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_man_has_no_objection() -> None:
    for page in FOLDER.iterdir():
        argv = [tool("man"), "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), page


@pytest.mark.parametrize("page", PAGES)
def test_no_markdown_is_left(page: Path) -> None:
    found = re.findall(r"\]\([^)]*\)?|\*\*|```|^\|.*", rendered(page), re.MULTILINE)
    assert not found


def every_command() -> list[tuple[str, click.Command]]:
    """Name of its page, and the command, of all that have one."""
    found = []
    for program, group in PROGRAMS.items():
        assert isinstance(group, click.Group)
        context = click.Context(group, obj=App())
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if isinstance(command, PassedOn):
                command = cli.cli.get_command(context, name)
            assert command is not None
            found.append((f"{program}-{name}", command))
    return found


def options_below(command: click.Command) -> set[str]:
    found = {flag for each in command.params for flag in each.opts if flag.startswith("-")}
    if isinstance(command, click.Group):
        context = click.Context(command, obj=App())
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found |= options_below(below)
    return found


def test_every_command_has_a_page_with_its_options() -> None:
    commands = every_command()
    pages = {*(name for name, _ in commands), *PROGRAMS}
    assert {path.stem for path in FOLDER.glob("*.1")} == pages
    for name, command in commands:
        text = rendered(FOLDER / f"{name}.1")
        assert f"{name.replace('-', ' ', 1)}" in text
        for option in options_below(command):
            assert re.search(rf"(^|\s){re.escape(option)}\b", text), (name, option)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_s_page_names_all_commands(program: str) -> None:
    text = rendered(FOLDER / f"{program}.1")
    for name, _ in every_command():
        assert (f"{name}(1)" in text) is name.startswith(f"{program}-")


def test_the_page_of_the_configuration_has_every_key() -> None:
    text = rendered(FOLDER / "tunneld.toml.5")
    for kind, struct in config.KINDS.items():
        [section] = re.findall(rf'^kind = "{kind}"\n(.*?)(?=^\S|\Z)', text, re.M | re.S)
        for field in msgspec.structs.fields(struct):
            if field.name not in ("name", "namespace"):
                assert re.search(rf"^ +{field.encode_name}\b", section, re.M), (kind, field.name)


def test_pages_are_installed_where_man_finds_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["man-pages", str(tmp_path / "man")]) == 0
    number = len(list(FOLDER.iterdir()))
    expected = f"{number} manual pages written below {tmp_path / 'man'}\n"
    assert capsys.readouterr().out == expected
    for name, file in (
        ("tunnelctl-ns", "man1/tunnelctl-ns.1"),
        ("tunneld.toml", "man5/tunneld.toml.5"),
    ):
        argv = [tool("man"), "-M", str(tmp_path / "man"), "-w", name]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        assert done.stdout == f"{tmp_path / 'man' / file}\n"


def test_a_directory_that_is_none_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "man1"
    file.write_text("")
    assert cli.run(["man-pages", str(tmp_path)]) == 1
    assert f"error[failed]: cannot write {file}" in capsys.readouterr().err
