"""``tunnelctl metrics``."""

import sys

import click

from ctl.app import App
from ctl.options import output_option
from ctl.output import print_json, printable


@click.command("metrics")
@output_option
@click.pass_obj
def command(app: App) -> None:
    """Print the metrics of all roles as Prometheus would get them."""
    with app.connect() as client:
        for item in client.stream("metrics"):
            if app.as_json:
                print_json(item)
            else:
                text = str(item.get("text", ""))
                sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
