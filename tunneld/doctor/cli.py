"""`tunneld doctor`, which is also `tunnelctl doctor`."""

import sys
from pathlib import Path

import click

from ctl.address import AddressError, parse_address
from ctl.paths import CONTROL_VARIABLE, STATE_VARIABLE, PathError, control_path, state_directory
from tunneld.doctor.examination import Request, examine
from tunneld.doctor.report import as_json, exit_code, table


def _address(text: str) -> str:
    try:
        return text if text.startswith("unix:") else str(parse_address(text))
    except AddressError as exc:
        raise click.BadParameter(str(exc)) from exc


@click.command("doctor")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Look at the roles of this file.  [default: those of the running daemon]",
)
@click.option(
    "--health",
    multiple=True,
    type=_address,
    metavar="HOST:PORT",
    help="Look at this health port too, as of proxy-server or proxy-agent; repeatable.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 on warnings too.")
@click.option(
    "--control", metavar="PATH", help=f"Control socket  [{CONTROL_VARIABLE}, or by user]."
)
@click.option("--state", metavar="DIR", help=f"State directory  [{STATE_VARIABLE}, or by user].")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="Output format."
)
def doctor(
    config: Path | None,
    health: tuple[str, ...],
    strict: bool,
    control: str | None,
    state: str | None,
    output: str,
) -> int:
    """Check everything that a tunnel needs, at either end, and say what to do.

    Looks at the configuration, the daemon and its roles, certificates, the way to the server (DNS,
    TCP, TLS, ALPN), clocks, listeners, limits and permissions. Exits with 1 if something fails.
    """
    try:
        request = Request(control_path(control), state_directory(state), config, health)
    except PathError as exc:
        raise click.UsageError(str(exc)) from exc
    findings = []
    for finding in examine(request):
        findings.append(finding)
        if output == "json":
            click.echo(as_json(finding))
    if output == "table":
        click.echo(table(findings, sys.stdout.isatty()))
    return exit_code(findings, strict=strict)
