"""Long lists from the daemon: the options that choose rows, and fetching them page by page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import click

from ctl.app import App, rows_of
from ctl.client import Client
from ctl.messages import Message
from ctl.output import print_note

ROWS = 1000
"""Rows that are shown without ``--all``."""
PAGE = 500
"""Rows that are asked for at once."""
TIMEOUT = 30.0
"""Seconds for one page."""

P = ParamSpec("P")
R = TypeVar("R")

FILTERS = {
    "role": "Only those of this role.",
    "agent": "Only those of this agent.",
    "client": "Only those of this client: an identity, its name, or an address.",
    "destination": "Only those to this destination: HOST or HOST:PORT, as asked for or as dialled.",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows, in which order."""

    filters: dict[str, str]
    sort: str
    reverse: bool
    everything: bool


def list_options(
    sorts: Sequence[str], filters: Sequence[str]
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """``--FILTER``, ``--sort``, ``--reverse`` and ``--all``; `wanted` makes one of them."""

    def decorate(command: Callable[P, R]) -> Callable[P, R]:
        command = click.option("--all", "everything", is_flag=True, help=_ALL)(command)
        command = click.option("--reverse", is_flag=True, help="Turn the order round.")(command)
        command = click.option(
            "--sort", type=click.Choice(list(sorts)), default="age", show_default=True, help=_SORT
        )(command)
        for name in reversed(filters):
            command = click.option(f"--{name}", metavar="PATTERN", default="", help=FILTERS[name])(
                command
            )
        return command

    return decorate


_ALL = f"Show all rows, not the first {ROWS} alone; ordered by age while they are fetched."
_SORT = "What to order by; numbers have the largest first."


def wanted(options: dict[str, Any]) -> Wanted:
    """Out of what `list_options` gave."""
    filters = {name: options[name] for name in FILTERS if options.get(name)}
    return Wanted(filters, options["sort"], options["reverse"], options["everything"])


def fetch(app: App, what: str, which: Wanted) -> Message:
    """The rows, and how many there are in all.

    Raises:
      ControlError: the daemon refuses, or does not answer.
    """
    with app.connect() as client:
        return fetch_from(client, what, which)


def fetch_from(client: Client, what: str, which: Wanted, limit: int = ROWS) -> Message:
    """As `fetch`.

    Args:
      limit: rows at most, unless all are wanted.
    """
    # Others come and go meanwhile; by age, pages miss none that stays.
    order = {"sort": "age"} if which.everything else {"sort": which.sort, "reverse": which.reverse}
    rows: list[Message] = []
    after: object = []
    while True:
        size = PAGE if which.everything else min(PAGE, limit - len(rows))
        params = {**which.filters, **order, "after": after, "limit": size}
        answer = client.request(what, params, timeout=TIMEOUT)
        rows += rows_of(answer, what)
        after = answer.get("next")
        if not after or (not which.everything and len(rows) >= limit):
            return {what: rows, "total": answer.get("total"), "sums": answer.get("sums")}


def note_missing(result: Message, shown: int) -> None:
    """Say that there are more rows than were shown."""
    total = result.get("total")
    if isinstance(total, int) and total > shown:
        print_note(f"{shown} of {total} are shown: choose with filters, or give --all")
