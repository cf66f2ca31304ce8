"""``tunnelctl doctor``: passed on to the daemon's program, which needs no running daemon for it."""

import click

from ctl.app import App
from ctl.programs import TUNNELD, become


@click.command(
    "doctor",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def command(app: App, arguments: tuple[str, ...]) -> None:
    """Check everything that a tunnel needs, at either end, and say what to do."""
    become([*TUNNELD, "doctor", *arguments], app.environment())
