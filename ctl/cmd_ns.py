"""``tunnelctl ns``: labs, networks of namespaces on this machine."""

import os
from pathlib import Path

import click

from ctl import completing
from ctl.app import App, rows_of
from ctl.client import ItemStream
from ctl.messages import ControlError, Message
from ctl.options import output_option
from ctl.output import format_age, print_json, print_line, print_note, print_table
from ctl.programs import TUNNELD, become, run
from ctl.progress import format_step, open_progress

DEFAULT_LAB = "demo"
"""The lab that commands without ``--name`` mean."""

_LIST_TITLES = ("LAB", "NAMESPACE", "ADDRESSES", "MODE", "STATE", "AGE")
_name_option = click.option(
    "--name", metavar="LAB", shell_complete=completing.labs, help="The lab's name  [demo]."
)


@click.group("ns")
def command() -> None:
    """Build, enter, check and remove labs."""


@command.command("up")
@_name_option
@click.option(
    "--topology",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="TOML file of another topology than the built-in demo.",
)
@click.option("--bare", is_flag=True, help="Network and certificates alone, no roles.")
@output_option
@click.pass_obj
def up(app: App, name: str | None, topology: Path | None, bare: bool) -> None:
    """Build a lab and start its roles: all of it or nothing."""
    params = {"name": name, "topology": _read_toml(topology), "bare": bare}
    with app.connect() as client:
        end = _follow(app, client.stream("ns.up", params))
    if app.as_json:
        print_json(end)
        return
    print_line(f"lab {end.get('name')} is up: {_words(end.get('namespaces'))}")
    if end.get("roles"):
        print_line(f"roles: {_words(end.get('roles'))}")
    if end.get("next"):
        print_line("\ntry next:")
        for hint in end["next"]:
            print_line(f"  {hint}")


@command.command("down")
@_name_option
@output_option
@click.pass_context
def down(ctx: click.Context, name: str | None) -> None:
    """Stop a lab's roles and remove all of it; works without a daemon too."""
    app = ctx.ensure_object(App)
    try:
        client = app.connect()
    except ControlError as exc:
        if exc.code != "no_daemon":
            raise
        print_note(f"{exc.message}: cleaning up without it")
        arguments = ["cleanup", "--name", name or DEFAULT_LAB]
        ctx.exit(run([*TUNNELD, *arguments], app.environment()))
    with client:
        end = _follow(app, client.stream("ns.down", {"name": name}))
    if app.as_json:
        print_json(end)
    else:
        print_line(f"lab {end.get('name') or name or DEFAULT_LAB} is gone")


@command.command("list")
@output_option
@click.pass_obj
def list_(app: App) -> None:
    """Show the labs and their namespaces."""
    result = app.request("ns.list")
    if app.as_json:
        print_json(result)
        return
    print_table(
        _LIST_TITLES,
        [
            (
                lab.get("name"),
                namespace.get("name"),
                namespace.get("addresses"),
                lab.get("mode"),
                lab.get("state"),
                format_age(lab.get("since")),
            )
            for lab in rows_of(result, "labs")
            for namespace in rows_of(lab, "namespaces")
        ],
    )


@command.command(
    "exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("namespace", shell_complete=completing.namespaces)
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND...]")
@click.pass_obj
def exec_(app: App, namespace: str, argv: tuple[str, ...]) -> None:
    """Run a command, or a shell, inside a namespace."""
    entry = app.request("ns.enter", {"namespace": namespace}).get("argv")
    if not isinstance(entry, list) or not entry:
        raise ControlError("internal", "the daemon sent no way into the namespace")
    if argv[:1] == ("--",):
        argv = argv[1:]
    become([*map(str, entry), *(argv or (os.environ.get("SHELL") or "/bin/sh",))], {})


@command.command("check")
@_name_option
@output_option
@click.pass_context
def check(ctx: click.Context, name: str | None) -> None:
    """Prove a lab's shape: who reaches whom, and which names resolve where."""
    app = ctx.ensure_object(App)
    failed = 0
    with app.connect() as client:
        for item in client.stream("ns.check", {"name": name}):
            failed += item.get("ok") is False
            _print_check(app, item)
    if failed:
        raise ControlError("failed", f"{failed} checks failed", "build it anew: ns down, ns up")


@command.command("graph")
@_name_option
@click.option("--dot", is_flag=True, help="In Graphviz's language: … | dot -Tsvg")
@output_option
@click.pass_obj
def graph(app: App, name: str | None, dot: bool) -> None:
    """Draw a lab: its namespaces, links, routes and firewalls."""
    result = app.request("ns.graph", {"name": name})
    if app.as_json:
        print_json(result)
    else:
        print_line(str(result.get("dot" if dot else "drawing")).rstrip("\n"))


def _follow(app: App, stream: ItemStream) -> Message:
    """Show the steps of a stream; what came at its end."""
    with open_progress() as progress:
        for item in stream:
            step, state = str(item.get("step")), str(item.get("state"))
            if app.as_json:
                print_json(item)
            elif state == "start":
                progress.begin(step)
            else:
                progress.finish(step, state, str(item.get("detail") or ""))
    return stream.end


def _print_check(app: App, item: Message) -> None:
    if app.as_json:
        print_json(item)
        return
    outcome = item.get("ok")
    how = "skip" if outcome is None else "done" if outcome else "failed"
    print_line(format_step(str(item.get("check")), how, str(item.get("detail") or "")))


def _read_toml(path: Path | None) -> Message | None:
    import tomllib

    if path is None:
        return None
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise click.BadParameter(f"{path} is not TOML: {exc}", param_hint="'--topology'") from exc


def _words(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
