"""Findings on the terminal: a table with an action below each line that has one; or JSON."""

import json
import os
from collections import Counter
from collections.abc import Iterable

import click

from tunneld.doctor.finding import Finding, Verdict

FORMAT_VERSION = 1

_COLOURS = {
    Verdict.PASS: "green",
    Verdict.INFO: "cyan",
    Verdict.WARN: "yellow",
    Verdict.FAIL: "red",
}
_TITLES = ("VERDICT", "OF", "CHECK", "FOUND")


def as_json(finding: Finding) -> str:
    """One object, as `tunnelctl` has them."""
    return json.dumps({"version": FORMAT_VERSION, **finding.to_map()})


def table(findings: Iterable[Finding], is_terminal: bool) -> str:
    """All of them, and how many of each there are."""
    found = list(findings)
    coloured = is_terminal and not os.environ.get("NO_COLOR")  # https://no-color.org
    rows = [(str(each.verdict).upper(), each.subject, each.check) for each in found]
    widths = [max(map(len, column)) for column in zip(_TITLES[:3], *rows, strict=True)]
    lines = [_line(_TITLES, widths)]
    for finding, row in zip(found, rows, strict=True):
        verdict = row[0].ljust(widths[0])
        line = _line((*row, finding.detail), widths)
        if coloured:
            line = click.style(verdict, fg=_COLOURS[finding.verdict]) + line[len(verdict) :]
        lines.append(line)
        if finding.action:
            lines.append(f"{' ' * (widths[0] + 2)}-> {_plain(finding.action)}")
    return "\n".join([*lines, summary(found)])


def summary(findings: Iterable[Finding]) -> str:
    """How many there are of each verdict."""
    numbers = Counter(each.verdict for each in findings)
    return ", ".join(f"{numbers[each]} {each}" for each in Verdict if each is not Verdict.INFO)


def exit_code(findings: Iterable[Finding], *, strict: bool) -> int:
    """1 with a failure, or a warning where that is meant to count; else 0."""
    verdicts = {each.verdict for each in findings}
    return int(Verdict.FAIL in verdicts or (strict and Verdict.WARN in verdicts))


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
    return "  ".join([*map(_plain, padded), _plain(cells[-1])]).rstrip()


def _plain(text: str) -> str:
    """Without what would steer a terminal: names and reasons come from other machines."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
