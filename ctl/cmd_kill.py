"""``tunnelctl kill``."""

import click

from ctl import completing
from ctl.app import App, rows_of
from ctl.messages import Message
from ctl.options import output_option
from ctl.output import print_json, print_line

_reason = click.option(
    "--reason", metavar="TEXT", default="", help="For the log, the audit and the other ends."
)


@click.group("kill")
def command() -> None:
    """End connections, or the tunnels of an agent, at once."""


@command.command("conn")
@click.argument(
    "ids", nargs=-1, required=True, metavar="ID...", shell_complete=completing.connections
)
@_reason
@output_option
@click.pass_obj
def conn(app: App, ids: tuple[str, ...], reason: str) -> None:
    """Reset connections, by the IDs that `tunnelctl conns` shows."""
    for name in ids:
        _show(app, "connection", _kill(app, "conn", name, reason))


@command.command("client")
@click.argument("name")
@_reason
@output_option
@click.pass_obj
def client(app: App, name: str, reason: str) -> None:
    """Reset all connections of a client: an identity, its name, or an address.

    It may connect again: what it may reach is for the policy to say.
    """
    _show(app, "connection", _kill(app, "client", name, reason))


@command.command("agent")
@click.argument("name", metavar="ID", shell_complete=completing.agents)
@_reason
@output_option
@click.pass_obj
def agent(app: App, name: str, reason: str) -> None:
    """End the tunnels of an agent, and all connections through them.

    The agent comes back by itself within seconds, if it may: its certificate or token is still
    good.
    """
    result = _kill(app, "agent", name, reason)
    _show(app, "tunnel", result)
    if not app.as_json:
        print_line("the agent may come back: revoke its certificate or token to keep it out")


def _kill(app: App, what: str, name: str, reason: str) -> Message:
    return app.request("kill", {"what": what, "name": name, "reason": reason})


def _show(app: App, what: str, result: Message) -> None:
    if app.as_json:
        print_json(result)
        return
    for each in rows_of(result, "killed"):
        print_line(f"killed {what} {each.get('name')} of role {each.get('role')}")
