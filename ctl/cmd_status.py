"""``tunnelctl status``."""

import click

from ctl.app import App, rows_of
from ctl.cmd_role import print_roles
from ctl.options import output_option
from ctl.output import format_age, print_json, print_line


@click.command("status")
@output_option
@click.pass_obj
def command(app: App) -> None:
    """Show the daemon and its roles."""
    status = app.request("status")
    if app.as_json:
        print_json(status)
        return
    age = format_age(status.get("since"))
    print_line(f"tunneld {status.get('version')}, pid {status.get('pid')}, up {age}")
    print_line(f"control socket   {status.get('control')}")
    print_line(f"state directory  {status.get('state')}")
    for problem in status.get("not_reloaded", []):
        print_line("")
        print_line(str(problem), "red")
    roles = rows_of(status, "roles")
    if roles:
        print_line("")
        print_roles(roles)
