"""``tunnelctl conns``."""

import click

from ctl.app import App, rows_of
from ctl.options import output_option
from ctl.output import format_age, format_size, print_json, print_table

_TITLES = ("ID", "ROLE", "CLIENT", "DESTINATION", "AGENT", "STATE", "AGE", "SENT", "RECEIVED")


@click.command("conns")
@output_option
@click.pass_obj
def command(app: App) -> None:
    """Show the connections that are being carried; SENT is towards the endpoint."""
    result = app.request("conns")
    if app.as_json:
        print_json(result)
        return
    print_table(
        _TITLES,
        [
            (
                conn.get("id"),
                conn.get("role"),
                conn.get("client"),
                conn.get("destination"),
                conn.get("agent"),
                conn.get("state"),
                format_age(conn.get("since")),
                format_size(conn.get("bytes_sent")),
                format_size(conn.get("bytes_received")),
            )
            for conn in rows_of(result, "conns")
        ],
    )
