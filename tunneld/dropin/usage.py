"""The text of ``--help``: a line for each flag, laid out as Go's package pflag does."""

import textwrap
from collections.abc import Iterable
from typing import Any

from tunneld.dropin.govalues import quote
from tunneld.dropin.pflag import HELP, STRING, STRINGS, Flag

_WIDTH = 110
_NARROWEST = 40
"""Columns left for explanations, at least."""


def usage(program: str, flags: Iterable[Flag[Any]], width: int = _WIDTH) -> str:
    """How to call ``program``, and its flags by name."""
    shown = sorted((each for each in [*flags, HELP] if not each.deprecated), key=lambda f: f.name)
    left = [_left(each) for each in shown]
    indent = max(map(len, left)) + 3
    rows = [
        _row(words, _right(each), indent, width) for words, each in zip(left, shown, strict=True)
    ]
    return "\n".join(["Usage:", f"  {program} [flags]", "", "Flags:", *rows])


def _left(each: Flag[Any]) -> str:
    letter = f"-{each.shorthand}, " if each.shorthand else "    "
    return f"  {letter}--{each.name} {each.kind.name}".rstrip()


def _right(each: Flag[Any]) -> str:
    text = each.help
    if each.environment:
        text += f"; also by the variable {each.environment}"
    if each.draw is not None:
        return f"{text} (default: drawn at random)"
    default = each.default
    if default in ("", 0, ()):  # the 0 stands for False, too
        return text
    shown = quote(default) if each.kind is STRING else each.kind.format(default)
    return f"{text} (default {'[' + shown + ']' if each.kind is STRINGS else shown})"


def _row(left: str, right: str, indent: int, width: int) -> str:
    lines = textwrap.wrap(
        right,
        max(width - indent, _NARROWEST),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return left.ljust(indent) + ("\n" + " " * indent).join(lines)
