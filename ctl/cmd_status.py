"""``tunnelctl status``."""

import time

import click

from ctl.app import App, rows_of
from ctl.cmd_role import print_roles
from ctl.messages import Message
from ctl.options import output_option
from ctl.output import format_age, print_json, print_line

_DAYS = 30
_LIST_DAYS = 7
"""Before a certificate or a revocation list expires, that it is shown."""


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
    for row in rows_of({"certificates": [], **status}, "certificates"):
        if warning := _expiry(row):
            print_line(warning, "red")
    for problem in status.get("not_reloaded", []):
        print_line("")
        print_line(str(problem), "red")
    roles = rows_of(status, "roles")
    if roles:
        print_line("")
        print_roles(roles)


def _expiry(row: Message) -> str:
    """What to say of a certificate or revocation list that expires soon; "" of others."""
    not_after = row.get("not_after")
    if not isinstance(not_after, (int, float)):
        return ""
    days = (not_after - time.time()) / 86400
    if days >= (_LIST_DAYS if row.get("kind") == "crl" else _DAYS):
        return ""
    when = f"expires in {days:.0f} days" if days >= 0 else f"expired {-days:.0f} days ago"
    return f"{row.get('file')} of role {row.get('role')} {when}"
