"""The manual pages, from what docs/reference is made of and from what it says.

One page for each program, one for each command of it with all that is below, and one for each kind
of file that people write.
"""

from collections.abc import Iterator
from pathlib import Path

import click
import roff

from ctl.app import App
from ctl.cli import cli as tunnelctl
from ctl.passed_on import PassedOn
from tunneld import __version__
from tunneld.cli import cli as tunneld

REFERENCE = Path(__file__).parent / "reference"
PAGES = Path(__file__).parents[1] / "tunneld" / "man"
"""Package data, so that every installation has them: `tunneld man-pages`."""

PROGRAMS: dict[str, click.Command] = {"tunneld": tunneld, "tunnelctl": tunnelctl}
FILES = {
    "tunneld.toml": ("configuration.md", "configuration file of tunneld"),
    "tunneld-topology": ("topology.md", "file that describes a lab of tunneld"),
}
OTHERS = {
    "tunneld": ("tunnelctl(1)", "tunneld.toml(5)", "tunneld-topology(5)"),
    "tunnelctl": ("tunneld(1)", "tunneld.toml(5)", "tunneld-topology(5)"),
}


def man_pages() -> dict[Path, str]:
    """Every page, and where it belongs."""
    pages: dict[Path, str] = {}
    for name, program in PROGRAMS.items():
        pages[PAGES / f"{name}.1"] = _program_page(name, program)
        for below, command in _commands(program):
            page = f"{name}-{below}"
            pages[PAGES / f"{page}.1"] = _command_page(page, f"{name} {below}", command)
    for name, (source, meaning) in FILES.items():
        pages[PAGES / f"{name}.5"] = _file_page(name, source, meaning)
    return pages


def _commands(group: click.Command) -> Iterator[tuple[str, click.Command]]:
    """What is directly below; what `tunnelctl` passes on is shown as it is there."""
    if not isinstance(group, click.Group):
        return
    context = click.Context(group, obj=App())
    for name in sorted(group.list_commands(context)):
        command = group.get_command(context, name)
        if isinstance(command, PassedOn):
            command = tunneld.get_command(context, name)
        if command is not None and not command.hidden:
            yield name, command


def _program_page(name: str, program: click.Command) -> str:
    parts = [
        _head(name, program),
        ".SH SYNOPSIS\n",
        _synopsis(name, program),
        _description(program),
    ]
    parts += [".SH OPTIONS\n", _options(program), ".SH COMMANDS\n"]
    for below, command in _commands(program):
        parts.append(roff.term(f"\\fB{roff.escape(f'{name}-{below}')}\\fR(1)", _summary(command)))
    codes = roff.section_of(_reference("exit-codes.md"), "Exit codes")
    parts += [".SH EXIT STATUS\n", roff.convert(codes, 1)]
    places = _reference("files-and-environment.md")
    for title in ("Where things are", "Files of the daemon", "Other variables", "Signals"):
        parts += [roff.heading(title), roff.convert(roff.section_of(places, title), 1)]
    return "".join([*parts, _see_also(OTHERS[name])])


def _command_page(page: str, name: str, command: click.Command) -> str:
    parts = [_head(page, command), ".SH SYNOPSIS\n", _synopsis(name, command)]
    parts += [f".br\n{line}" for line in _synopses(name, command)]
    parts.append(_description(command))
    if options := _options(command):
        parts += [".SH OPTIONS\n", options]
    if isinstance(command, click.Group):
        parts.append(".SH COMMANDS\n")
        parts += [_below(f"{name} {each}", below) for each, below in _commands(command)]
    program = name.split()[0]
    return "".join([*parts, _see_also((f"{program}(1)", *OTHERS[program][1:]))])


def _synopses(name: str, group: click.Command) -> Iterator[str]:
    for each, below in _commands(group):
        yield _synopsis(f"{name} {each}", below)


def _below(name: str, command: click.Command) -> str:
    """A command below a command, and what is below that in turn."""
    parts = [roff.subheading(name), _paragraphs(command.help or ""), _options(command)]
    parts += [_below(f"{name} {each}", below) for each, below in _commands(command)]
    return "".join(parts)


def _file_page(name: str, source: str, meaning: str) -> str:
    parts = [
        roff.header(name, 5, __version__),
        ".SH NAME\n",
        f"{roff.escape(name)} \\- {meaning}\n",
    ]
    text = _reference(source)
    introduction, _, rest = text.partition("\n## ")
    parts += [".SH DESCRIPTION\n", roff.convert(introduction), roff.convert(f"## {rest}")]
    return "".join([*parts, _see_also(("tunneld(1)", "tunnelctl(1)"))])


def _head(name: str, command: click.Command) -> str:
    what = _summary(command)
    return f"{roff.header(name, 1, __version__)}.SH NAME\n{roff.escape(name)} \\- {what}\n"


def _summary(command: click.Command) -> str:
    return roff.escape(command.get_short_help_str(200).rstrip("."))


def _synopsis(name: str, command: click.Command) -> str:
    words = [roff.bold(name)]
    options = [param for param in command.params if isinstance(param, click.Option)]
    words += ["[\\fIOPTIONS\\fR]"] if options else []
    words += [roff.escape(argument(p)) for p in command.params if isinstance(p, click.Argument)]
    words += ["\\fICOMMAND\\fR ..."] if isinstance(command, click.Group) else []
    return " ".join(words) + "\n"


def _description(command: click.Command) -> str:
    return f".SH DESCRIPTION\n{_paragraphs(command.help or '')}"


def _paragraphs(text: str) -> str:
    """As click has it: a paragraph that begins with a backspace keeps its lines."""
    parts = []
    for paragraph in text.strip().split("\n\n"):
        if paragraph.startswith("\b\n"):
            parts.append(roff.literal(paragraph.removeprefix("\b\n")))
        else:
            parts.append(f".PP\n{roff.escape(' '.join(paragraph.split()))}\n")
    return "".join(parts)


def _options(command: click.Command) -> str:
    return "".join(_option(each) for each in command.params if isinstance(each, click.Option))


def _option(param: click.Option) -> str:
    flags = ", ".join(roff.bold(flag) for flag in sorted(param.opts, key=len))
    value = "" if param.is_flag else param.metavar or kind(param) or "TEXT"
    meaning = " ".join((param.help or "").split())
    if param.show_default and not param.is_flag and isinstance(param.default, str | int | float):
        meaning += f" Default: {param.default}."
    return roff.term(f"{flags} {roff.italic(value)}" if value else flags, roff.escape(meaning))


def argument(param: click.Argument) -> str:
    """An argument as usages show it."""
    if param.nargs == -1 and not param.metavar:
        return "[ARGUMENT...]"
    metavar = param.metavar or kind(param) or str(param.name).upper()
    return metavar if param.required or metavar.startswith("[") else f"[{metavar}]"


def kind(param: click.Parameter) -> str:
    """What stands for a value whose parameter has no metavar; "" is any text."""
    if isinstance(param.type, click.Choice):
        return "/".join(map(str, param.type.choices))
    if isinstance(param.type, click.types.IntParamType | click.types.FloatParamType):
        return "NUMBER"
    return "PATH" if isinstance(param.type, click.Path) else ""


def _reference(name: str) -> str:
    return (REFERENCE / name).read_text("utf-8")


def _see_also(pages: tuple[str, ...]) -> str:
    names = [f"{roff.bold(page.partition('(')[0])}({page.partition('(')[2]}" for page in pages]
    return f".SH SEE ALSO\n{', '.join(names)}\n"
