"""Options and argument types that several commands share; their values are kept in the `App`."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

from ctl import completing
from ctl.address import Address, AddressError, parse_address
from ctl.app import App

P = ParamSpec("P")
R = TypeVar("R")


def address(text: str) -> Address:
    """Argument type: ``HOST:PORT`` of an endpoint."""
    try:
        return parse_address(text)
    except AddressError as exc:
        raise click.BadParameter(str(exc)) from exc


def frontend(text: str) -> str:
    """Argument type: ``HOST:PORT`` or ``unix:/path`` of a server's frontend."""
    if not text.startswith("unix:"):
        return str(address(text))
    if not text.startswith("unix:/"):
        raise click.BadParameter(f"{text!r} has no absolute path, expected unix:/path")
    return text


def output_option(command: Callable[P, R]) -> Callable[P, R]:
    """``-o table|json``."""

    def keep(ctx: click.Context, _param: click.Parameter, value: str) -> None:
        ctx.ensure_object(App).as_json = value == "json"

    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        expose_value=False,
        callback=keep,
        help="Print text, or JSON with one object a line.",
    )(command)


_FILE = click.Path(exists=True, dir_okay=False)
_DIAL_OPTIONS = (
    ("--server", "ROLE", str, "Server role of the daemon to dial through, if it has several."),
    (
        "--proxy",
        "HOST:PORT",
        frontend,
        "Dial through this remote server (or unix:/path), without a daemon.",
    ),
    ("--cert", "FILE", _FILE, "Client certificate for the remote server."),
    ("--key", "FILE", _FILE, "Key of the client certificate."),
    ("--ca", "FILE", _FILE, "CA certificate of the remote server."),
    ("--server-name", "NAME", str, "Name or address that the server's certificate must show."),
    ("--secret-file", "FILE", _FILE, "A token or NAME:PASSWORD for the remote server, in a file."),
)


def dial_options(command: Callable[P, R]) -> Callable[P, R]:
    """``--server`` and the options about ``--proxy``."""

    def keep(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
        app = ctx.ensure_object(App)
        setattr(app if param.name == "server" else app.proxy, str(param.name), value)

    for flag, metavar, kind, text in reversed(_DIAL_OPTIONS):
        command = click.option(
            flag,
            metavar=metavar,
            type=kind,
            expose_value=False,
            callback=keep,
            shell_complete=completing.servers if flag == "--server" else None,
            help=text,
        )(command)
    return command
