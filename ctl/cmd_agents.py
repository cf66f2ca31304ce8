"""``tunnelctl agents``."""

import click

from ctl.app import App, rows_of
from ctl.messages import Message
from ctl.options import output_option
from ctl.output import format_age, print_json, print_table

_TITLES = ("AGENT", "SERVER", "PEER", "STATE", "AGE", "RTT", "CONNS", "VERSION", "IDENTIFIERS")


@click.command("agents")
@output_option
@click.pass_obj
def command(app: App) -> None:
    """Show the agents that are connected to the daemon's servers."""
    result = app.request("agents")
    if app.as_json:
        print_json(result)
        return
    print_table(_TITLES, [_row(agent) for agent in rows_of(result, "agents")])


def _row(agent: Message) -> tuple[object, ...]:
    return (
        agent.get("id"),
        agent.get("server"),
        agent.get("peer"),
        agent.get("state"),
        format_age(agent.get("since")),
        _format_rtt(agent.get("rtt_ms")),
        agent.get("conns"),
        agent.get("version"),
        _format_identifiers(agent.get("identifiers")),
    )


def _format_rtt(value: object) -> str:
    return f"{value:.1f}ms" if isinstance(value, (int, float)) else "-"


def _format_identifiers(value: object) -> str:
    """What the agent says it can reach, as in ``ipv4=10.0.0.1 host=a,b``."""
    if not isinstance(value, dict):
        return "-"
    return " ".join(f"{kind}={','.join(map(str, names))}" for kind, names in value.items())
