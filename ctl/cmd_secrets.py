"""``tunnelctl secrets``: passed on to the daemon's program, which needs no daemon for it."""

import click

from ctl.app import App
from ctl.programs import TUNNELD, become


@click.command(
    "secrets",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def command(app: App, arguments: tuple[str, ...]) -> None:
    """Make, show and remove hashed secrets of agents and clients (add, list, remove)."""
    become([*TUNNELD, "secrets", *arguments], app.environment())
