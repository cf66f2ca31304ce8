"""`tunneld certs …`, which is also `tunnelctl certs …`: the certificates from the command line."""

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from ctl.paths import state_directory
from tunneld.certificate import AUTHORITY_DAYS, LEAF_DAYS, Kind, PkiError, utc_now
from tunneld.pki import Entry, Pki, Side

LIST_VERSION = 1

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _directory_options(command: _Command) -> _Command:
    command = click.option(
        "--name", "lab", help="The lab whose certificates.  [default: demo, if there is such a lab]"
    )(command)
    return click.option(
        "--dir",
        "directory",
        type=click.Path(path_type=Path, file_okay=False),
        help="Where the certificates are.  [default: the lab's, else pki/ of the state directory]",
    )(command)


@click.group()
@click.option("--state", metavar="DIR", help="State directory (TUNNELD_STATE).")
def certs(state: str | None) -> None:
    """Make and show the certificates of server, agents and clients."""


@certs.command()
@_directory_options
@click.option(
    "--server-address",
    "server_addresses",
    multiple=True,
    metavar="HOST",
    help="Name or address by which clients and agents reach the server; repeatable."
    "  [default: as it is, else 127.0.0.1]",
)
@click.option("--agent-id", help="The agent's id.  [default: as it is, else demo]")
@click.option("--force", is_flag=True, help="Make everything anew, the CAs too.")
def init(
    directory: Path | None,
    lab: str | None,
    server_addresses: tuple[str, ...],
    agent_id: str | None,
    force: bool,
) -> None:
    """Make two CAs and a server's, a client's and an agent's certificate.

    What is there and valid stays as it is.
    """
    with _reported():
        pki = Pki(_choose(directory, lab))
        outcomes = pki.init(server_addresses, agent_id, force=force)
    for outcome in outcomes:
        click.echo(f"made {outcome.path}" if outcome.made else f"kept {outcome.path}")
        if outcome.made and outcome.reason != "missing":
            click.echo(f"  {outcome.reason}", err=True)


@certs.command()
@_directory_options
@click.argument("kind", type=click.Choice(["server", "client", "agent"]))
@click.argument("name")
@click.option(
    "--san",
    "sans",
    multiple=True,
    metavar="NAME",
    help="A further host name or address, or DNS:…, IP:…, URI:…; repeatable.",
)
@click.option(
    "--days",
    type=click.IntRange(1, AUTHORITY_DAYS),
    default=LEAF_DAYS,
    show_default=True,
    help="How long it is valid, at most as long as its CA.",
)
@click.option("--force", is_flag=True, help="Replace one of the same name.")
def issue(
    directory: Path | None,
    lab: str | None,
    kind: str,
    name: str,
    sans: tuple[str, ...],
    days: int,
    force: bool,
) -> None:
    """Make one more certificate, and its key beside it.

    NAME is the agent's id, the client's name, or the server's host name. A server gets two, one of
    each CA: for its frontend and for its tunnel listener.
    """
    with _reported():
        pki = Pki(_choose(directory, lab))
        paths = pki.issue(Kind(kind), name, sans, days, force=force)
    for path in paths:
        click.echo(f"made {path}")


@certs.command("list")
@_directory_options
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def list_certificates(directory: Path | None, lab: str | None, output: str) -> None:
    """Show what there is and when it expires."""
    with _reported():
        directory = _choose(directory, lab)
    found = list(Pki(directory).entries())
    rows = _rows([each for each in found if isinstance(each, Entry)])
    if output == "json":
        click.echo(json.dumps({"version": LIST_VERSION, "certificates": rows}))
    elif rows:
        click.echo(_table(rows))
    if not found:
        click.echo(_text(_nothing_in(directory)), err=True)
    broken = [each for each in found if isinstance(each, PkiError)]
    for error in broken:
        click.echo(_text(error), err=True)
    if broken:
        raise click.exceptions.Exit(1)


@certs.command()
@_directory_options
def env(directory: Path | None, lab: str | None) -> None:
    """Print konnectivity's flags for these files, for eval "$(tunnelctl certs env)".

    Sets PROXY_SERVER_CERTS, PROXY_AGENT_CERTS and PROXY_CLIENT_CERTS; use them unquoted.
    """
    with _reported():
        lines = [
            f"export {variable}={shlex.quote(flags)}"
            for variable, flags in _flags(Pki(_choose(directory, lab)))
        ]
    click.echo("\n".join(lines))


