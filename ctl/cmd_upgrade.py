"""``tunnelctl upgrade``: exchange the running daemon for a new process."""

import click

from ctl.app import App
from ctl.messages import Message
from ctl.options import output_option
from ctl.output import print_json, print_line, print_note

_STEPS = {
    "started": "the new process has started: pid {pid}",
    "listening": "its roles are ready",
    "agents": "agents on their way to it: {agents}",
    "serving": "it serves clients",
}


@click.command("upgrade")
@click.option(
    "--deadline",
    type=click.FloatRange(0),
    default=3600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long connections of the old process may last.",
)
@click.option(
    "--program",
    type=click.Path(exists=True, dir_okay=False, resolve_path=True),
    metavar="PATH",
    help="Another tunneld, as of another virtual environment  [the one that runs].",
)
@output_option
@click.pass_obj
def command(app: App, deadline: float, program: str | None) -> None:
    """Exchange the daemon for a new process, which runs the code and configuration that are
    installed now, without refusing or breaking a connection.

    The new process takes over the listening sockets; agents connect to it first, then it serves
    clients. The old one finishes what it carries. If the new one is not well, the old one goes on.
    """
    with app.connect() as client:
        stream = client.stream("upgrade", {"deadline": deadline, "program": program})
        for item in stream:
            if app.as_json:
                print_json(item)
            else:
                print_note(_STEPS.get(str(item.get("step")), "{step}").format(**item))
        end: Message = stream.end
    if app.as_json:
        print_json(end)
        return
    print_line(f"tunneld runs on as pid {end.get('pid')}")
    if end.get("conns"):
        print_note(
            f"pid {end.get('old_pid')} finishes {end.get('conns')} connections,"
            f" {end.get('deadline'):g} s at most"
        )
