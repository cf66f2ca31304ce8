"""``tunnelctl demo``."""

import click

from ctl.app import App
from ctl.options import output_option


@click.command("demo")
@output_option
@click.pass_obj
def command(app: App) -> None:
    """Show the whole story on this machine, each step proved; leaves nothing behind."""