def _choose(directory: Path | None, lab: str | None) -> Path:
    """The directory asked for: by path, of a lab, or that of the state directory.

    Raises:
      PkiError: there is no such lab.
    """
    if directory is not None:
        return directory.absolute()
    state = _state_directory()
    labs = state / "labs"
    if lab is None:
        demo = labs / "demo" / "pki"
        return demo if demo.is_dir() else state / "pki"
    if "/" in lab or lab in ("", ".", "..") or not (labs / lab).is_dir():
        raise PkiError(
            f"there is no lab {lab!r} in {labs}", f"make it: tunnelctl ns up --name {lab}"
        )
    return labs / lab / "pki"


def _state_directory() -> Path:
    """By `--state` of this group or of the whole program, or the default."""
    context: click.Context | None = click.get_current_context()
    while context is not None:
        if context.params.get("state"):
            return state_directory(context.params["state"])
        context = context.parent
    return state_directory()


def _rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    now = utc_now()
    return [
        {
            "name": each.name,
            "kind": str(each.kind),
            "subject": each.subject,
            "sans": list(each.sans),
            "not_after": each.not_after.isoformat(),
            "days_left": each.days_left(now),
            "path": str(each.path),
        }
        for each in entries
    ]


def _table(rows: Sequence[dict[str, Any]]) -> str:
    cells = [("NAME", "KIND", "SUBJECT", "NOT AFTER", "DAYS", "SANS")]
    for row in rows:
        expiry = (row["not_after"][:10], str(row["days_left"]))
        cells.append(
            (row["name"], row["kind"], row["subject"], *expiry, ", ".join(row["sans"]) or "-")
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _flags(pki: Pki) -> Iterator[tuple[str, str]]:
    """The variables of konnectivity's demo and the flags of its three programs."""
    frontend, agent = Side.FRONTEND, Side.AGENT
    yield (
        "PROXY_SERVER_CERTS",
        _join(
            ("--server-ca-cert", pki.certificate_path(frontend, "ca")),
            ("--server-cert", pki.certificate_path(frontend, "server")),
            ("--server-key", pki.key_path(frontend, "server")),
            ("--cluster-ca-cert", pki.certificate_path(agent, "ca")),
            ("--cluster-cert", pki.certificate_path(agent, "server")),
            ("--cluster-key", pki.key_path(agent, "server")),
        ),
    )
    yield (
        "PROXY_AGENT_CERTS",
        _join(
            ("--ca-cert", pki.certificate_path(agent, "ca")),
            ("--agent-cert", pki.certificate_path(agent, "agent")),
            ("--agent-key", pki.key_path(agent, "agent")),
        ),
    )
    yield (
        "PROXY_CLIENT_CERTS",
        _join(
            ("--client-cert", pki.certificate_path(frontend, "client")),
            ("--client-key", pki.key_path(frontend, "client")),
            ("--ca-cert", pki.certificate_path(frontend, "ca")),
        ),
    )


def _join(*flags: tuple[str, Path]) -> str:
    """Flags that a shell splits at blanks, which is all it does to an unquoted variable."""
    for _, path in flags:
        if not path.is_file():
            raise (
                _nothing_in(path.parent.parent)
                if not path.parent.is_dir()
                else PkiError(f"there is no {path}", "make it: tunnelctl certs init")
            )
        if set(str(path)) & set(" \t\n*?["):
            raise PkiError(
                f"{path} has a blank or one of * ? [ in it, which a shell would take apart",
                "choose another directory with --dir, or give the flags by hand",
            )
    return " ".join(f"{flag}={path}" for flag, path in flags)


def _nothing_in(directory: Path) -> PkiError:
    return PkiError(
        f"there are no certificates in {directory}",
        "make them: tunnelctl certs init, or tunnelctl ns up for a lab and its certificates",
    )


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except PkiError as exc:
        raise click.ClickException(_text(exc)) from exc
    except OSError as exc:
        error = PkiError(f"{exc.filename}: {exc.strerror}", "choose another directory with --dir")
        raise click.ClickException(_text(error)) from exc


def _text(error: PkiError) -> str:
    return f"{error}\n  {error.hint}" if error.hint else str(error)
