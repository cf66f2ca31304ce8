"""``tunnelctl top``."""

import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from ctl.app import App
from ctl.client import Client
from ctl.listing import FILTERS
from ctl.options import output_option
from ctl.output import print_json, print_line
from ctl.topview import SORTS, Look, Order

_ESCAPE = b"\x1b"


@click.command("top")
@click.option(
    "-d",
    "--delay",
    metavar="SECONDS",
    type=click.FloatRange(min=0.2),
    default=2.0,
    show_default=True,
    help="Between two looks.",
)
@click.option(
    "-n",
    "--number",
    metavar="COUNT",
    type=click.IntRange(min=1),
    help="Looks until it ends  [none at a terminal; else 1].",
)
@click.option(
    "--sort", type=click.Choice(SORTS), default="rate", show_default=True, help="Order by."
)
@click.option("--reverse", is_flag=True, help="Turn the order round.")
@click.option("--role", metavar="PATTERN", default="", help=FILTERS["role"])
@click.option("--agent", metavar="PATTERN", default="", help=FILTERS["agent"])
@click.option("--client", metavar="PATTERN", default="", help=FILTERS["client"])
@click.option("--destination", metavar="PATTERN", default="", help=FILTERS["destination"])
@output_option
@click.pass_obj
def command(app: App, /, **options: Any) -> None:
    """Watch agents and connections.

    At a terminal: q ends it, s and S change the order, r turns it round, space looks at once. Into
    a pipe it prints text, again and again.
    """
    filters = {name: options[name] for name in FILTERS if options[name]}
    order, number = Order(options["sort"], options["reverse"]), options["number"]
    with app.connect() as client:
        if sys.stdout.isatty() and not app.as_json:
            _watch(client, order, filters, options["delay"], number)
        else:
            _print(client, order, filters, options["delay"], number or 1, as_json=app.as_json)


def _print(
    client: Client,
    order: Order,
    filters: dict[str, str],
    delay: float,
    number: int,
    *,
    as_json: bool,
) -> None:
    for count in range(number):
        if count:
            time.sleep(delay)
        look = Look.take(client, order, filters, shutil.get_terminal_size((80, 50)).lines)
        if as_json:
            print_json(look.to_map())
            continue
        if count:
            print_line("")
        look.print()
        sys.stdout.flush()


def _watch(
    client: Client, order: Order, filters: dict[str, str], delay: float, number: int | None
) -> None:
    from rich.console import Console
    from rich.live import Live

    console, count = Console(), 0
    with _keys() as keyboard, Live(console=console, screen=True, auto_refresh=False) as live:
        while number is None or count < number:
            count += 1
            look = Look.take(client, order, filters, console.size.height)
            live.update(look.render(), refresh=True)
            key = _key(keyboard, delay)
            if key in (b"q", b"Q", _ESCAPE):
                return
            order = _ordered(order, key)


def _ordered(order: Order, key: bytes) -> Order:
    match key:
        case b"s":
            return order.next()
        case b"S":
            return order.next(-1)
        case b"r":
            return order.turned()
    return order


@contextmanager
def _keys() -> Iterator[int | None]:
    """The terminal's keys, each as it is pressed; None without a terminal to read from."""
    try:
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
    except (OSError, ValueError, AttributeError, termios.error):
        yield None
        return
    try:
        tty.setcbreak(descriptor)
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _key(keyboard: int | None, timeout: float) -> bytes:
    """The next key; empty if none was pressed in time."""
    if keyboard is None:
        time.sleep(timeout)
        return b""
    if not select.select([keyboard], [], [], timeout)[0]:
        return b""
    pressed = os.read(keyboard, 16)
    if not pressed:  # the terminal is gone
        return b"q"
    # A key such as an arrow comes as several octets, and means nothing here.
    return pressed[:1] if len(pressed) == 1 or pressed[:1] != _ESCAPE else b"?"
