"""``tunnelctl health``."""

import click

from ctl.app import App, rows_of
from ctl.messages import Message
from ctl.options import output_option
from ctl.output import print_json, print_table


@click.command("health")
@output_option
@click.pass_obj
def command(app: App) -> int:
    """Have every process, listener and tunnel answer; exit code 1 if one does not.

    It is what the admin listener's /healthz and /readyz look at.
    """
    result = app.request("health")
    alive, ready = rows_of(result, "alive"), rows_of(result, "ready")
    if app.as_json:
        print_json(result)
    else:
        rows = [("alive", *_cells(each)) for each in alive]
        print_table(
            ("CHECK", "WHAT", "STATE", "PROBLEM"), [*rows, *(("ready", *_cells(e)) for e in ready)]
        )
    return 0 if all(each.get("ok") for each in [*alive, *ready]) else 1


def _cells(check: Message) -> tuple[object, ...]:
    return check.get("name"), "ok" if check.get("ok") else "failed", check.get("problem")
