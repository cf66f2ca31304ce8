"""``tunnelctl reload``."""

import click

from ctl.app import App
from ctl.messages import Message
from ctl.options import output_option
from ctl.output import print_json, print_line, print_note, print_table

_TITLES = ("ROLE", "FIELD", "OLD", "NEW", "HOW")


@click.command("reload")
@click.option("--check", is_flag=True, help="Only show what would change.")
@output_option
@click.pass_obj
def command(app: App, check: bool) -> None:
    """Read the configuration, certificates and other files again.

    Shows what changes. Connections go on; what takes a restart of a role is said, and that role
    lets its connections end first. If anything is wrong, nothing changes.
    """
    changes: list[Message] = []
    with app.connect() as client:
        for change in client.stream("reload", {"check": check}):
            changes.append(change)
            if app.as_json:
                print_json(change)
            elif not check:
                _announce(change)
    if not app.as_json:
        _show(changes, check=check)


def _announce(change: Message) -> None:
    """What takes a while, or more than this."""
    match change.get("how"):
        case "restart":
            print_note(f"role {change.get('role')} restarts: {change.get('field')} changes")
        case "upgrade":
            print_note(f"{change.get('field')} takes a new process: tunnelctl upgrade")


def _show(changes: list[Message], *, check: bool) -> None:
    if not changes:
        print_line("nothing has changed")
        return
    rows = [[change.get(title.lower()) for title in _TITLES] for change in changes]
    print_table(_TITLES, rows)
    if check:
        print_note("nothing was done; do it with: tunnelctl reload")
