"""``tunnelctl agents``."""

from typing import Any

import click

from ctl.app import App, rows_of
from ctl.listing import fetch, list_options, note_missing, wanted
from ctl.messages import Message
from ctl.options import output_option
from ctl.output import format_age, format_rate, format_rtt, print_json, print_table

SORTS = ("age", "rate", "conns", "rtt", "agent")
TITLES = (
    "AGENT",
    "SERVER",
    "IDENTITY",
    "PEER",
    "PROTOCOL",
    "STATE",
    "AGE",
    "RTT",
    "CONNS",
    "PENDING",
    "RATE",
    "VERSION",
    "IDENTIFIERS",
)


@click.command("agents")
@list_options(SORTS, ("role", "agent"))
@output_option
@click.pass_obj
def command(app: App, /, **options: Any) -> None:
    """Show the agents that are connected to the daemon's servers.

    PENDING are dials without an answer. PATTERN is a shell pattern, such as 'home-*'.
    """
    result = fetch(app, "agents", wanted(options))
    if app.as_json:
        print_json(result)
        return
    rows = rows_of(result, "agents")
    print_table(TITLES, map(cells_of, rows))
    note_missing(result, len(rows))


def cells_of(agent: Message) -> tuple[object, ...]:
    """A row of the table."""
    return (
        agent.get("id"),
        agent.get("server"),
        agent.get("identity"),
        agent.get("peer"),
        agent.get("protocol"),
        agent.get("state"),
        format_age(agent.get("since")),
        format_rtt(agent.get("rtt_ms")),
        agent.get("conns"),
        agent.get("pending"),
        format_rate(agent.get("rate_sent"), agent.get("rate_received")),
        agent.get("version"),
        _format_identifiers(agent.get("identifiers")),
    )


def _format_identifiers(value: object) -> str:
    """What the agent says it can reach, as in ``ipv4=10.0.0.1 host=a,b``."""
    if not isinstance(value, dict):
        return "-"
    return " ".join(f"{kind}={','.join(map(str, names))}" for kind, names in value.items())
