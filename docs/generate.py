"""Writes what in docs/reference the programs know best themselves, and the manual pages.

    python docs/generate.py            write it
    python docs/generate.py --check    exit with 1 if it is not what would be written

commands.md as a whole, from click's parameters, not from its help texts, whose layout changes
between versions; errors.md as a whole, from the catalogue of errors; and the tables of flags in
proxy-programs.md, each between two comments. What manual pages are made of: `manpages`.
"""

import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from manpages import PAGES, argument, kind, man_pages

from ctl import catalogue
from ctl.app import App
from ctl.catalogue import Error
from ctl.cli import cli as tunnelctl
from tunneld.cli import cli as tunneld
from tunneld.dropin.agent_flags import AgentOptions
from tunneld.dropin.flagtable import Table, flags_of
from tunneld.dropin.klogflags import KlogOptions
from tunneld.dropin.pflag import Flag
from tunneld.dropin.server_flags import ServerOptions

REFERENCE = Path(__file__).parent / "reference"
COMMANDS = REFERENCE / "commands.md"
ERRORS = REFERENCE / "errors.md"
PROGRAMS = REFERENCE / "proxy-programs.md"

FLAGS: dict[str, type[Table]] = {
    "proxy-server": ServerOptions,
    "proxy-agent": AgentOptions,
    "both": KlogOptions,
}
"""Tables of proxy-programs.md."""

_HEAD = """\
# Commands

Made by `docs/generate.py` from the programs themselves; do not edit.
[Exit codes](exit-codes.md), [errors](errors.md). Files and variables:
[Files and environment](files-and-environment.md). The other two programs, with konnectivity's
flags: [proxy-server and proxy-agent](proxy-programs.md).

"""

_ERRORS_HEAD = """\
# Errors

Made by `docs/generate.py` from the catalogue that `tunnelctl explain CODE` prints; do not edit.
How errors are printed, and exit codes: [Exit codes](exit-codes.md). Where to begin:
[Troubleshoot](../how-to/troubleshoot.md).

| code | exit code | status | `error` of proxy-status | meaning |
| --- | --- | --- | --- | --- |
"""


def commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """``command`` and everything below it, each with its full name, in alphabetical order."""
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command, obj=App())
        for each in sorted(command.list_commands(context)):
            below = command.get_command(context, each)
            if below is not None and not below.hidden:
                yield from commands(f"{name} {each}", below)


def commands_page() -> str:
    """The page of commands."""
    found = [*commands("tunneld", tunneld), *commands("tunnelctl", tunnelctl)]
    sections = [_section(name, command) for name, command in found]
    return _HEAD + "\n".join(sections)


def _section(name: str, command: click.Command) -> str:
    level = "##" if " " not in name else "###"
    parts = [f"{level} {name}\n", f"```text\n{_usage(name, command)}\n```\n"]
    if command.help:
        parts.append(_prose(command.help) + "\n")
    if name in ("tunnelctl certs", "tunnelctl doctor", "tunnelctl secrets"):
        same = name.replace("tunnelctl", "tunneld")
        parts.append(f"The same as `{same}`, which is run with these arguments.\n")
    rows = [_row(param) for param in command.params if isinstance(param, click.Option)]
    if rows:
        parts.append("\n".join(["| option | meaning |", "| --- | --- |", *rows]) + "\n")
    return "\n".join(parts)


def _usage(name: str, command: click.Command) -> str:
    words = [name]
    if command.params:
        words.append("[OPTIONS]")
    words += [argument(param) for param in command.params if isinstance(param, click.Argument)]
    if isinstance(command, click.Group):
        words.append("COMMAND …")
    return " ".join(words)


def _row(param: click.Option) -> str:
    flags = ", ".join(f"`{flag}`" for flag in sorted(param.opts, key=len))
    value = "" if param.is_flag else param.metavar or kind(param) or "TEXT"
    default = ""
    if param.show_default and not param.is_flag and isinstance(param.default, str | int | float):
        default = f" Default: {param.default}."
    option = f"{flags} `{value}`" if value else flags
    return f"| {option} | {_prose(param.help or '')}{default} |".replace("`|", "`\\|")


