"""``tunnelctl events``."""

import re
import time
from datetime import UTC, datetime

import click

from ctl.app import App
from ctl.messages import Message
from ctl.options import output_option
from ctl.output import print_json, print_line

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_COLOURS = {"warning": "yellow", "error": "red"}


def moment(text: str) -> float:
    """Argument type: ``10m`` ago, or an RFC 3339 time; as Unix seconds."""
    if match := re.fullmatch(r"(\d+)([smhd])", text):
        return time.time() - int(match[1]) * _UNITS[match[2]]
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither like 30s, 10m, 2h, 1d nor like 2027-01-31T12:00:00Z"
        ) from None
    return (when if when.tzinfo else when.astimezone()).timestamp()


@click.command("events")
@click.option("-f", "--follow", is_flag=True, help="Go on with new events until Ctrl-C.")
@click.option(
    "--since", type=moment, metavar="TIME", help="Only those since 30s, 10m, 2h, 1d or a time."
)
@click.option("--event", metavar="PATTERN", default="", help="Only those of such a name: 'agent.*'")
@click.option("--role", metavar="ROLE", default="", help="Only those of this role.")
@output_option
@click.pass_obj
def command(app: App, follow: bool, since: float | None, event: str, role: str) -> None:
    """Show what has happened: agents that came and went, failed dials, reloads, warnings.

    The daemon remembers the last 1000.
    """
    params = {"follow": follow, "since": since or 0.0, "event": event, "role": role}
    with app.connect() as client:
        for item in client.stream("events", params):
            if app.as_json:
                print_json(item)
            else:
                print_line(format_event(item), _COLOURS.get(str(item.get("level"))))


def format_event(item: Message) -> str:
    """A line for people: time, name, and what is known."""
    when, fields = item.get("time"), item.get("fields")
    stamp = "-"
    if isinstance(when, int | float):
        stamp = datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds")
    pairs = fields.items() if isinstance(fields, dict) else ()
    words = [stamp.replace("+00:00", "Z"), f"{item.get('event', ''):<20}"]
    text = " ".join([*words, *(f"{key}={value}" for key, value in pairs)])
    return text.replace("\n", " ")
