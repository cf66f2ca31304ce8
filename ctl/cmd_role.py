"""``tunnelctl role``: the daemon's servers, agents and endpoints."""

from collections.abc import Sequence
from datetime import datetime

import click

from ctl import completing
from ctl.app import App, rows_of
from ctl.messages import Message
from ctl.options import output_option
from ctl.output import format_age, print_json, print_line, print_table

_TITLES = ("NAME", "KIND", "NAMESPACE", "STATE", "AGE", "RESTARTS", "PID", "ADDRESSES", "REASON")

_names_argument = click.argument(
    "names", nargs=-1, required=True, metavar="NAME...", shell_complete=completing.roles
)


def print_roles(roles: Sequence[Message]) -> None:
    """A table of roles."""
    print_table(
        _TITLES,
        [
            (
                role.get("name"),
                role.get("kind"),
                role.get("namespace"),
                role.get("state"),
                format_age(role.get("since")),
                role.get("restarts"),
                role.get("pid"),
                role.get("addresses"),
                role.get("reason"),
            )
            for role in roles
        ],
    )


@click.group("role")
def command() -> None:
    """List, stop and start roles by hand, read their logs."""


@command.command("list")
@output_option
@click.pass_obj
def list_(app: App) -> None:
    """Show all roles."""
    result = app.request("role.list")
    if app.as_json:
        print_json(result)
    else:
        print_roles(rows_of(result, "roles"))


@command.command("start")
@_names_argument
@output_option
@click.pass_obj
def start(app: App, names: tuple[str, ...]) -> None:
    """Start roles and wait until they are ready."""
    _change(app, "role.start", names)


@command.command("stop")
@_names_argument
@output_option
@click.pass_obj
def stop(app: App, names: tuple[str, ...]) -> None:
    """Stop roles; what runs in them is finished first."""
    _change(app, "role.stop", names)


@command.command("restart")
@_names_argument
@output_option
@click.pass_obj
def restart(app: App, names: tuple[str, ...]) -> None:
    """Stop roles and start them again."""
    _change(app, "role.restart", names)


@command.command("logs")
@click.argument("name", shell_complete=completing.roles)
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Entries to begin with.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with new entries until Ctrl-C.")
@output_option
@click.pass_obj
def logs(app: App, name: str, lines: int, follow: bool) -> None:
    """Show a role's log."""
    with app.connect() as client:
        params = {"name": name, "lines": lines, "follow": follow}
        for entry in client.stream("role.logs", params):
            if app.as_json:
                print_json(entry)
            else:
                print_line(_format_entry(entry))


def _change(app: App, method: str, names: Sequence[str]) -> None:
    roles = []
    for name in names:
        role = app.request(method, {"name": name})
        if app.as_json:
            print_json(role)
        roles.append(role)
    if not app.as_json:
        print_roles(roles)


def _format_entry(entry: Message) -> str:
    fields = entry.get("fields")
    pairs = [f"{key}={value}" for key, value in fields.items()] if isinstance(fields, dict) else []
    words = [_format_time(entry.get("time")), f"{entry.get('level', ''):<7}", entry.get("event")]
    return " ".join(map(str, [*words, *pairs]))


def _format_time(value: object) -> str:
    """Unix seconds as local time, to the millisecond."""
    if not isinstance(value, (int, float)):
        return str(value)
    return datetime.fromtimestamp(value).strftime("%H:%M:%S.%f")[:-3]
