"""``tunnelctl drain``: have roles finish what they do."""

import click

from ctl import completing
from ctl.app import App, rows_of
from ctl.options import output_option
from ctl.output import print_json, print_line, print_note


@click.command("drain")
@click.argument("roles", metavar="[ROLE]...", nargs=-1, shell_complete=completing.roles)
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="For the connections that there are  [each role's drain-timeout].",
)
@output_option
@click.pass_obj
def command(app: App, roles: tuple[str, ...], timeout: float | None) -> None:
    """Have servers and agents take nothing new, finish what they carry, and stop.

    Without ROLE: all servers and agents of the daemon. A server has its agents open a tunnel to
    another server first; an agent's server sends dials elsewhere. `tunnelctl role start` begins
    anew.
    """
    said = ""
    with app.connect() as client:
        stream = client.stream("drain", {"roles": list(roles), "timeout": timeout})
        for item in stream:
            if app.as_json:
                print_json(item)
                continue
            text = f"{item.get('role')}: {item.get('state')}, {item.get('conns')} connections left"
            if text != said:
                print_note(text)
            said = text
        end = stream.end
    if app.as_json:
        print_json(end)
        return
    for role in rows_of(end, "roles"):
        print_line(f"{role.get('name')}: {role.get('state')}")