def _prose(text: str) -> str:
    """Paragraphs as they are, each on one line; what `inspect.cleandoc` left of their layout."""
    paragraphs = text.replace("\b\n", "").strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs).replace("|", "\\|")


def errors_page() -> str:
    """The page of error codes."""
    parts = [_ERRORS_HEAD + "".join(map(_error_row, catalogue.errors()))]
    parts += ["## Dials\n", *map(_error_section, catalogue.DIALS)]
    parts += ["## Commands\n", *map(_error_section, catalogue.COMMANDS)]
    parts += ["## Reasons\n\nWords in states of roles and in logs, from TLS for the most part.\n"]
    return "\n".join([*parts, *map(_error_section, catalogue.REASONS)])


def _error_row(error: Error) -> str:
    status, name = (error.reply.status, f"`{error.reply.error}`") if error.reply else ("", "")
    return f"| `{error.code}` | {error.exit_code} | {status} | {name} | {error.meaning} |\n"


def _error_section(error: Error) -> str:
    also = ", ".join(f"`{each}`" for each in error.aliases)
    return "\n".join(
        [
            f"### `{error.code}`\n",
            f"{error.meaning} Arises at: {error.where}.{f' Also: {also}.' if also else ''}\n",
            "| cause, or what is seen | what to do |",
            "| --- | --- |",
            *(f"| {cause.seen} | {cause.action} |" for cause in error.causes),
            "",
        ]
    )


def programs_page() -> str:
    """The page of proxy-server and proxy-agent as it is, with its tables made anew."""
    text = PROGRAMS.read_text("utf-8")
    for name in FLAGS:
        before, begin, rest = text.partition(
            f"<!-- flags of {name}: made by docs/generate.py -->\n"
        )
        _, end, after = rest.partition("<!-- end -->\n")
        assert begin, name
        assert end, name
        rows = ["| flag | default | meaning |", "| --- | --- | --- |", *_flag_rows(name)]
        text = "".join([before, begin, *(f"{row}\n" for row in rows), end, after])
    return text


def _flag_rows(name: str) -> Iterator[str]:
    common = {each.name for each in fields(KlogOptions)} if name != "both" else set()
    for each in flags_of(FLAGS[name]):
        if each.name.replace("-", "_") not in common:
            yield _flag_row(each)


def _flag_row(each: Flag[Any]) -> str:
    letter = f"`-{each.shorthand}`, " if each.shorthand else ""
    kind = f" `{each.kind.name}`" if each.kind.name else ""
    meaning = each.help
    if each.environment:
        meaning += f"; also by the variable `{each.environment}`"
    if each.deprecated:
        meaning += "; deprecated upstream"
    for alias in each.aliases:
        meaning += f"; `--{alias}` is its former name"
    return f"| {letter}`--{each.name}`{kind} | {_default(each)} | {_prose(meaning)} |"


def _default(each: Flag[Any]) -> str:
    """What counts if the flag is not given."""
    if each.draw is not None:
        return "drawn"
    text = each.kind.format(each.fallback)
    return f"`{text}`" if text else "none"


def main() -> int:
    """Write the pages, or compare them."""
    stale = []
    pages = {COMMANDS: commands_page(), ERRORS: errors_page(), PROGRAMS: programs_page()}
    pages |= man_pages()
    check = sys.argv[1:] == ["--check"]
    for path, text in pages.items():
        if path.exists() and path.read_text("utf-8") == text:
            continue
        if check:
            stale.append(path)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
    for path in set(PAGES.glob("*")) - set(pages):  # of commands that are no more
        if check:
            stale.append(path)
        else:
            path.unlink()
    for path in stale:
        print(f"{path} is not up to date; run: python docs/generate.py", file=sys.stderr)  # noqa: T201
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
