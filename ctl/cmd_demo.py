"""``tunnelctl demo``."""

import click

from ctl.app import App
from ctl.options import output_option


@click.command("demo")
@output_option
@click.pass_obj
def command(app: App) -> None:
    """Tell the whole story on this machine and prove each step; leaves nothing behind.

    Uses a daemon and a lab of its own, beside any that run. Where the kernel forbids namespaces,
    the same roles run on loopback, and what that cannot show is skipped.
    """
    from ctl.demo import run_demo

    run_demo(as_json=app.as_json)
