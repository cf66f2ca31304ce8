"""The text of ``--help``: a line for each flag, laid out as Go's package pflag does."""

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from tunneld.dropin.govalues import quote
from tunneld.dropin.pflag import HELP, STRING, STRINGS, Flag

_WIDTH = 110
_NARROWEST = 40
"""Columns left for explanations, at least."""


def usage(program: str, flags: Iterable[Flag[Any]], width: int = _WIDTH) -> str:
    """How to call ``program``, and its flags by name."""
    shown = sorted(row for each in [*flags, HELP] if not each.deprecated for row in _rows(each))
    indent = max(len(left) for _, left, _ in shown) + 3
    lines = [_wrapped(left, right, indent, width) for _, left, right in shown]
    return "\n".join(["Usage:", f"  {program} [flags]", "", "Flags:", *lines])


def _rows(each: Flag[Any]) -> Iterator[tuple[str, str, str]]:
    """Name, what stands left, and what right of it, for a flag's names."""
    yield each.name, _left(each.name, each), _right(each)
    for alias in each.aliases:
        yield alias, _left(alias, each), f"former name of --{each.name}"


def _left(name: str, each: Flag[Any]) -> str:
    letter = f"-{each.shorthand}, " if each.shorthand else "    "
    return f"  {letter}--{name} {each.kind.name}".rstrip()


def _right(each: Flag[Any]) -> str:
    text = each.help
    if each.environment:
        text += f"; also by the variable {each.environment}"
    if each.draw is not None:
        return f"{text} (default: drawn at random)"
    default = each.fallback
    if default in ("", 0, ()):  # the 0 stands for False, too
        return text
    shown = quote(default) if each.kind is STRING else each.kind.format(default)
    return f"{text} (default {'[' + shown + ']' if each.kind is STRINGS else shown})"


def _wrapped(left: str, right: str, indent: int, width: int) -> str:
    lines = textwrap.wrap(
        right,
        max(width - indent, _NARROWEST),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return left.ljust(indent) + ("\n" + " " * indent).join(lines)
