"""Reading the documentation: its pages, fenced blocks, tables, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from ctl.app import App
from ctl.cli import cli as tunnelctl
from tunneld.certs_cli import certs
from tunneld.cli import cli as tunneld
from tunneld.doctor.cli import doctor
from tunneld.dropin.agent_flags import AgentOptions
from tunneld.dropin.flagtable import Table
from tunneld.dropin.flagtable import read as read_flags
from tunneld.dropin.pflag import FlagError
from tunneld.dropin.server_flags import ServerOptions
from tunneld.secrets_cli import secrets

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])

PROGRAMS: dict[str, click.Command] = {"tunneld": tunneld, "tunnelctl": tunnelctl}
PASSED_ON: dict[str, click.Command] = {
    "tunnelctl certs": certs,
    "tunnelctl doctor": doctor,
    "tunnelctl secrets": secrets,
}
"""What `tunneld` runs."""
FLAGS: dict[str, type[Table]] = {"proxy-server": ServerOptions, "proxy-agent": AgentOptions}


class Block(NamedTuple):
    """A fenced block."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def id(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def read(page: Path) -> str:
    return page.read_text("utf-8")


def blocks_of(page: Path) -> Iterator[Block]:
    pattern = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
    for found in pattern.finditer(read(page)):
        line = read(page).count("\n", 0, found.start()) + 1
        yield Block(page, line, found[2], found[3])


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def in_language(*languages: str) -> list[Any]:
    return [pytest.param(b, id=b.id) for b in BLOCKS if b.language in languages]


def every_page() -> list[Any]:
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES]


def prompted_lines(text: str) -> Iterator[str]:
    """Commands of a console session: what follows a prompt, with its continuation lines."""
    lines = iter(text.splitlines())
    for line in lines:
        if not re.match(r"[$#] ", line):
            continue
        command = line[2:]
        while command.endswith("\\"):
            command = command[:-1] + next(lines)
        yield command


def our_commands(line: str) -> Iterator[list[str]]:
    """Every run of one of our programs in a shell command line, without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace_split = True
    words = list(lexer)
    begins = True
    for index, word in enumerate(words):
        name = word.rsplit("/")[-1]
        if begins and (name in PROGRAMS or name in FLAGS):
            yield [name, *_until_operator(words[index + 1 :])]
        elif re.search(r"\b(tunneld|tunnelctl) \w", word):  # in quotes: -o ProxyCommand=…
            yield from our_commands(re.sub(r"^.*?(?=tunneld|tunnelctl)|['\"]", "", word))
        begins = word == "--" or bool(re.fullmatch(r"[();|&\n]+|\w+=\S*", word))


def _until_operator(words: list[str]) -> list[str]:
    taken: list[str] = []
    for word in words:
        if re.fullmatch(r"[();<>|&\n]+", word):
            if taken and taken[-1].isdigit() and word[0] in "<>":
                taken.pop()  # 2>file
            break
        taken.append(word)
    return taken


def check_command(words: list[str]) -> None:
    """See that the command exists and takes these options; arguments may be placeholders."""
    name, *rest = words
    if name in FLAGS:
        check_flags(name, rest)
        return
    command = PROGRAMS[name]
    path = name
    while True:
        context = click.Context(command, info_name=path, obj=App(), **command.context_settings)
        parser = command.make_parser(context)
        try:
            _, rest, _ = parser.parse_args(list(rest))
        except click.UsageError as exc:
            raise AssertionError(f"{' '.join(words)}: {exc.format_message()}") from exc
        if path in PASSED_ON:
            command, word = PASSED_ON[path], path.removeprefix("tunnelctl ")
            path, rest = f"tunneld {word}", list(words[words.index(word) + 1 :])
            continue
        if not isinstance(command, click.Group) or not rest:
            return
        below = command.get_command(context, rest[0])
        assert below is not None, f"{' '.join(words)}: {path} has no command {rest[0]}"
        command, rest, path = below, rest[1:], f"{path} {rest[0]}"


def check_flags(name: str, arguments: list[str]) -> None:
    """The same for a program with konnectivity's flags; variables of the shell are let be."""
    try:
        read_flags(FLAGS[name], [each for each in arguments if not each.startswith("$")])
    except FlagError as exc:
        raise AssertionError(f"{name} {' '.join(arguments)}: {exc}") from exc


def tables_of(page: Path) -> dict[str, list[list[str]]]:
    """Rows of the first table under each heading, without backquotes; the titles are left out."""
    found: dict[str, list[list[str]]] = {}
    for section in re.split(r"^#+ ", read(page), flags=re.MULTILINE)[1:]:
        title = section.partition("\n")[0].replace("`", "")
        lines = re.search(r"^\|.*\n\| --- .*\n((?:\|.*\n)*)", section, flags=re.MULTILINE)
        if lines:
            rows = [line.strip("|").replace("\\|", "¦") for line in lines[1].splitlines()]
            found[title] = [
                [c.strip().strip("`").replace("¦", "|") for c in r.split("|")] for r in rows
            ]
    return found
