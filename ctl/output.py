"""What commands print: results on stdout, as text or versioned JSON; notes on stderr."""

import json
import os
import re
import sys
import time
from collections.abc import Iterable, Sequence

import click

from ctl.messages import Message

FORMAT_VERSION = 1
"""Of every JSON object; it changes when a member changes its meaning or goes away."""

_STATE_COLOURS = {
    "ready": "green",
    "open": "green",
    "ok": "green",
    "starting": "yellow",
    "backoff": "yellow",
    "draining": "yellow",
    "stalled": "yellow",
    "failed": "red",
}
_GAP = "  "
_CONTROL = re.compile(r"[\x7f-\x9f]")
"""What steers some terminals, and JSON need not escape."""


def print_json(item: Message) -> None:
    """One object, on a line of its own."""
    line = json.dumps({"version": FORMAT_VERSION, **item}, default=_plain, ensure_ascii=False)
    line = _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", line)
    click.echo(line.encode("utf-8", "surrogateescape"))


def print_line(text: str, colour: str | None = None) -> None:
    """A line of a result, in a colour where that is wanted."""
    coloured = colour is not None and may_colour(sys.stdout.isatty())
    click.echo(click.style(printable(text), fg=colour) if coloured else printable(text))


def print_note(text: str) -> None:
    """A line for the person at the terminal, not part of the result."""
    click.echo(printable(text), err=True)


def print_table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as they need to be; words that name a state have its colour."""
    cells = [list(titles), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    coloured = may_colour(sys.stdout.isatty())
    for row in cells:
        padded = [_paint(c.ljust(w), coloured) for c, w in zip(row, widths, strict=True)]
        click.echo(_GAP.join(padded).rstrip(), color=coloured)


def may_colour(is_terminal: bool) -> bool:
    """Whether colours are wanted: https://no-color.org."""
    return is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def printable(text: str) -> str:
    """The text without what would steer a terminal: names and reasons come from other machines."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def format_age(since: object) -> str:
    """Time passed since a moment in Unix seconds, in its two largest units."""
    if not isinstance(since, (int, float)) or since <= 0:
        return "-"
    seconds = max(0, int(time.time() - since))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days}d{hours % 24}h"
    if hours:
        return f"{hours}h{minutes % 60}m"
    return f"{minutes}m{seconds % 60}s" if minutes else f"{seconds}s"


def format_size(octets: object) -> str:
    """Octets with a binary unit."""
    if not isinstance(octets, (int, float)):
        return "-"
    size = float(octets)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_rate(sent: object, received: object) -> str | None:
    """Octets per second, both ways together; None if nothing moves."""
    if not isinstance(sent, (int, float)) or not isinstance(received, (int, float)):
        return None
    return f"{format_size(sent + received)}/s" if sent + received >= 1 else None


def format_rtt(value: object) -> str:
    """Milliseconds."""
    return f"{value:.1f}ms" if isinstance(value, (int, float)) else "-"


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, (list, tuple)):
        return " ".join(map(_cell, value)) or "-"
    return printable(str(value)).replace("\n", " ").replace("\t", " ")


def _paint(cell: str, coloured: bool) -> str:
    colour = _STATE_COLOURS.get(cell.rstrip())
    return click.style(cell, fg=colour) if coloured and colour else cell


def _plain(value: object) -> str:
    """What msgpack knows and JSON does not: octets."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "backslashreplace")
    return str(value)
