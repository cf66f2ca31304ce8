"""``tunnelctl conns``."""

from typing import Any

import click

from ctl.app import App, rows_of
from ctl.listing import fetch, list_options, note_missing, wanted
from ctl.messages import Message
from ctl.options import output_option
from ctl.output import format_age, format_rate, format_rtt, format_size, print_json, print_table

SORTS = (
    "age",
    "rate",
    "sent",
    "received",
    "queue",
    "stalled",
    "rtt",
    "client",
    "destination",
    "agent",
)
TITLES = (
    "ID",
    "ROLE",
    "IDENTITY",
    "CLIENT",
    "DESTINATION",
    "DIALLED",
    "AGENT",
    "STATE",
    "AGE",
    "SENT",
    "RECEIVED",
    "RATE",
    "QUEUE",
    "STALLED",
    "RTT",
)


@click.command("conns")
@list_options(SORTS, ("role", "agent", "client", "destination"))
@output_option
@click.pass_obj
def command(app: App, /, **options: Any) -> None:
    """Show the connections that are being carried; SENT is towards the endpoint.

    PATTERN is a shell pattern, such as '*.example'.
    """
    result = fetch(app, "conns", wanted(options))
    if app.as_json:
        print_json(result)
        return
    rows = rows_of(result, "conns")
    print_table(TITLES, map(cells_of, rows))
    note_missing(result, len(rows))


def cells_of(conn: Message) -> tuple[object, ...]:
    """A row of the table."""
    return (
        conn.get("id"),
        conn.get("role"),
        conn.get("identity"),
        conn.get("client"),
        conn.get("destination"),
        conn.get("dialled"),
        conn.get("agent"),
        conn.get("state"),
        format_age(conn.get("since")),
        format_size(conn.get("bytes_sent")),
        format_size(conn.get("bytes_received")),
        format_rate(conn.get("rate_sent"), conn.get("rate_received")),
        format_size(conn.get("queue")) if conn.get("queue") else None,
        _format_stall(conn),
        format_rtt(conn.get("rtt_ms")),
    )


def _format_stall(conn: Message) -> str | None:
    """As in ``client 12s``: who takes nothing, and for how long."""
    side, seconds = conn.get("stalled_by"), conn.get("stalled_seconds")
    return f"{side} {seconds:.0f}s" if side and isinstance(seconds, int | float) else None
