"""``tunnelctl trace``: how a dial goes, step by step."""

import click

from ctl import completing
from ctl.address import Address
from ctl.app import App, rows_of
from ctl.messages import EXIT_CODES, ControlError, Message
from ctl.options import address, output_option
from ctl.output import format_age, print_json, print_line, print_note, print_table

_DEFAULT_LIMIT = 20
_LAST_TITLES = ("DIAL", "AGO", "ROLE", "IDENTITY", "DESTINATION", "AGENT", "CODE")
_STEP_TITLES = ("AFTER", "WHERE", "STEP", "")


@click.command("trace")
@click.argument("destination", metavar="[HOST:PORT | DIAL]", required=False)
@click.option("--last", is_flag=True, help="Show dials that failed, or the one of this id.")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 256), default=_DEFAULT_LIMIT, help="So many of them."
)
@click.option("--as", "client", metavar="CLIENT", default="control", help="Who asks: cert:NAME, …")
@click.option("--agent", metavar="ID", help="Through this agent only.")
@click.option(
    "--role", metavar="ROLE", shell_complete=completing.roles, help="The server or agent to ask."
)
@output_option
@click.pass_obj
def command(
    app: App,
    destination: str | None,
    last: bool,
    limit: int,
    client: str,
    agent: str | None,
    role: str | None,
) -> None:
    """Dial an endpoint, hang up at once, and show each step with its time: the policy's rule, what
    became of each agent, and at the agent its rule, the addresses found, each attempt to connect.

    With --last: the same of dials that failed; error replies and log lines have their ids.
    """
    if last:
        _show_last(app, role, destination, limit)
        return
    if destination is None:
        raise click.UsageError("which destination? give HOST:PORT, or --last")
    params = {**_split(address(destination)), "client": client, "agent": agent, "role": role}
    result = app.request("trace", params)
    _show(app, result)
    code = str(result.get("code") or "")
    if code:
        raise click.exceptions.Exit(EXIT_CODES.get(code, 1))


def _split(destination: Address) -> Message:
    return {"host": destination.host, "port": destination.port}


def _show_last(app: App, role: str | None, dial: str | None, limit: int) -> None:
    result = app.request("trace.last", {"role": role, "dial": dial or "", "limit": limit})
    dials = rows_of(result, "dials")
    if app.as_json:
        for each in dials:
            print_json(each)
    elif dial:
        for each in dials:
            _show(app, each)
    elif not dials:
        print_note("no dial has failed since the roles were started")
    else:
        print_table(_LAST_TITLES, map(_row, dials))
        print_note("\nsteps of one: tunnelctl trace --last DIAL")


def _row(dial: Message) -> tuple[object, ...]:
    keys = ("role", "identity", "destination", "agent", "code")
    return (dial.get("dial"), format_age(dial.get("since")), *(dial.get(key) for key in keys))


def _show(app: App, dial: Message) -> None:
    if app.as_json:
        print_json(dial)
        return
    print_line(
        f"dial {dial.get('dial')} of {dial.get('identity')} to {dial.get('destination')},"
        f" by {dial.get('role')}"
    )
    print_table(_STEP_TITLES, map(_step, _in_order(dial)))
    code = dial.get("code")
    if code:
        print_line(f"failed: {dial.get('error')}", "red")
        print_note(f"hint: tunnelctl explain {code}")
    else:
        print_line(f"ok: connected to {dial.get('address') or 'the endpoint'}", "green")


def _in_order(dial: Message) -> list[Message]:
    """The agent's steps stand where the server waited for them: ahead of what came of the dial."""
    steps, of_agent = rows_of(dial, "steps"), rows_of(dial, "agent_steps")
    if not steps:
        raise ControlError("internal", "the daemon sent a record without steps")
    end = next((i for i, step in enumerate(steps) if step.get("step") == "connected"), len(steps))
    if end == len(steps) and of_agent:
        end -= 1
    return [*steps[:end], *of_agent, *steps[end:]]


def _step(step: Message) -> tuple[object, ...]:
    ms = step.get("ms")
    shown = f"{ms:.2f}ms" if isinstance(ms, (int, float)) else "-"
    return shown, step.get("where"), step.get("step"), step.get("text")
